"""Models that are quantised already: computed in float32, rounded in the same places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevid_converters.importers.onnx_operators.node import OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import Operand, Tensor, Value, elementwise

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}


def _parameter(node: OnnxNode, index: int, what: str, rank: int) -> NDArray[Any]:
    """Return a scale or zero point, shaped so that one per channel broadcasts along its axis."""
    import numpy as np

    array = node.array(index, what) if node.has(index) else np.zeros((), np.uint8)
    if array.size == 1:
        return array.reshape(())
    axis = node.whole("axis", 1) % rank
    return array.reshape([-1 if at == axis else 1 for at in range(rank)])


def _quantise(node: OnnxNode) -> Value:
    import numpy as np
    import tensorflow as tf

    value = node.value()
    scale = _parameter(node, 1, "scale", value.rank).astype(np.float32)
    zero = _parameter(node, 2, "zero point", value.rank)
    low, high = LIMITS[zero.dtype.name]

    def rounded(x: Tensor, by: Tensor, offset: Tensor) -> Tensor:
        whole = tf.round(x / by) + offset
        return tf.cast(tf.minimum(tf.maximum(whole, float(low)), float(high)), tf.int32)

    return elementwise(rounded, value, scale, zero.astype(np.float32))


def _restore(node: OnnxNode) -> Value:
    import numpy as np
    import tensorflow as tf

    value: Operand = node.value()
    rank = len(value.shape)
    scale = _parameter(node, 1, "scale", rank).astype(np.float32)
    zero = _parameter(node, 2, "zero point", rank).astype(np.float32)
    return elementwise(lambda x, by, off: (tf.cast(x, tf.float32) - off) * by, value, scale, zero)


OPERATORS: Table = {"DequantizeLinear": _restore, "QuantizeLinear": _quantise}
