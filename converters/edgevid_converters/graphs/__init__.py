"""The graph of an artifact, read from its own file: what each operator computes in, and from what.

`read` gives it for every format; `condense_graph` makes few boxes of it, `draw` a picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from edgevid.evidence import OperatorCount
from edgevid_converters.graphs import openvino, tflite
from edgevid_converters.graphs.graph import Graph, Node

__all__ = ["READERS", "Graph", "Node", "read", "table"]

READERS = {"edgetpu": tflite.read, "openvino": openvino.read, "tflite": tflite.read}
"""Format -> what reads its files (ending -> content)."""


def read(format_name: str, files: Mapping[str, bytes]) -> Graph:
    """Read an artifact of a format in `READERS`.

    Raises `MissingExtra` where the library that knows the format is not here.

    Its file is taken to be sound: it is one that a converter has made.
    """
    return READERS[format_name](files)


def table(graph: Graph) -> tuple[OperatorCount, ...]:
    """Count a graph's operators by kind and by the type that they compute in."""
    counts = Counter((node.kind, node.computes) for node in graph.nodes if node.computes)
    return tuple(OperatorCount(*key, count) for key, count in sorted(counts.items()))
