"""The nodes of an ONNX graph."""

from __future__ import annotations

from typing import Any


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
