"""Matplotlib figures as SVG: inline in the colours of a page, light and dark, or as a file.

The same figure gives the same bytes: the hash salt is fixed and there is no date. Colours are those
of ``style.css``; in an inline SVG each becomes a CSS variable with the colour as its fallback. Text
stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, wraps
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from edgevid.registry import need
from edgevid.report.pages import markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, DIM, LINE, PAPER = "#1c2330", "#667085", "#e4e7ec", "#ffffff"
MARK, GOOD, BAD = "#1769e0", "#12825c", "#c4320a"
SERIES = ("#4c78a8", "#f0a04b", "#1769e1", "#54a24b", "#b279a2", "#98a2b3")
"""The colours of parts and groups, in their order."""

VARIABLES = {
    INK: "ink",
    DIM: "dim",
    LINE: "line",
    PAPER: "paper",
    MARK: "mark",
    GOOD: "good",
    BAD: "bad",
    **{colour: f"c{number}" for number, colour in enumerate(SERIES)},
}
"""Colours and their CSS variables in ``style.css``."""

WIDTH = 380.0
"""The width of most charts in points; text is legible on a phone."""
ROW = 17.0
"""The height of a row of text."""
FONT = 8.5

STYLE = {
    "svg.hashsalt": "edgevid",
    "svg.fonttype": "none",
    "font.size": FONT,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": DIM,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": DIM,
    "ytick.labelcolor": DIM,
    "xtick.labelsize": FONT - 1.5,
    "ytick.labelsize": FONT - 1.5,
    "legend.frameon": False,
}

Make = TypeVar("Make", bound=Callable[..., Any])


@contextmanager
def _style() -> Iterator[None]:
    matplotlib = need("matplotlib", "report")
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        yield


def styled(make: Make) -> Make:
    """Make a function that draws a figure use the style of pages."""

    @wraps(make)
    def wrapped(*args: Any, **options: Any) -> Any:
        with _style():
            return make(*args, **options)

    return wrapped  # type: ignore[return-value]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in points."""
    figure = need("matplotlib.figure", "report").Figure
    found: Figure = figure(figsize=(width / 72, height / 72), layout="constrained")
    return found


@dataclass(frozen=True)
class Chart:
    """A figure on a page.

    Attributes:
        figure: The figure.
        title: What it is called by screen readers.
        caption: The text below it.
        alarms: Warnings below the caption.
        wide: Whether it fills the page's width.
    """

    figure: Figure
    title: str
    caption: str = ""
    alarms: tuple[str, ...] = ()
    wide: bool = False

    @cached_property
    def svg(self) -> Any:
        """The figure as inline SVG (`markupsafe.Markup`)."""
        return markup(inline_svg(self.figure, self.title, wide=self.wide))


def standalone_svg(figure: Figure) -> bytes:
    """Return a figure as an SVG file on a white background."""
    buffer = io.BytesIO()
    with _style():
        metadata = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", metadata=metadata, facecolor=PAPER)
    return buffer.getvalue()


def inline_svg(figure: Figure, title: str, *, wide: bool = False) -> str:
    """Return a figure as an SVG element for HTML.

    Args:
        figure: The figure.
        title: The accessible name.
        wide: Whether it fills the page's width.
    """
    buffer = io.StringIO()
    with _style():
        _mark_ticks(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return adopt_svg(buffer.getvalue(), title, wide=wide)


def adopt_svg(text: str, title: str, *, wide: bool = False) -> str:
    """Turn an SVG file that matplotlib wrote into an SVG element for HTML."""
    found = re.search(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>(.*)</svg>', text, re.DOTALL)
    assert found is not None, "this is not an SVG file of matplotlib"
    size, body = found.groups()
    for pattern, new in _CLEANING:
        body = re.sub(pattern, new, body, flags=re.DOTALL)
    body = re.sub(r"#[0-9a-f]{6}", _variable, body)
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda one: one[0] if one[1] in used else "", body)
    kind = "chart wide" if wide else "chart"
    label = escape(title)
    return f'<svg class="{kind}" viewBox="{size}" role="img" aria-label="{label}">{body}</svg>'


_CLEANING = (
    (r"<metadata>.*?</metadata>", ""),
    (r"<!--.*?-->", ""),
    (r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", ""),
    (r"xlink:href", "href"),
    (r"font-family: [^;\"]*;?", ""),
    (r"font: ([\d.]+px)[^;\"]*", r"font-size: \1"),
    (r' transform="rotate\(-0 [^"]*"', ""),
    (r'<g id="class-(\w+)">\s*<text ', r'<g><text class="\1" '),
    (r"\s*\n\s*", "\n"),
)
"""What an SVG file has and an element in HTML must not have."""


def _variable(found: re.Match[str]) -> str:
    name = VARIABLES.get(found[0])
    return found[0] if name is None else f"var(--{name}, {found[0]})"


def _mark_ticks(figure: Figure) -> None:
    """Give the labels of ticks a class of their own."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis not in NAMED:
                for label in axis.get_ticklabels(which="both"):
                    label.set_gid("class-axis")


NAMED: WeakSet[Any] = WeakSet()
"""Axes whose tick labels are names, not values of a scale."""
