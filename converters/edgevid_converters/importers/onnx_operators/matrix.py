"""Matrix products."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from edgevid_converters.importers.onnx_operators.node import OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import (
    Operand,
    Tensor,
    Value,
    constant,
    elementwise,
    narrow,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _product(node: OnnxNode) -> Value:
    """A constant matrix on the right gives a dense layer over all leading axes."""
    import tensorflow as tf

    left, right = node.operand(0), node.operand(1)
    if isinstance(left, Value) and not isinstance(right, Value) and right.ndim == 2:
        return _dense(left, narrow(right))
    shape = list(_product_shape(left.shape, right.shape))
    one, turned = _factor(left, front=True)
    other, flipped = _factor(right, front=False)
    made = tf.matmul(one, other, transpose_a=turned, transpose_b=flipped)
    return Value.natural(tf.reshape(made, shape) if list(made.shape) != shape else made)


def _dense(left: Value, matrix: NDArray[Any]) -> Value:
    import tensorflow as tf

    shape = left.shape
    tensor = left.stored()
    if left.rank == 2:
        return Value.natural(tf.matmul(tensor, matrix))
    flat = tf.reshape(tensor, [prod(shape[:-1]), shape[-1]])
    made = tf.matmul(flat, matrix)
    return Value.natural(tf.reshape(made, [*shape[:-1], matrix.shape[1]]))


def _factor(operand: Operand, front: bool) -> tuple[Tensor, bool]:
    """Return a factor with two or more axes, and whether its last two are exchanged."""
    import tensorflow as tf

    if not isinstance(operand, Value):
        array = narrow(operand)
        if array.ndim == 1:
            array = array[None, :] if front else array[:, None]
        return constant(array), False
    if operand.rank == 1:
        tensor = operand.stored()
        return tf.expand_dims(tensor, 0 if front else 1), False
    count = operand.rank
    exchanged = (*range(count - 2), count - 1, count - 2)
    if operand.order == exchanged:
        return operand.tensor, True
    return operand.stored(), False


def _product_shape(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a product as numpy's matmul defines it."""
    import numpy as np

    batch = np.broadcast_shapes(left[:-2], right[:-2])
    rows = left[-2:-1] if len(left) > 1 else ()
    columns = right[-1:] if len(right) > 1 else ()
    return (*batch, *rows, *columns)


def _general(node: OnnxNode) -> Value:
    """Gemm: a constant factor or bias takes alpha and beta in."""
    import numpy as np
    import tensorflow as tf

    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    left, right = node.value(0), node.operand(1)
    if left.rank > 2:  # flattened before operator set 7
        left = Value.natural(tf.reshape(left.stored(), [left.shape[0], -1]))
    if isinstance(right, Value):
        matrix = right.stored() * alpha if alpha != 1 else right.stored()
    else:
        known = narrow(right).astype(np.float32) * np.float32(alpha)
        matrix = constant(known.T if node.whole("transB", 0) else known)
    made = Value.natural(
        tf.matmul(
            left.stored(),
            matrix,
            transpose_a=bool(node.whole("transA", 0)),
            transpose_b=isinstance(right, Value) and bool(node.whole("transB", 0)),
        )
    )
    if not node.has(2) or beta == 0:
        return made
    bias = node.operand(2)
    if isinstance(bias, Value):
        return elementwise(lambda x, y: x + y * beta, made, bias)
    return elementwise(tf.add, made, narrow(bias).astype(np.float32) * np.float32(beta))


def _einsum(node: OnnxNode) -> Value:
    import tensorflow as tf

    operands = [node.value(index).stored() for index in range(len(node.inputs))]
    return Value.natural(tf.einsum(node.text("equation", "").replace(" ", ""), *operands))


OPERATORS: Table = {"Einsum": _einsum, "Gemm": _general, "MatMul": _product}
