"""Pages from jinja2 templates: one self-contained HTML file, every text escaped.

Unprintable characters, such as bidirectional marks, are shown as escapes.

A page is a template that extends ``base.html`` and sits in the folder ``templates`` of its own
package. ``macros.html`` has the parts (`verdict`, `table`, `facts`, `tiles`, `charts`, `strip`,
`folded`)::

    {% extends "base.html" %}{% import "macros.html" as part %}
    {% block content %}
    <h2>Artifacts</h2>
    {{ part.table(head, rows, tight=true) }}
    {{ part.charts(charts) }}
    {% endblock %}

    folder = Path(__file__).parent / "templates"
    render(folder, "evidence.html", title=..., lead=..., footer=..., charts=..., ...)

The same context gives the same bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevid.progress import in_digits
from edgevid.registry import need
from edgevid.text import printable

TEMPLATES = Path(__file__).parent / "templates"


def render(folder: Path, template: str, *, title: str, lead: str, footer: str, **parts: Any) -> str:
    """Render a page.

    Args:
        folder: Where the template is; it may use those of this package.
        template: Its file name.
        title: The page's heading.
        lead: One sentence below the heading.
        footer: The last line.
        parts: What else the template uses.

    Raises:
        MissingExtra: If jinja2 is not installed.
    """
    jinja2 = need("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cell=cell, inline=inline, numeric=numeric)
    page = environment.get_template(template)
    text = str(page.render(title=title, lead=lead, footer=footer, **parts))
    return printable(text, lines=True) + "\n"


def cell(value: object) -> str:
    """Format a cell: a dash for None, numbers with four digits."""
    return "–" if value is None else in_digits(value)


def numeric(rows: Sequence[Sequence[object]], columns: int) -> list[bool]:
    """Return for each column whether it holds numbers only, some of which may be missing."""
    return [_all_numbers([row[column] for row in rows]) for column in range(columns)]


def _all_numbers(cells: Sequence[object]) -> bool:
    known = [value for value in cells if value is not None]
    return bool(known) and all(isinstance(value, int | float) for value in known)


def inline(image: bytes) -> str:
    """Return the data URL of a PNG or JPEG image."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def markup(text: str) -> Any:
    """Mark text as HTML that needs no escaping, such as a drawing's SVG."""
    return need("markupsafe", "report").Markup(text)
