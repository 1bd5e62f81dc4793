"""Operators that choose values by indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevid_converters.importers.onnx_operators.node import OnnxNode, Table
from edgevid_converters.importers.onnx_operators.reduce import without
from edgevid_converters.importers.onnx_operators.shapes import cut
from edgevid_converters.importers.onnx_operators.value import (
    Operand,
    Tensor,
    Unsupported,
    Value,
    constant,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _gather(node: OnnxNode) -> Value:
    """Constant indices in a row become a slice."""
    import tensorflow as tf

    value, indices = node.value(0), node.operand(1)
    axis = node.whole("axis", 0) % value.rank
    if isinstance(indices, Value):
        places: Tensor = _positive(indices.stored(), value.shape[axis])
        return Value.natural(tf.gather(value.stored(), places, axis=axis))
    known = indices.astype(int)
    known = known + (known < 0) * value.shape[axis]
    if known.ndim == 0:
        return without(cut(value, axis, int(known), int(known) + 1), [axis])
    if known.ndim > 1:
        return Value.natural(tf.gather(value.stored(), known, axis=axis))
    first, last = int(known[0]), int(known[-1])
    if known.tolist() == list(range(first, last + 1)):
        return cut(value, axis, first, last + 1)
    return value.like(tf.gather(value.tensor, known, axis=value.place(axis)))


def _positive(indices: Tensor, size: int) -> Tensor:
    """Count indices below 0 from the end."""
    import tensorflow as tf

    whole = tf.cast(indices, tf.int32)
    return tf.where(whole < 0, whole + size, whole)


def _indices(operand: Operand, size: int) -> Tensor:
    if isinstance(operand, Value):
        return _positive(operand.stored(), size)
    return constant(operand + (operand < 0) * size)


def _coordinates(indices: Tensor, axis: int) -> Tensor:
    """Return the whole position that each index along ``axis`` means: ``(*shape, rank)``."""
    import numpy as np
    import tensorflow as tf

    grid = np.indices([int(one) for one in indices.shape]).astype(np.int32)
    parts = [indices if at == axis else tf.constant(one) for at, one in enumerate(grid)]
    return tf.stack(parts, -1)


def _gather_elements(node: OnnxNode) -> Value:
    import tensorflow as tf

    value = node.value(0)
    axis = node.whole("axis", 0) % value.rank
    places = _coordinates(_indices(node.operand(1), value.shape[axis]), axis)
    return Value.natural(tf.gather_nd(value.stored(), places))


def _gather_nd(node: OnnxNode) -> Value:
    import tensorflow as tf

    if node.whole("batch_dims", 0):
        raise Unsupported("it has batch_dims")
    value = node.value(0)
    return Value.natural(tf.gather_nd(value.stored(), _signed(node.operand(1), value.shape)))


def _signed(indices: Operand, shape: tuple[int, ...]) -> Tensor:
    """Return positions along the last axis of ``indices``, none below 0."""
    import numpy as np
    import tensorflow as tf

    depth = indices.shape[-1]
    sizes: NDArray[Any] = np.array(shape[:depth], np.int32)
    if not isinstance(indices, Value):
        return constant(indices + (indices < 0) * sizes)
    whole = tf.cast(indices.stored(), tf.int32)
    return tf.where(whole < 0, whole + sizes, whole)


def _scatter_nd(node: OnnxNode) -> Value:
    value, places = node.value(0), _signed(node.operand(1), node.value(0).shape)
    return _updated(node, value, places)


def _scatter_elements(node: OnnxNode) -> Value:
    value = node.value(0)
    axis = node.whole("axis", 0) % value.rank
    places = _coordinates(_indices(node.operand(1), value.shape[axis]), axis)
    return _updated(node, value, places)


def _updated(node: OnnxNode, value: Value, places: Tensor) -> Value:
    """Replace values at positions: what SCATTER_ND writes, and the old ones elsewhere."""
    import numpy as np
    import tensorflow as tf

    if node.text("reduction", "none") not in ("none", "add"):
        raise Unsupported(f"its reduction is {node.text('reduction', 'none')!r}")
    updates, old = node.value(2).stored(), value.stored()
    written = tf.scatter_nd(places, updates, old.shape)
    if node.text("reduction", "none") == "add":
        return Value.natural(old + written)
    ones = tf.scatter_nd(places, tf.constant(np.ones(updates.shape, np.int32)), old.shape)
    return Value.natural(tf.where(ones > 0, written, old))


def _top(node: OnnxNode) -> tuple[Operand | None, ...]:
    """The largest or smallest along an axis, sorted."""
    import tensorflow as tf

    value = node.value(0)
    count = node.setting("k", 1)
    if count is None:
        raise Unsupported("its k is missing")
    order = value.last(node.whole("axis", -1))
    tensor = value.stored(order)
    largest = bool(node.whole("largest", 1))
    found, places = tf.math.top_k(tensor if largest else 0 - tensor, int(count.item()))
    return Value(found if largest else 0 - found, order), Value(places, order)


OPERATORS: Table = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TopK": _top,
}
