"""Normalisations."""

from __future__ import annotations

from edgevid_converters.importers.onnx_operators.node import OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import (
    Operand,
    Tensor,
    Unsupported,
    Value,
    channels_last,
    elementwise,
    narrow,
)


def _batch(node: OnnxNode) -> Value:
    """A factor and a summand for each channel, which a convolution before it takes in."""
    import numpy as np

    if any(node.outputs[1:]) or node.whole("training_mode", 0):
        raise Unsupported("it is in training mode; export the model in evaluation mode")
    value = node.value()
    scale, bias, mean, variance = (
        node.array(index, what).astype(np.float64)
        for index, what in enumerate(("scale", "bias", "mean", "variance"), 1)
    )
    factor = scale / np.sqrt(variance + node.number("epsilon", 1e-5))
    shape = (-1, *[1] * (value.rank - 2))
    first = factor.astype(np.float32).reshape(shape)
    second = (bias - mean * factor).astype(np.float32).reshape(shape)
    return elementwise(
        lambda x, by: x + by, elementwise(lambda x, by: x * by, value, first), second
    )


def _centred(tensor: Tensor, places: list[int], epsilon: float) -> Tensor:
    """Subtract the mean and divide by the deviation over some stored axes.

    ``x * x`` and rsqrt quantise in TFLite; a squared difference and a division don't.
    """
    import tensorflow as tf

    away = tensor - tf.reduce_mean(tensor, places, keepdims=True)
    variance = tf.reduce_mean(away * away, places, keepdims=True)
    return away * tf.math.rsqrt(variance + epsilon)


def _layer(node: OnnxNode) -> Value:
    import tensorflow as tf

    if any(node.outputs[1:]):
        raise Unsupported("its mean or deviation is used")
    value = node.value()
    first = node.whole("axis", -1) % value.rank
    places = sorted(value.place(axis) for axis in range(first, value.rank))
    centred = value.like(_centred(value.tensor, places, node.number("epsilon", 1e-5)))
    scaled = elementwise(tf.multiply, centred, node.operand(1))
    return elementwise(tf.add, scaled, node.operand(2)) if node.has(2) else scaled


def _root_mean_square(node: OnnxNode) -> Value:
    import tensorflow as tf

    value = node.value()
    first = node.whole("axis", -1) % value.rank
    places = sorted(value.place(axis) for axis in range(first, value.rank))
    x, epsilon = value.tensor, node.number("epsilon", 1e-5)
    size = tf.math.rsqrt(tf.reduce_mean(x * x, places, keepdims=True) + epsilon)
    return elementwise(tf.multiply, value.like(x * size), node.operand(1))


def _per_channel(operand: Operand, rank: int) -> Operand:
    """Shape one value per channel so that it broadcasts over ``(N, C, ...)``."""
    import tensorflow as tf

    if isinstance(operand, Value):
        return Value.natural(tf.reshape(operand.stored(), [-1, *[1] * (rank - 2)]))
    return narrow(operand).reshape(-1, *[1] * (rank - 2))


def _scaled(node: OnnxNode, value: Value) -> Value:
    import tensorflow as tf

    scale, bias = (_per_channel(node.operand(index), value.rank) for index in (1, 2))
    return elementwise(tf.add, elementwise(tf.multiply, value, scale), bias)


def _instance(node: OnnxNode) -> Value:
    value = node.value()
    places = sorted(value.place(axis) for axis in range(2, value.rank))
    return _scaled(node, value.like(_centred(value.tensor, places, node.number("epsilon", 1e-5))))


def _group(node: OnnxNode) -> Value:
    """Channels are split into groups; each is centred over its channels and pixels."""
    import tensorflow as tf

    value = node.value()
    groups = node.whole("num_groups", 1)
    order = channels_last(value.rank)
    tensor = value.stored(order)
    count, *sizes, channels = (int(one) for one in tensor.shape)
    pixels = 1
    for size in sizes:
        pixels *= size
    flat = tf.reshape(tensor, [count, pixels, groups, channels // groups])
    centred = _centred(flat, [1, 3], node.number("epsilon", 1e-5))
    whole = Value(tf.reshape(centred, [count, *sizes, channels]), order)
    if node.has(1) and node.operand(1).shape[0] != channels:  # operator set 18 has one per group
        return _scaled(_repeated(node, channels // groups), whole)
    return _scaled(node, whole)


def _repeated(node: OnnxNode, count: int) -> OnnxNode:
    import numpy as np

    inputs = [node.inputs[0]]
    inputs += [np.repeat(node.array(index, "scale or bias"), count) for index in (1, 2)]
    return OnnxNode(node.kind, node.opset, tuple(inputs), node.attributes, node.outputs)


def _mean_variance(node: OnnxNode) -> Value:
    value = node.value()
    axes = node.numbers("axes", [0, 2, 3])
    return value.like(_centred(value.tensor, sorted(value.place(axis) for axis in axes), 1e-9))


def _local_response(node: OnnxNode) -> Value:
    import tensorflow as tf

    value = node.value()
    if value.rank != 4 or node.whole("size", 1) % 2 == 0:
        raise Unsupported("only an odd size over images can be lowered")
    size = node.whole("size", 1)
    made = tf.nn.local_response_normalization(
        value.stored(channels_last(4)),
        size // 2,
        node.number("bias", 1.0),
        node.number("alpha", 1e-4) / size,
        node.number("beta", 0.75),
    )
    return Value(made, channels_last(4))


OPERATORS: Table = {
    "BatchNormalization": _batch,
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
    "LRN": _local_response,
    "LayerNormalization": _layer,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _root_mean_square,
}
