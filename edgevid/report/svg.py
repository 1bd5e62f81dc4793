"""Drawings for pages: SVG that stands in the HTML itself and takes the page's colours.

All but graphs are `WIDTH` units wide, so that their letters can be read on a telephone; a page sets
them side by side where it is wide. Every text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

WIDTH = 380
LINE = 17
"""Units from one line of text to the next."""
LETTER = 5.6
"""About how wide a small one is."""


class Drawing:
    """Add shapes, then take `svg`; ``title`` is what is read out.

    One that is not `WIDTH` units wide keeps its size on a page, which is moved below it.
    """

    def __init__(self, height: float, title: str, width: float = WIDTH) -> None:
        self.height, self.width = height, width
        self._title = title
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """Draw a line; ``kind`` is a class of the page's style."""
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self._parts.append(f'<line class="{kind}" {ends}/>')

    def box(
        self, x: float, y: float, width: float, height: float, kind: str, tip: str = ""
    ) -> None:
        """Fill a rectangle; ``tip`` is shown where a mouse rests on it."""
        size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self._parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}>{inside}</rect>')

    def dot(self, x: float, y: float, kind: str, radius: float = 3.5) -> None:
        """Fill a circle."""
        self._parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>')

    def path(self, points: Iterable[tuple[float, float]], kind: str, *, closed: bool) -> None:
        """Draw a line through points, or fill what it encloses."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        name = "polygon" if closed else "polyline"
        self._parts.append(f'<{name} class="{kind}" points="{joined}"/>')

    def curve(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Draw a line that leaves and reaches each of the points downwards, or upwards."""
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
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        self._parts.append(f'<text class="{kind}" {place}>{escape(text)}</text>')

    def svg(self) -> str:
        """The element."""
        title = escape(self._title)
        size = "" if self.width == WIDTH else f' style="width:{self.width:.0f}px;max-width:none"'
        return (
            f'<svg class="drawing"{size} viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
            f'role="img" aria-label="{title}">{"".join(self._parts)}</svg>'
        )


