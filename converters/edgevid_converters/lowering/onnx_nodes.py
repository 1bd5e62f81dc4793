"""The nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
INTEGER_PRODUCTS = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that leave values as they are."""


def all_nodes(graph: Any) -> list[Any]:
    """Return every node of a graph, and of the graphs inside its nodes."""
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for one in inner:
                found += all_nodes(one)
    return found


def node_name(node: Any) -> str:
    """Return the name of a node, or else of its first output."""
    return node.name or (node.output[0] if node.output else "?")


def quantisation_of(graph: Any) -> str:
    """Name the quantisation of a graph: by what most of its products compute in.

    Returns:
        ``int8`` (values with fixed scales), ``dynamic`` (integer weights; values are floats, or
        their scales are found anew at every step) or ``float32``.
    """
    nodes = all_nodes(graph)
    makers = {output: node for node in nodes for output in node.output}
    stored = _stored(graph, nodes)
    counts = {"float32": 0, "dynamic": 0, "int8": 0}
    for node in nodes:
        if node.op_type in INTEGER_PRODUCTS:
            maker = _maker(node.input[0], makers)
            dynamic = maker is not None and maker.op_type == "DynamicQuantizeLinear"
            counts["dynamic" if dynamic else "int8"] += 1
        elif node.op_type in PRODUCTS:
            found = [_dequantised(_maker(name, makers), stored) for name in node.input[:2]]
            counts["int8" if "values" in found else "dynamic" if any(found) else "float32"] += 1
    return max(counts, key=lambda name: counts[name])


def _stored(graph: Any, nodes: list[Any]) -> set[str]:
    """Return the names of weights, and of what is computed of nothing else."""
    found = {one.name for one in graph.initializer}
    for node in nodes:  # which stand in the order in which they are computed
        names = [name for name in node.input if name]
        if node.op_type == "Constant" or (names and found.issuperset(names)):
            found.update(node.output)
    return found


def _maker(name: str, makers: Mapping[str, Any]) -> Any:
    """Return the node that gives a tensor, before it is moved; None for inputs and weights."""
    node = makers.get(name)
    while node is not None and node.op_type in MOVES:
        node = makers.get(node.input[0])
    return node


def _dequantised(maker: Any, stored: set[str]) -> str:
    """What a DequantizeLinear gives: ``values``, ``weights``; nothing for other nodes."""
    if maker is None or maker.op_type != "DequantizeLinear":
        return ""
    return "weights" if maker.output[0] in stored else "values"
