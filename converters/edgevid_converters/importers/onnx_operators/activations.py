"""Activation functions."""

from __future__ import annotations

from edgevid_converters.importers.onnx_operators.node import Lowering, OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import Tensor, Value, elementwise, narrow

SIXTH = 1e-6
"""How close to 1/6 a slope must be to be TFLite's hard sigmoid."""


def _by(name: str) -> Lowering:
    """Lower by the function of this name in tf.nn."""

    def lower(node: OnnxNode) -> Value:
        import tensorflow as tf

        return elementwise(getattr(tf.nn, name), node.value())

    return lower


def _leaky(node: OnnxNode) -> Value:
    import tensorflow as tf

    slope = node.number("alpha", 0.01)
    return elementwise(lambda x: tf.nn.leaky_relu(x, slope), node.value())


def _prelu(node: OnnxNode) -> Value:
    """The form that TensorFlow's converter recognises as PRELU."""
    import numpy as np
    import tensorflow as tf

    slope = node.operand(1)
    if isinstance(slope, Value):
        return elementwise(
            lambda x, by: tf.nn.relu(x) + by * tf.minimum(x, 0.0), node.operand(0), slope
        )
    negative = -narrow(slope).astype(np.float32)
    return elementwise(lambda x, by: tf.nn.relu(x) + by * tf.nn.relu(-x), node.operand(0), negative)


def _elu(node: OnnxNode) -> Value:
    import tensorflow as tf

    alpha = node.number("alpha", 1.0)
    if alpha == 1.0:
        return elementwise(tf.nn.elu, node.value())
    return elementwise(
        lambda x: tf.nn.relu(x) + alpha * (tf.exp(tf.minimum(x, 0.0)) - 1.0), node.value()
    )


def _celu(node: OnnxNode) -> Value:
    import tensorflow as tf

    alpha = node.number("alpha", 1.0)
    return elementwise(
        lambda x: tf.nn.relu(x) + alpha * (tf.exp(tf.minimum(x, 0.0) / alpha) - 1.0), node.value()
    )


def _selu(node: OnnxNode) -> Value:
    import tensorflow as tf

    alpha, gamma = node.number("alpha", 1.67326319), node.number("gamma", 1.05070102)
    return elementwise(
        lambda x: gamma * (tf.nn.relu(x) + alpha * (tf.exp(tf.minimum(x, 0.0)) - 1.0)),
        node.value(),
    )


def _hard_sigmoid(node: OnnxNode) -> Value:
    import tensorflow as tf

    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    if abs(alpha - 1 / 6) < SIXTH and beta == 0.5:
        return elementwise(lambda x: tf.nn.relu6(x + 3.0) * (1 / 6), node.value())
    return elementwise(lambda x: tf.minimum(tf.nn.relu(x * alpha + beta), 1.0), node.value())


def _hard_swish(node: OnnxNode) -> Value:
    import tensorflow as tf

    return elementwise(lambda x: x * tf.nn.relu6(x + 3.0) * (1 / 6), node.value())


def _gelu(node: OnnxNode) -> Value:
    """TFLite has GELU as one operator, in both forms."""
    import tensorflow as tf

    rough = node.text("approximate", "none") == "tanh"
    return elementwise(lambda x: tf.nn.gelu(x, approximate=rough), node.value())


def softplus(x: Tensor) -> Tensor:
    """Compute ``log(1 + exp(x))`` without overflow."""
    import tensorflow as tf

    return tf.nn.relu(x) + tf.math.log(1.0 + tf.exp(0.0 - tf.abs(x)))


def _softplus(node: OnnxNode) -> Value:
    return elementwise(softplus, node.value())


def _mish(node: OnnxNode) -> Value:
    import tensorflow as tf

    return elementwise(lambda x: x * tf.tanh(softplus(x)), node.value())


def _softsign(node: OnnxNode) -> Value:
    import tensorflow as tf

    return elementwise(lambda x: x / (1.0 + tf.abs(x)), node.value())


def _swish(node: OnnxNode) -> Value:
    import tensorflow as tf

    alpha = node.number("alpha", 1.0)
    return elementwise(lambda x: x * tf.sigmoid(x * alpha if alpha != 1 else x), node.value())


def _thresholded(node: OnnxNode) -> Value:
    import tensorflow as tf

    alpha = node.number("alpha", 1.0)
    return elementwise(lambda x: tf.where(x > alpha, x, tf.zeros_like(x)), node.value())


def _shrink(node: OnnxNode) -> Value:
    import tensorflow as tf

    limit, bias = node.number("lambd", 0.5), node.number("bias", 0.0)

    def shrunk(x: Tensor) -> Tensor:
        inner = tf.where(x > limit, x - bias, tf.zeros_like(x))
        return tf.where(x < -limit, x + bias, inner)

    return elementwise(shrunk, node.value())


def _softmax(node: OnnxNode) -> Value:
    """Over one axis, which is moved to the end; before operator set 13 over all from it on."""
    import tensorflow as tf

    function = tf.nn.log_softmax if node.kind == "LogSoftmax" else tf.nn.softmax
    value = node.value()
    axis = node.whole("axis", -1 if node.opset >= 13 else 1) % max(1, value.rank)
    if node.opset >= 13 or axis == value.rank - 1:
        order = value.last(axis)
        return Value(function(value.stored(order)), order)
    shape = value.shape
    rows = 1
    for size in shape[:axis]:
        rows *= size
    flat = tf.reshape(value.stored(), [rows, -1])
    return Value.natural(tf.reshape(function(flat), shape))


def _hardmax(node: OnnxNode) -> Value:
    import tensorflow as tf

    value = node.value()
    axis = node.whole("axis", -1 if node.opset >= 13 else 1) % max(1, value.rank)
    if node.opset < 13:
        axis = value.rank - 1
    order = value.last(axis)
    stored = value.stored(order)
    best = tf.argmax(stored, -1, output_type=tf.int32)
    return Value(tf.one_hot(best, stored.shape[-1], dtype=tf.float32), order)


OPERATORS: Table = {
    "Celu": _celu,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Hardmax": _hardmax,
    "LeakyRelu": _leaky,
    "LogSoftmax": _softmax,
    "Mish": _mish,
    "PRelu": _prelu,
    "Relu": _by("relu"),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _by("sigmoid"),
    "Softmax": _softmax,
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Swish": _swish,
    "Tanh": _by("tanh"),
    "ThresholdedRelu": _thresholded,
}
