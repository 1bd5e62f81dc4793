"""The nodes of an ONNX graph."""

from __future__ import annotations

from typing import Any

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
INTEGER_PRODUCTS = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"})


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
    """Name the quantisation of a graph: ``int8`` if most of its products take quantised values.

    Returns:
        ``int8``, ``dynamic`` (integer weights only) or ``float32``.
    """
    makers = {output: node for node in all_nodes(graph) for output in node.output}
    weights = {one.name for one in graph.initializer}
    counts = {"float32": 0, "dynamic": 0, "int8": 0}
    for node in makers.values():
        if node.op_type in INTEGER_PRODUCTS:
            counts["int8"] += 1
        elif node.op_type in PRODUCTS:
            found = [_dequantised(makers.get(name), weights) for name in node.input[:2]]
            counts["int8" if "values" in found else "dynamic" if any(found) else "float32"] += 1
    return max(counts, key=lambda name: counts[name])


def _dequantised(maker: Any, weights: set[str]) -> str:
    """What a DequantizeLinear gives: ``values``, ``weights``; nothing for other nodes."""
    if maker is None or maker.op_type != "DequantizeLinear":
        return ""
    return "weights" if maker.input[0] in weights else "values"
