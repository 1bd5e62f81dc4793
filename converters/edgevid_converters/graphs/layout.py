"""Reduction of a graph to few boxes: runs of operators, or whole layers in large graphs.

The operators of a box compute in one type; those that only move values go with what they follow.
Each operator is in one box, except for those that unpack weights, which are in none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from edgevid_converters.graphs.graph import MOVES, PORT, WEIGHTS, Graph, Node, below

MOST_OPERATORS = 150
"""In a graph with more operators, a box is a layer."""
WIDEST_ROW = 4
"""In a wider row, similar boxes are merged."""
Key = TypeVar("Key", bound=Hashable)
Placed: TypeAlias = tuple[int, Hashable]
"""The row of a box, and what its operators have in common."""


@dataclass(frozen=True)
class Box:
    """Operators drawn as one box.

    Attributes:
        computes: The type that they compute in.
        kinds: Kinds and counts, in order of appearance.
        names: Names of its products.
        kept: Whether a repair kept it in float32.
    """

    computes: str
    kinds: tuple[tuple[str, int], ...]
    names: tuple[str, ...]
    kept: bool = False

    @property
    def size(self) -> int:
        """How many operators it stands for."""
        return sum(count for _, count in self.kinds) if self.computes != PORT else 0


@dataclass(frozen=True)
class Boxes:
    """The boxes of a graph.

    Attributes:
        boxes: The boxes, row by row.
        down: Pairs of indices, each to a later box.
        back: Pairs of indices, each to an earlier box or itself.
        by_layer: Whether a box has all operators of a layer that compute in one type.
    """

    boxes: tuple[Box, ...]
    down: tuple[tuple[int, int], ...]
    back: tuple[tuple[int, int], ...]
    by_layer: bool


def condense_graph(graph: Graph, kept: Collection[str] = ()) -> Boxes:
    """Reduce a graph to boxes; ``kept`` names the layers that a repair kept in float32."""
    by_layer = len(graph.operators) > MOST_OPERATORS
    keys = (_layers if by_layer else _runs)(graph.nodes)
    return _boxes(graph.nodes, _alike(graph.nodes, keys), frozenset(kept), by_layer)


def _runs(nodes: Sequence[Node]) -> list[Hashable]:
    """For each node the first one of its run; a product or a fork begins one."""
    users = below(nodes)
    begins: list[int] = []
    computes: dict[int, str] = {}
    for place, node in enumerate(nodes):
        above = [one for one in dict.fromkeys(node.above) if nodes[one].computes != WEIGHTS]
        begin = place
        if len(above) == 1 and len(users[above[0]]) == 1 and not node.is_product:
            before = begins[above[0]]
            if PORT not in (node.computes, nodes[before].computes) and (
                node.computes in (MOVES, computes[before])
            ):
                begin = before
        begins.append(begin)
        computes.setdefault(begin, node.computes)
    return [*begins]


def _layers(nodes: Sequence[Node]) -> list[Hashable]:
    """For each node its layer, the type it computes in, and whether it precedes the first product.

    A layer is all products with the same weights, and what follows them up to the next one.
    """
    owners, before_first = _owners(nodes)
    products = {owner: nodes[owner].computes for owner in owners if owner is not None}
    computes: list[str] = []
    for place, node in enumerate(nodes):
        found = node.computes
        owner = owners[place]
        if found == MOVES and owner is not None and place not in before_first:
            before = [computes[one] for one in node.above if owners[one] == owner]
            found = next((one for one in before if one not in (PORT, MOVES)), products[owner])
        computes.append(found)
    return [
        place
        if node.computes == PORT or owners[place] is None
        else (owners[place], computes[place], place in before_first)
        for place, node in enumerate(nodes)
    ]


def _owners(nodes: Sequence[Node]) -> tuple[list[int | None], set[int]]:
    """For each node the first product of its layer; and the nodes before any product."""
    of_weights: dict[str, int] = {}
    owners: list[int | None] = []
    for place, node in enumerate(nodes):
        found = (owners[one] for one in node.above)
        owner = max((one for one in found if one is not None), default=None)
        if node.weights is not None:
            owner = of_weights.setdefault(node.weights, place)
        owners.append(owner)
    early = {place for place, owner in enumerate(owners) if owner is None}
    for place, users in reversed([*enumerate(below(nodes))]):
        if owners[place] is None:
            owners[place] = next((owners[u] for u in users if owners[u] is not None), None)
    return owners, early


def _alike(nodes: Sequence[Node], keys: Sequence[Hashable]) -> list[Placed]:
    """Put each key into its box's row, and merge similar boxes of a wide row."""
    made = _collect(nodes, keys)
    rows = ranks(len(made), _edges(nodes, keys, [*made])[0])
    row_of = dict(zip(made, rows, strict=True))
    width = Counter(rows)
    found: list[Placed] = []
    for key, node in zip(keys, nodes, strict=True):
        row = row_of.get(key, 0)
        if node.computes in (PORT, WEIGHTS) or width[row] <= WIDEST_ROW:
            found.append((row, key))
            continue
        own = [nodes[place] for place in made[key]]
        kinds = tuple(sorted(Counter(one.kind for one in own).items()))
        found.append((row, (own[0].computes, kinds)))
    return found


def _collect(nodes: Sequence[Node], keys: Sequence[Key]) -> dict[Key, list[int]]:
    """Return the indices of the nodes of each box, in the order of their first ones."""
    made: dict[Key, list[int]] = {}
    for place, (node, key) in enumerate(zip(nodes, keys, strict=True)):
        if node.computes != WEIGHTS:
            made.setdefault(key, []).append(place)
    return made


def _edges(
    nodes: Sequence[Node], keys: Sequence[Hashable], boxes: Sequence[Hashable]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the edges to later boxes, and those back."""
    order = {key: number for number, key in enumerate(boxes)}
    down: dict[tuple[int, int], None] = {}
    back: dict[tuple[int, int], None] = {}
    for place, node in enumerate(nodes):
        for above in node.above:
            if WEIGHTS in (node.computes, nodes[above].computes) or keys[above] == keys[place]:
                continue
            edge = (order[keys[above]], order[keys[place]])
            (down if edge[0] < edge[1] else back)[edge] = None
    return [*down], [*back]


def ranks(count: int, down: Collection[tuple[int, int]]) -> list[int]:
    """Return the row of each box: above the boxes that it feeds, and else as low as possible.

    So an input is right above the box that takes it.
    """
    found = [0] * count
    for above, place in sorted(down, key=lambda edge: edge[1]):
        found[place] = max(found[place], found[above] + 1)
    lowest: dict[int, int] = {}
    for above, place in sorted(down, reverse=True):
        lowest[above] = found[above] = min(lowest.get(above, found[place] - 1), found[place] - 1)
    return found


def _boxes(
    nodes: Sequence[Node], keys: Sequence[Placed], kept: frozenset[str], by_layer: bool
) -> Boxes:
    made = _collect(nodes, keys)
    order = sorted(made, key=lambda key: key[0])
    down, back = _edges(nodes, keys, order)
    boxes = []
    for key in order:
        own = [nodes[place] for place in made[key]]
        names = tuple(node.name for node in own if node.is_product)
        computes = next((n.computes for n in own if n.computes != MOVES), MOVES)
        if computes == PORT:
            names = (own[0].name,)
        kinds = tuple(Counter(node.kind for node in own).items())
        boxes.append(Box(computes, kinds, names, any(node.name in kept for node in own)))
    return Boxes(tuple(boxes), tuple(down), tuple(back), by_layer)
