"""Drawing of a graph from the top down: each box is one row below the lowest box that feeds it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from statistics import fmean

from edgevid_converters.graphs.drawing import Drawing
from edgevid_converters.graphs.graph import HALF, INTEGERS, MOVES, PORT, Graph
from edgevid_converters.graphs.layout import Box, Boxes, condense_graph, ranks

LETTER, CAPITAL, SMALL = 6.4, 7.9, 5.3
"""Approximate width of a letter; many names are in capitals."""
LINE = 14.0
GAP, ROW_GAP, EDGE_ROOM = 16.0, 26.0, 10.0
LONGEST, LONGEST_NAME, MOST_LINES = 30, 40, 5
SWEEPS = 12

LEGEND = {
    "integers": "computes in integers",
    "floats": "computes in float",
    "halves": "computes in float, weights stored in int8",
    "moves": "moves or rounds values only",
    "floats kept": "kept in float32 by the repair",
    "port": "input or output",
}
"""Style class of a box -> its meaning."""


def draw(graph: Graph, kept: Collection[str] = (), title: str = "") -> tuple[str, Boxes]:
    """Draw a graph; returns the SVG, and the boxes in it."""
    boxes = condense_graph(graph, kept)
    names = [node.name for node in graph.nodes if node.is_product]
    return _GraphDrawing(boxes, common(names)).svg(title), boxes


def look(box: Box) -> str:
    """Return the style class of a box."""
    plain = {PORT: "port", MOVES: "moves", HALF: "halves"} | dict.fromkeys(INTEGERS, "integers")
    return plain.get(box.computes, "floats") + (" kept" if box.kept else "")


def label(box: Box, prefix: str = "") -> list[tuple[str, str]]:
    """Return the lines of a box with their classes: kinds with counts, the name of a product."""
    if box.computes == PORT:
        return [(box.names[0][-LONGEST:], "")]
    kinds = [f"{kind} ×{count}" if count > 1 else kind for kind, count in box.kinds]
    lines = [kinds[0]]
    for word in kinds[1:]:
        if len(lines[-1]) + len(word) + 2 <= LONGEST:
            lines[-1] += f", {word}"
        else:
            lines.append(word)
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], "…"]
    styled = [(line, "") for line in lines]
    if box.names and (name := short(box.names[0], prefix)):
        styled.append((name, "axis"))
    return styled


def short(name: str, prefix: str = "") -> str:
    """Shorten a long name to its end; of fused names the last, without the common ``prefix``."""
    parts = (name.rpartition(";")[2].removeprefix(prefix) or name).split("/")
    while len(parts) > 1 and len("/".join(parts)) > LONGEST_NAME:
        parts = parts[1:]
    last = "/".join(parts)
    return last if len(last) <= LONGEST_NAME else f"…{last[1 - LONGEST_NAME :]}"


def common(names: Iterable[str]) -> str:
    """Return the folders that all of these names begin with."""
    split = [name.rpartition(";")[2].split("/")[:-1] for name in names]
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*split, strict=False))
    return "".join(f"{parts[0]}/" for parts in shared)


def _width(text: str, kind: str) -> float:
    if kind == "axis":
        return SMALL * len(text)
    return sum(CAPITAL if letter.isupper() or letter == "_" else LETTER for letter in text)


@dataclass
class _Place:
    """A box in its row, or a long edge that passes through that row and has no ``box``."""

    row: int
    box: int | None = None
    width: float = EDGE_ROOM
    height: float = 0.0
    lines: list[tuple[str, str]] = field(default_factory=list)
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    x: float = 0.0
    """Of its middle."""


class _GraphDrawing:
    """Places boxes in rows, so that few edges cross and most are straight."""

    def __init__(self, boxes: Boxes, prefix: str) -> None:
        self._boxes = boxes
        rows = ranks(len(boxes.boxes), boxes.down)
        self._places = [self._place(row, k, prefix) for k, row in enumerate(rows)]
        self._ways = {edge: self._way(*edge) for edge in boxes.down}
        count = max((place.row for place in self._places), default=-1) + 1
        self._by_row: list[list[int]] = [[] for _ in range(count)]
        for number, place in enumerate(self._places):
            self._by_row[place.row].append(number)
        self._order()
        self._spread()

    def _place(self, row: int, number: int, prefix: str) -> _Place:
        lines = label(self._boxes.boxes[number], prefix)
        width = max(_width(text, kind) for text, kind in lines) + 16
        return _Place(row, number, max(width, 60), LINE * len(lines) + 10, lines)

    def _way(self, above: int, below: int) -> list[int]:
        """Return the places from box to box, one in each row between them."""
        way = [above]
        for row in range(self._places[above].row + 1, self._places[below].row):
            way.append(len(self._places))
            self._places.append(_Place(row))
        way.append(below)
        for one, other in pairwise(way):
            self._places[one].down.append(other)
            self._places[other].up.append(one)
        return way

    def _order(self) -> None:
        """Sort rows by the mean of their neighbours, from above and from below in turn."""
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            rows = self._by_row if down else self._by_row[::-1]
            for row in rows:
                at = {n: k for line in self._by_row for k, n in enumerate(line)}
                own = {n: k for k, n in enumerate(row)}
                row.sort(key=lambda n: (self._middle(n, at, own, down=down), own[n]))

    def _middle(
        self, number: int, at: Mapping[int, int], own: Mapping[int, int], *, down: bool
    ) -> float:
        joined = self._places[number].up if down else self._places[number].down
        return fmean(at[one] for one in joined) if joined else float(own[number])

    def _spread(self) -> None:
        """Move places towards their neighbours, as far as the row allows."""
        for row in self._by_row:
            self._pack(row, [0.0] * len(row))
        for sweep in range(SWEEPS):
            for row in self._by_row if sweep % 2 == 0 else self._by_row[::-1]:
                self._pack(row, [self._preferred_x(n, down=sweep % 2 == 0) for n in row])
        left = min((p.x - p.width / 2 for p in self._places), default=0.0)
        for place in self._places:
            place.x -= left - 14

    def _preferred_x(self, number: int, *, down: bool) -> float:
        place = self._places[number]
        joined = (place.up if down else place.down) or place.up + place.down
        return fmean(self._places[one].x for one in joined) if joined else place.x

    def _pack(self, row: Sequence[int], targets: Sequence[float]) -> None:
        """Place a row as near to the wanted positions as its order and its widths allow."""
        blocks: list[tuple[list[int], list[float], float]] = []
        for number, target in zip(row, targets, strict=True):
            members, starts, width = [number], [target - self._places[number].width / 2], 0.0
            width = self._places[number].width
            while blocks and blocks[-1][0] and self._end(blocks[-1]) + GAP > fmean(starts):
                others, earlier, wide = blocks.pop()
                starts = earlier + [start - wide - GAP for start in starts]
                members, width = others + members, wide + GAP + width
            blocks.append((members, starts, width))
        for members, starts, _ in blocks:
            x = fmean(starts)
            for number in members:
                self._places[number].x = x + self._places[number].width / 2
                x += self._places[number].width + GAP

    @staticmethod
    def _end(block: tuple[list[int], list[float], float]) -> float:
        return fmean(block[1]) + block[2]

    def svg(self, title: str) -> str:
        tops, y = [], 6.0
        heights = [max((self._places[n].height for n in row), default=0) for row in self._by_row]
        for height in heights:
            tops.append(y)
            y += height + ROW_GAP
        right = max((p.x + p.width / 2 for p in self._places), default=0.0)
        lanes = 30.0 if self._boxes.back else 0.0
        drawing = Drawing(right + 14 + lanes, y - ROW_GAP + 8, title)
        middles = [top + height / 2 for top, height in zip(tops, heights, strict=True)]
        for way in self._ways.values():
            drawing.curve(self._points(way, tops, heights, middles), "edge")
        for number, (one, other) in enumerate(self._boxes.back):
            self._again(drawing, one, other, middles, 4.0 * (number % 4))
        for place in self._places:
            self._box(drawing, place, middles[place.row])
        return drawing.svg()

    def _points(
        self,
        way: Sequence[int],
        tops: Sequence[float],
        heights: Sequence[float],
        middles: Sequence[float],
    ) -> list[tuple[float, float]]:
        points = []
        for number in way:
            place = self._places[number]
            if place.box is None:
                points.append((place.x, tops[place.row]))
                points.append((place.x, tops[place.row] + heights[place.row]))
            else:
                half = place.height / 2 * (-1 if number == way[-1] else 1)
                points.append((place.x, middles[place.row] + half))
        return points

    def _again(
        self, drawing: Drawing, one: int, other: int, middles: Sequence[float], aside: float
    ) -> None:
        """Draw an edge back up, beside everything in between."""
        low, high = self._places[one], self._places[other]
        between = [p for p in self._places if high.row <= p.row <= low.row]
        lane = max(place.x + place.width / 2 for place in between) + 14 + aside
        points = [
            (low.x + low.width / 2, middles[low.row] + 4),
            (lane, middles[low.row] + 4),
            (lane, middles[high.row] - 4),
            (high.x + high.width / 2, middles[high.row] - 4),
        ]
        drawing.path(points, "again")

    def _box(self, drawing: Drawing, place: _Place, middle: float) -> None:
        if place.box is None:
            return
        box, top = self._boxes.boxes[place.box], middle - place.height / 2
        tip = "\n".join(box.names[:8]) or ", ".join(kind for kind, _ in box.kinds)
        left = place.x - place.width / 2
        # An opaque rectangle hides the edges behind it.
        drawing.box(left, top, place.width, place.height, "node paper")
        drawing.box(left, top, place.width, place.height, f"node {look(box)}", tip)
        for number, (text, kind) in enumerate(place.lines):
            drawing.text(place.x, top + 15 + LINE * number, text, kind, "middle")
