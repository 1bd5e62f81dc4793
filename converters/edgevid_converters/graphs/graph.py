"""The common form of every format's graph: nodes in the order in which they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLOAT = "float32"
HALF = "float32, int8 weights"
"""A product with int8 weights and float values."""
INTEGERS = ("int8", "int16", "integers")
MOVES = "moves"
"""Moves or regroups values, or converts them to or from integers, but computes nothing."""
WEIGHTS = "weights"
"""Unpacks stored weights, once, when the artifact is loaded."""
PORT = ""
"""Not an operator, but an input or output of the graph."""


@dataclass(frozen=True)
class Node:
    """An operator, or an input or output of the graph.

    Attributes:
        kind: The format's own name of the operator.
        name: Its name in the graph.
        computes: The type that it computes in; `PORT` for inputs and outputs.
        above: Indices of the nodes that it takes values from, in the order of the file.
        weights: Equal for products with the same weights; None for other operators.
    """

    kind: str
    name: str
    computes: str
    above: tuple[int, ...] = ()
    weights: str | None = None

    @property
    def is_product(self) -> bool:
        """Whether it is a convolution or a matrix product."""
        return self.weights is not None


@dataclass(frozen=True)
class Graph:
    """A graph.

    Attributes:
        nodes: Each comes after those that it takes values from.
    """

    nodes: tuple[Node, ...]

    @property
    def operators(self) -> list[Node]:
        """The nodes without inputs and outputs of the graph."""
        return [node for node in self.nodes if node.computes != PORT]


def below(nodes: Sequence[Node]) -> list[list[int]]:
    """Return for each node the indices of those that take its values."""
    found: list[list[int]] = [[] for _ in nodes]
    for place, node in enumerate(nodes):
        for above in dict.fromkeys(node.above):
            found[above].append(place)
    return found
