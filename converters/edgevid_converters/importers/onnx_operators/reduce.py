"""Reductions over axes, and where their extremes lie."""

from __future__ import annotations

from collections.abc import Callable

from edgevid_converters.importers.onnx_operators.node import Lowering, OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import Tensor, Value, elementwise

Reduction = Callable[[Tensor, list[int]], Tensor]


def _reduction(function: Reduction) -> Lowering:
    """Lower by a function of a tensor and axes that keeps the axes with size 1."""

    def lower(node: OnnxNode) -> Value:
        value = node.value()
        listed = node.setting("axes", 1)
        axes = [] if listed is None else [int(axis) for axis in listed.reshape(-1)]
        if not axes and not node.whole("noop_with_empty_axes", 0):
            axes = list(range(value.rank))
        axes = sorted({axis % max(1, value.rank) for axis in axes})
        reduced = value.like(function(value.tensor, sorted(value.place(axis) for axis in axes)))
        return reduced if node.whole("keepdims", 1) else without(reduced, axes)

    return lower


def without(value: Value, axes: list[int]) -> Value:
    """Remove axes of size 1."""
    import tensorflow as tf

    gone = set(axes)
    kept = [axis for axis in value.order if axis not in gone]
    sizes = value.shape
    rank = {axis: place for place, axis in enumerate(sorted(kept))}
    tensor = tf.reshape(value.tensor, [sizes[axis] for axis in kept])
    return Value(tensor, tuple(rank[axis] for axis in kept))


def _by(name: str) -> Reduction:
    def reduce(x: Tensor, axes: list[int]) -> Tensor:
        import tensorflow as tf

        return getattr(tf, name)(x, axes, keepdims=True)

    return reduce


def _absolute(x: Tensor, axes: list[int]) -> Tensor:
    import tensorflow as tf

    return tf.reduce_sum(tf.abs(x), axes, keepdims=True)


def _squares(x: Tensor, axes: list[int]) -> Tensor:
    import tensorflow as tf

    return tf.reduce_sum(x * x, axes, keepdims=True)


def _length(x: Tensor, axes: list[int]) -> Tensor:
    import tensorflow as tf

    return tf.sqrt(_squares(x, axes))


def _logarithm(x: Tensor, axes: list[int]) -> Tensor:
    import tensorflow as tf

    return tf.math.log(tf.reduce_sum(x, axes, keepdims=True))


def _log_of_exponentials(x: Tensor, axes: list[int]) -> Tensor:
    import tensorflow as tf

    largest = tf.reduce_max(x, axes, keepdims=True)
    return tf.math.log(tf.reduce_sum(tf.exp(x - largest), axes, keepdims=True)) + largest


def _extreme(name: str) -> Lowering:
    """Lower ArgMax or ArgMin."""

    def lower(node: OnnxNode) -> Value:
        import tensorflow as tf

        value = node.value()
        axis = node.whole("axis", 0) % value.rank
        place = value.place(axis)
        tensor, last = value.tensor, bool(node.whole("select_last_index", 0))
        if last:
            tensor = tf.reverse(tensor, [place])
        found = getattr(tf, name)(tensor, place, output_type=tf.int32)
        if last:
            found = value.shape[axis] - 1 - found
        grown = value.like(tf.expand_dims(found, place))
        return grown if node.whole("keepdims", 1) else without(grown, [axis])

    return lower


def _cumulated(node: OnnxNode) -> Value:
    import tensorflow as tf

    value = node.value()
    place = value.place(int(node.array(1, "axis").item()))
    return value.like(
        tf.cumsum(
            value.tensor,
            place,
            exclusive=bool(node.whole("exclusive", 0)),
            reverse=bool(node.whole("reverse", 0)),
        )
    )


def _unit(node: OnnxNode) -> Value:
    """LpNormalization: divide by the length along an axis."""
    value = node.value()
    axes = [value.place(node.whole("axis", -1))]
    length = _absolute if node.whole("p", 2) == 1 else _length
    return elementwise(lambda x: x / length(x, axes), value)


OPERATORS: Table = {
    "ArgMax": _extreme("argmax"),
    "ArgMin": _extreme("argmin"),
    "CumSum": _cumulated,
    "LpNormalization": _unit,
    "ReduceL1": _reduction(_absolute),
    "ReduceL2": _reduction(_length),
    "ReduceLogSum": _reduction(_logarithm),
    "ReduceLogSumExp": _reduction(_log_of_exponentials),
    "ReduceMax": _reduction(_by("reduce_max")),
    "ReduceMean": _reduction(_by("reduce_mean")),
    "ReduceMin": _reduction(_by("reduce_min")),
    "ReduceProd": _reduction(_by("reduce_prod")),
    "ReduceSum": _reduction(_by("reduce_sum")),
    "ReduceSumSquare": _reduction(_squares),
}
