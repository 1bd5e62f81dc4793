"""Ranges of values that XNNPACK, TensorFlow Lite's fast kernels, can scale products to."""

from __future__ import annotations

from edgevid_converters.lowering.tflite.flatbuffer import Table, kinds, pack, parse, value_range

LARGEST_STEP = 128.0
"""How many steps of its output one step of a product's input and weight may be. XNNPACK takes less
than 256, and checks the first channel alone: another one that exceeds it crashes the process."""
LEVELS = 255
LARGEST_WEIGHT = 127
VALUES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 0, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 2}
"""Which input of a product is its values; the weights are always input 1."""


def with_wide_enough_outputs(ranges: bytes) -> bytes:
    """Widen the ranges of products whose outputs have hardly any values.

    Layers that training left dead give nothing but zeros: the scale of their int8 output would be
    about 1e-8. One step of the input times one step of the weights is the finest difference that a
    product can have: a finer scale of the output would add nothing.

    Args:
        ranges: A float model that knows the range of each tensor.
    """
    model = parse(ranges)
    names, widened = kinds(model), False
    for graph in model.subgraphs:
        for operator in graph.operators:
            kind = names[operator.opcodeIndex]
            if kind in VALUES:
                values = graph.tensors[int(operator.inputs[VALUES[kind]])]
                weights = graph.tensors[int(operator.inputs[1])]
                step = _step(values) * _weight_step(model, weights)
                output = graph.tensors[int(operator.outputs[0])]
                widened |= _widen(output, step / LARGEST_STEP * LEVELS)
    return pack(model) if widened else ranges


def _step(tensor: Table) -> float:
    """Return the scale that a tensor's range gives; 0 if the range is unknown."""
    low, high = _range(tensor) or (0.0, 0.0)
    return (high - low) / LEVELS


def _range(tensor: Table) -> tuple[float, float] | None:
    """Return the smallest and largest value, with 0 among them; None if unknown."""
    known = value_range(tensor)
    return known and (min(0.0, known[0]), max(0.0, known[1]))


def _weight_step(model: Table, weights: Table) -> float:
    """Return the largest scale of a channel; 0 if the weights are not stored as float32."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    data = model.buffers[weights.buffer].data
    if weights.type != schema.TensorType.FLOAT32 or data is None or not len(data):
        return 0.0
    return float(np.abs(np.frombuffer(bytes(data), np.float32)).max()) / LARGEST_WEIGHT


def _widen(output: Table, reach: float) -> bool:
    """Give a tensor at least a range of this length; returns whether it was shorter."""
    known = _range(output)
    if known is None or known[1] - known[0] >= reach:
        return False
    low, high = known
    factor = reach / (high - low) if high > low else 0.0
    output.quantization.min = [low * factor]
    output.quantization.max = [high * factor if factor else reach]
    return True
