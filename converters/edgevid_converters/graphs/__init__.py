"""The graph of an artifact, read from its own file: its operators and the types they compute in.

`read` reads a format that has a reader here, `condense_graph` reduces a graph to boxes, and `draw`
draws it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from edgevid.evidence import OperatorCount
from edgevid_converters.graphs import openvino, tflite
from edgevid_converters.graphs.graph import Graph, Node

__all__ = ["READERS", "Graph", "Node", "read", "table"]

READERS = {"edgetpu": tflite.read, "openvino": openvino.read, "tflite": tflite.read}
"""Format -> reader of its files (ending -> content)."""


def read(format_name: str, files: Mapping[str, bytes]) -> Graph | None:
    """Read the graph of an artifact that a converter has written.

    Args:
        format_name: The artifact's format.
        files: Its files: ending -> content.

    Returns:
        The graph; None for a format that has no reader.

    Raises:
        MissingExtra: The library that reads the format is not installed.
    """
    reader = READERS.get(format_name)
    return reader(files) if reader else None


def table(graph: Graph) -> tuple[OperatorCount, ...]:
    """Count a graph's operators by kind and by the type that they compute in."""
    counts = Counter((node.kind, node.computes) for node in graph.nodes if node.computes)
    return tuple(OperatorCount(*key, count) for key, count in sorted(counts.items()))
