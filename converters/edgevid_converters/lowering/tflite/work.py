"""How much an operator of a ``.tflite`` computes, from the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from edgevid_converters.lowering.tflite.flatbuffer import Table

FILTERED: dict[str, tuple[int, slice]] = {
    "CONV_2D": (1, slice(1, None)),
    "CONV_3D": (1, slice(0, 4)),
    "DEPTHWISE_CONV_2D": (1, slice(1, 3)),
    "FULLY_CONNECTED": (1, slice(1, None)),
}
"""Product -> where its weights are, and the part of their shape that one output value sums over."""
SCATTERED: dict[str, tuple[int, slice, int]] = {
    "CONV_3D_TRANSPOSE": (1, slice(0, 4), 2),
    "TRANSPOSE_CONV": (1, slice(0, 3), 2),
}
"""Product -> where its weights are, the part of their shape that one input value is spread over,
and where its input is."""


def work_of(graph: Table, kind: str, operator: Table) -> int:
    """Count the multiply-adds of a product; of another operator the elements that it goes over.

    Args:
        graph: The subgraph.
        kind: The operator's kind.
        operator: One of its operators.
    """
    inputs = [_shape(graph, int(i)) for i in operator.inputs if int(i) >= 0]
    given = sum(prod(_shape(graph, int(i))) for i in operator.outputs)
    if kind in FILTERED:
        place, summed = FILTERED[kind]
        return given * prod(inputs[place][summed])
    if kind in SCATTERED:
        place, spread, source = SCATTERED[kind]
        return prod(inputs[source]) * prod(inputs[place][spread])
    if kind == "BATCH_MATMUL":
        transposed = bool(getattr(operator.builtinOptions, "adjX", False))
        return given * inputs[0][-2 if transposed else -1]
    return max(given, prod(inputs[0]) if inputs else 0)


def _shape(graph: Table, tensor: int) -> Sequence[int]:
    shape = graph.tensors[tensor].shape
    return [] if shape is None else [max(1, int(n)) for n in shape]
