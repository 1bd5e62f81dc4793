"""An SVG drawing of a graph, for a page that has the classes of ``graph.css``; text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Drawing:
    """Add shapes, then take `svg`.

    Args:
        width: In CSS pixels; the drawing keeps its size, and the page scrolls below it.
        height: In CSS pixels.
        title: The accessible name.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.height, self.width = height, width
        self._title = title
        self._parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, kind: str, tip: str = ""
    ) -> None:
        """Fill a rectangle; ``tip`` is its tooltip, ``kind`` a class of ``graph.css``."""
        size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self._parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}>{inside}</rect>')

    def path(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """Draw a line through points."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline class="{kind}" points="{joined}"/>')

    def curve(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Draw a line that leaves and reaches each point vertically."""
        (x, y), *rest = points
        parts = [f"M{x:.1f} {y:.1f}"]
        for to_x, to_y in rest:
            bend = (to_y - y) / 2
            parts.append(
                f"C{x:.1f} {y + bend:.1f} {to_x:.1f} {to_y - bend:.1f} {to_x:.1f} {to_y:.1f}"
            )
            x, y = to_x, to_y
        self._parts.append(f'<path class="{kind}" d="{" ".join(parts)}"/>')

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Write a line of text."""
        position = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        self._parts.append(f'<text class="{kind}" {position}>{escape(text)}</text>')

    def svg(self) -> str:
        """Return the SVG element."""
        title = escape(self._title)
        size = f' style="width:{self.width:.0f}px;max-width:none"'
        return (
            f'<svg class="drawing"{size} viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
            f'role="img" aria-label="{title}">{"".join(self._parts)}</svg>'
        )
