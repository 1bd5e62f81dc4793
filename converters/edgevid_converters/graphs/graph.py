"""What every format's graph comes to: nodes in the order in which they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLOAT = "float32"
HALF = "float32, int8 weights"
"""Of a product whose weights are stored in bytes and whose values are not."""
INTEGERS = ("int8", "int16", "integers")
MOVES = "moves"
"""Moves or regroups values, or brings them to and from integers, but computes nothing."""
WEIGHTS = "weights"
"""Turns what is stored into weights, once, when the artifact is loaded."""
PORT = ""
"""No operator, but an input or an output of the whole."""


@dataclass(frozen=True)
class Node:
    """An operator; or an input or output of the graph, then ``computes`` is `PORT`.

    ``above`` has the places of the nodes that give its values, in the order of the file.
    ``weights``, of a product, is equal for those that have the same ones; None for other operators.
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
    """``nodes`` come after those that they take values from."""

    nodes: tuple[Node, ...]

    @property
    def operators(self) -> list[Node]:
        """Without the inputs and outputs of the whole."""
        return [node for node in self.nodes if node.computes != PORT]


def below(nodes: Sequence[Node]) -> list[list[int]]:
    """For each node the places of those that take its values."""
    found: list[list[int]] = [[] for _ in nodes]
    for place, node in enumerate(nodes):
        for above in dict.fromkeys(node.above):
            found[above].append(place)
    return found
