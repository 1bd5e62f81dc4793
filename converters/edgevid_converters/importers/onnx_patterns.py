"""Groups of ONNX nodes that mean one operator, as exporters write them for older operator sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

NEAR = 1e-3
"""How close a constant must be, as a share of it: exporters round the root of 2."""


def fused(model: Any) -> Any:
    """Write each GELU, ``x * 0.5 * (1 + erf(x / sqrt(2)))``, as one node.

    TFLite has GELU as an operator with integers, but no error function.

    Args:
        model: An ONNX model; it is copied if anything changes.
    """
    import onnx

    view = _View.of(model.graph)
    found = {}
    for node in model.graph.node:
        if node.op_type == "Erf" and (match := _gelu(node, view)):
            last, source = match
            found[last.output[0]] = onnx.helper.make_node(
                "Gelu", [source], [last.output[0]], last.name
            )
    if not found:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = [found.get(node.output[0], node) for node in copy.graph.node]
    needed = {one.name for one in copy.graph.output}
    kept: list[Any] = []
    for node in reversed(nodes):
        inner = any(one.HasField("g") for one in node.attribute)
        if inner or needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    del copy.graph.node[:]
    copy.graph.node.extend(reversed(kept))
    return copy


@dataclass(frozen=True)
class _View:
    """A graph by tensor.

    Attributes:
        made: Tensor -> the node that makes it.
        readers: Tensor -> the nodes that read it.
        numbers: Constants of one element.
    """

    made: Mapping[str, Any]
    readers: Mapping[str, list[Any]]
    numbers: Mapping[str, float]

    @classmethod
    def of(cls, graph: Any) -> _View:
        """Look at a graph."""
        from math import prod

        from onnx import numpy_helper

        readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        for one in graph.output:
            readers.setdefault(one.name, []).append(None)
        numbers = {
            one.name: float(numpy_helper.to_array(one).reshape(()))
            for one in graph.initializer
            if prod(one.dims) == 1 and one.data_type in (1, 10, 11)
        }
        made = {name: node for node in graph.node for name in node.output}
        return cls(made, readers, numbers)

    def reader(self, name: str, kind: str) -> Any:
        """Return the only node that reads a tensor, if it is of this kind."""
        readers = self.readers.get(name, [])
        alone = len(readers) == 1 and readers[0] is not None and readers[0].op_type == kind
        return readers[0] if alone else None

    def scaled(self, node: Any, factor: float) -> str | None:
        """Return what a node multiplies by a factor; None if it does something else."""
        if node is None or node.op_type not in ("Mul", "Div"):
            return None
        first, second = node.input
        known = self.numbers.get(second)
        if known is None and node.op_type == "Mul":
            first, known = second, self.numbers.get(first)
        if not known:
            return None
        by = 1 / known if node.op_type == "Div" else known
        return str(first) if abs(by - factor) <= NEAR * factor else None

    def other(self, node: Any, name: str) -> str:
        """Return the other input of a node with two."""
        return str(node.input[1] if node.input[0] == name else node.input[0])


def _gelu(node: Any, view: _View) -> tuple[Any, str] | None:
    """Return the last node of a GELU and the tensor that it starts from."""
    source = view.scaled(view.made.get(node.input[0]), 1 / sqrt(2))
    shifted = view.reader(node.output[0], "Add")
    if source is None or shifted is None:
        return None
    if view.numbers.get(view.other(shifted, node.output[0])) != 1:
        return None
    product = view.reader(shifted.output[0], "Mul")
    if product is None:
        return None
    other = view.other(product, shifted.output[0])
    if view.scaled(view.made.get(other), 0.5) == source:
        return product, source
    if other == source:
        for kind in ("Mul", "Div"):
            last = view.reader(product.output[0], kind)
            if view.scaled(last, 0.5) == product.output[0]:
                return last, source
    if view.numbers.get(other) == 0.5:
        last = view.reader(product.output[0], "Mul")
        if last is not None and view.other(last, product.output[0]) == source:
            return last, source
    return None