class Scale:
    """From values to places between ``start`` and ``end``; values beyond are set on the edge."""

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool) -> None:
        self._bend: Callable[[float], float] = math.log if log else float
        self.low, self.high, self.log = low, high, log
        if not low < high:
            self.low, self.high = (low / 2, low * 2 or 1.0) if log else (low - 1, low + 1)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        """Where a value stands."""
        low, high = self._bend(self.low), self._bend(self.high)
        share = (self._bend(min(max(value, self.low), self.high)) - low) / (high - low)
        return self._start + share * (self._end - self._start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within, at most so many."""
        return _log_ticks(self.low, self.high, most) if self.log else self._even(most)

    def _even(self, most: int) -> list[float]:
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for each in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [n * 10.0**power for power in powers for n in each]
        found = [one for one in found if low <= one <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]


def axis(drawing: Drawing, scale: Scale, y: float, top: float, unit: str) -> None:
    """Draw an axis at ``y`` under a plot that begins at ``top``, with its ticks."""
    for tick in scale.ticks():
        x = scale(tick)
        drawing.line(x, top, x, y, "grid")
        drawing.text(x, y + 13, f"{tick:g}", "axis", "middle")
    drawing.text(WIDTH - 2, y + 13, unit, "axis", "end")


def stacked(
    rows: Sequence[tuple[str, Sequence[tuple[str, float]], str]], legend: Sequence[str], title: str
) -> str:
    """Bars of parts, one row each: its name, (part, value) from left to right, and its sum's words.

    A part has the colour of its place in ``legend``.
    """
    most = max((sum(value for _, value in parts) for _, parts, _ in rows), default=0.0) or 1.0
    drawing = Drawing(2 * LINE * len(rows) + 10 + LINE * math.ceil(len(legend) / 4) + 4, title)
    y = 0.0
    for name, parts, total in rows:
        drawing.text(0, y + 12, name)
        drawing.text(WIDTH, y + 12, total, anchor="end")
        x = 0.0
        for part, value in parts:
            width = WIDTH * value / most
            drawing.box(x, y + LINE, width, 11, f"c{legend.index(part)}")
            x += width
        y += 2 * LINE
    for place, part in enumerate(legend):
        x, below = place % 4 * WIDTH / 4, y + 10 + place // 4 * LINE
        drawing.box(x, below, 10, 10, f"c{place}")
        drawing.text(x + 15, below + 9, part)
    return drawing.svg()


def bars(rows: Sequence[tuple[str, float, str, str]], title: str) -> str:
    """One bar a row: its name, its length, what is written at its end, and its class."""
    most = max((value for _, value, _, _ in rows), default=0.0) or 1.0
    drawing = Drawing(LINE * len(rows) + 4, title)
    for place, (name, value, words, kind) in enumerate(rows):
        y = LINE * place
        drawing.text(148, y + 12, name if len(name) <= 23 else f"{name[:22]}…", anchor="end")
        drawing.box(154, y + 3, max(1.0, 108 * value / most), 11, kind)
        drawing.text(160 + 108 * value / most, y + 12, words, "small")
    return drawing.svg()


def scatter(
    points: Sequence[tuple[float, float, str, int]],
    legend: Sequence[str],
    units: tuple[str, str],
    title: str,
) -> str:
    """Named points: x, y, name, and whose of ``legend`` it is; ``units`` are those of x and y.

    x is logarithmic where it spans much.
    """
    left, bottom = 38.0, 200.0
    height = 236.0 + LINE * len(legend)
    drawing = Drawing(height, title)
    xs, ys = [one[0] for one in points], [one[1] for one in points]
    wide = max(xs) > 8 * min(xs)
    margin = 1.25 if wide else 1.0
    span = (max(xs) - min(xs)) or max(xs)
    low, high = (
        (min(xs) / margin, max(xs) * margin)
        if wide
        else (max(0.0, min(xs) - span * 0.3), max(xs) + span * 0.3)
    )
    across = Scale(low, high, left, WIDTH - 8, log=wide)
    room = (max(ys) - min(ys)) * 0.25 or 0.02
    up = Scale(min(ys) - room, max(ys) + room, bottom, 14, log=False)
    for tick in up.ticks():
        drawing.line(left, up(tick), WIDTH - 8, up(tick), "grid")
        drawing.text(left - 4, up(tick) + 4, f"{tick:g}", "axis", "end")
    axis(drawing, across, bottom, 14, "")
    drawing.text(0, 9, units[1], "axis")
    drawing.text(WIDTH - 2, bottom + 26, units[0], "axis", "end")
    taken: list[tuple[float, float, float]] = []
    for x, y, name, colour in sorted(points):
        at, below = across(x), up(y) + 4
        drawing.dot(at, below - 4, f"c{colour % 6}", 4.5)
        wide_text = LETTER * len(name)
        right = at + 8 + wide_text < WIDTH
        begin = at + 8 if right else at - 8 - wide_text
        while any(
            abs(below - other) < 12 and begin < end and start < begin + wide_text
            for start, end, other in taken
        ):
            below += 12
        taken.append((begin, begin + wide_text, below))
        drawing.text(at + (8 if right else -8), below, name, "small", "start" if right else "end")
    for place, name in enumerate(legend):
        below = bottom + 34 + LINE * place
        drawing.dot(left, below, f"c{place % 6}", 4.5)
        drawing.text(left + 9, below + 4, name)
    return drawing.svg()


def distribution(
    samples: Sequence[float], marks: Sequence[tuple[str, Sequence[float], str]], title: str
) -> str:
    """A histogram in milliseconds on a logarithmic axis, with a row for each percentile above it.

    A mark is its name, its value and the ends of its interval (or nothing, where it is not known),
    and what is written beside it.
    """
    left, right = 40.0, 230.0
    top = LINE * len(marks) + 6.0
    bottom = top + 64
    drawing = Drawing(bottom + 18, title)
    above = [one for one in samples if one > 0]
    ends = [end for _, values, _ in marks for end in values] + above
    scale = Scale(min(ends) / 1.05, max(ends) * 1.05, left, right, log=True)
    axis(drawing, scale, bottom, 0, "ms")
    _histogram(drawing, above, scale, bottom, 60)
    for place, (name, values, words) in enumerate(marks):
        y = LINE * place + 8.0
        drawing.text(left - 6, y + 4, name, anchor="end")
        drawing.text(right + 6, y + 4, words, "small" if values else "small dim")
        if values:
            value, low, high = (scale(one) for one in values)
            drawing.line(value, y, value, bottom, "mark")
            drawing.line(low, y, high, y, "whisker")
            drawing.dot(value, y, "point")
    return drawing.svg()


def _histogram(
    drawing: Drawing, samples: Sequence[float], scale: Scale, bottom: float, height: float
) -> None:
    bins = 64
    first, last = scale(scale.low), scale(scale.high)
    counts = [0] * bins
    for one in samples:
        counts[min(bins - 1, int((scale(one) - first) / (last - first) * bins))] += 1
    most, width = max(counts, default=0) or 1, (last - first) / bins
    for place, count in enumerate(counts):
        if count:  # one sample can be seen, too
            tall = max(1.0, height * count / most)
            drawing.box(first + place * width, bottom - tall, width, tall, "fill")


Track = tuple[str, Sequence[Sequence[tuple[float, float]]], str]


def timeline(
    tracks: Sequence[Track],
    shades: Sequence[tuple[float, float, str]],
    borders: Sequence[float],
    end: float,
    title: str,
) -> str:
    """Tracks over the same seconds, one below the other.

    A track is its name with its unit, lines of (second, value), the first one strong and the others
    thin, and a class. ``shades`` are (from, to, class), ``borders`` thin lines between rounds.
    """
    tall, left, right = 62.0, 40.0, WIDTH - 6.0
    drawing = Drawing((tall + LINE) * len(tracks) + LINE, title)
    across = Scale(0.0, end, left, right, log=False)
    y = 0.0
    for name, lines, kind in tracks:
        top, bottom = y + LINE + 2, y + LINE + tall - 6
        drawing.text(0, y + 12, name, "small")
        for begin, until, shade in shades:
            drawing.box(across(begin), top, across(until) - across(begin), bottom - top, shade)
        for border in borders:
            drawing.line(across(border), top, across(border), bottom, "grid")
        _track(drawing, lines, across, top, bottom, kind)
        y += tall + LINE
    for tick in across.ticks(6):
        drawing.text(across(tick), y + 8, f"{tick:g}", "axis", "middle")
    drawing.text(0, y + 8, "s", "axis")
    return drawing.svg()


def _track(
    drawing: Drawing,
    lines: Sequence[Sequence[tuple[float, float]]],
    across: Scale,
    top: float,
    bottom: float,
    kind: str,
) -> None:
    values = [value for line in lines for _, value in line]
    low, high = min(values), max(values)
    log = low > 0 and high > 8 * low
    room = 0.0 if log else (high - low) * 0.08 or abs(high) * 0.05
    scale = Scale(low - room, high + room, bottom, top, log=log)
    for tick in scale.ticks(3):
        drawing.line(across(across.low), scale(tick), across(across.high), scale(tick), "grid")
        drawing.text(across(across.low) - 4, scale(tick) + 4, f"{tick:g}", "axis", "end")
    for place, line in reversed(list(enumerate(lines))):
        points = [(across(at), scale(value)) for at, value in line]
        drawing.path(points, f"thin {kind}" if place else f"strong {kind}", closed=False)
