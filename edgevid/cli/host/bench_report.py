"""``edgevid bench report``, and the files of ``--page`` and ``--markdown``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevid.cli.bench_options import reporting
from edgevid.cli.console import PATH, common, emit, outputs, save, table
from edgevid.text import printable

if TYPE_CHECKING:
    from edgevid.bench.result import BenchResult
    from edgevid.output import Destination


@dataclass(frozen=True)
class Reports:
    """The files to write, opened before anything is measured."""

    page: Destination | None
    markdown: Destination | None

    @classmethod
    def checked(cls, page: Destination | None, markdown: Destination | None) -> Reports:
        """Check that a page can be made.

        Raises:
            MissingExtra: If it needs a library that is not installed.
        """
        from edgevid.registry import need

        if page is not None:
            need("jinja2", "report")
            need("matplotlib", "report")
        return cls(page, markdown)

    def write(self, results: Sequence[BenchResult]) -> None:
        """Write the files."""
        from edgevid.bench.host.html import page
        from edgevid.bench.host.markdown import markdown
        from edgevid.files import text_bytes

        if self.page is not None:
            save(self.page, text_bytes(page(results)))
        if self.markdown is not None:
            save(self.markdown, text_bytes(printable(markdown(results), lines=True)))


@click.command(name="report")
@click.argument("results", nargs=-1, required=True, type=PATH)
@reporting
@common
def command(
    results: tuple[Path, ...], page: Path | None, markdown: Path | None, as_json: bool
) -> int:
    """Show RESULTS that --out wrote, of one or several devices, as a table, page or Markdown.

    Example:  edgevid bench report pi-4.json pi-5.json --page bench.html
    """
    from edgevid.bench.summary_table import HEAD, KEYS, rows
    from edgevid.cli.host.bench_compare import read

    opened = outputs(as_json, page=page, markdown=markdown)
    reports = Reports.checked(opened.get("page"), opened.get("markdown"))
    documents = [read(path) for path in results]
    found = rows(documents)
    reports.write(documents)
    rows_of = [dict(zip(KEYS, row, strict=True)) for row in found]
    emit({"rows": rows_of}, as_json, table(found, HEAD))
    return 0
