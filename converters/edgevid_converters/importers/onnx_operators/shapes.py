"""Operators that move values or change shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from edgevid_converters.importers.onnx_operators.node import OnnxNode, Table
from edgevid_converters.importers.onnx_operators.reduce import without
from edgevid_converters.importers.onnx_operators.value import (
    Operand,
    Tensor,
    Unsupported,
    Value,
    channels_last,
    constant,
    narrow,
)


def _same(node: OnnxNode) -> Value:
    return node.value()


def _dropout(node: OnnxNode) -> Value:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise Unsupported("its mask is used")
    return node.value()


def reshaped(value: Value, shape: Sequence[int]) -> Value:
    """Change the shape; axes that are only split or joined stay where they are stored."""
    import tensorflow as tf

    if tuple(shape) == value.shape:
        return value
    parts = _parts(value.shape, shape)
    if parts is None:
        return Value.natural(tf.reshape(value.stored(), [int(one) for one in shape]))
    order = list(value.order)
    for old, _ in parts:
        long = [axis for axis in old if value.shape[axis] != 1]
        places = sorted(order.index(axis) for axis in long)
        if (len(long) > 1 and [order[at] for at in places] != long) or _apart(places):
            at = order.index(max(long, key=lambda axis: value.shape[axis]))
            before = [axis for axis in order[:at] if axis not in long]
            order = [*before, *long, *(axis for axis in order[at:] if axis not in long)]
    tensor = value.stored(order)
    made: list[int] = []
    for axis in order:
        old, new = next(one for one in parts if axis in one[0])
        if value.shape[axis] != 1 or all(value.shape[one] == 1 for one in old):
            made += [one for one in new if one not in made]
    made += [axis for axis in range(len(shape)) if axis not in made]
    return Value(tf.reshape(tensor, [int(shape[axis]) for axis in made]), tuple(made))


def _apart(places: Sequence[int]) -> bool:
    return bool(places) and places[-1] - places[0] >= len(places)


def _parts(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Pair runs of old axes with the runs of new axes that hold the same elements.

    Returns:
        The shortest such runs, of which each has one axis longer than 1 on one of its sides; None
        if a run mixes several old with several new axes, or nothing is left over.
    """
    if 0 in old or not prod(old):
        return None
    pairs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        olds, news, size, other = [], [], 1, 1
        if i < len(old):
            olds, size, i = [i], old[i], i + 1
        if j < len(new):
            news, other, j = [j], new[j], j + 1
        while size != other:
            if size < other and i < len(old):
                olds, size, i = [*olds, i], size * old[i], i + 1
            elif j < len(new):
                news, other, j = [*news, j], other * new[j], j + 1
            else:
                return None
        pairs.append((olds, news))
    for olds, news in pairs:
        if sum(old[axis] != 1 for axis in olds) > 1 and sum(new[axis] != 1 for axis in news) > 1:
            return None
    return pairs


def _reshape(node: OnnxNode) -> Value:
    value = node.value()
    listed = node.setting("shape", 1)
    if listed is None:
        raise Unsupported("its shape is missing")
    wanted = [int(one) for one in listed.reshape(-1)]
    if not node.whole("allowzero", 0):
        wanted = [value.shape[at] if size == 0 else size for at, size in enumerate(wanted)]
    if -1 in wanted:
        known = prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = prod(value.shape) // max(1, known)
    return reshaped(value, wanted)


def _flatten(node: OnnxNode) -> Value:
    value = node.value()
    axis = node.whole("axis", 1)
    axis += value.rank if axis < 0 else 0
    return reshaped(value, [prod(value.shape[:axis]), prod(value.shape[axis:])])


def _transpose(node: OnnxNode) -> Value:
    """Only the names of the axes change: no data moves."""
    value = node.value()
    order = node.numbers("perm", range(value.rank)[::-1])
    return Value(value.tensor, tuple(order.index(axis) for axis in value.order))


def _squeeze(node: OnnxNode) -> Value:
    value = node.value()
    listed = node.setting("axes", 1)
    if listed is None:
        axes = [axis for axis, size in enumerate(value.shape) if size == 1]
    else:
        axes = [int(axis) % value.rank for axis in listed.reshape(-1)]
    return without(value, axes)


def _unsqueeze(node: OnnxNode) -> Value:
    import tensorflow as tf

    value = node.value()
    listed = node.setting("axes", 1)
    if listed is None:
        raise Unsupported("its axes are missing")
    rank = value.rank + listed.size
    added = {int(axis) % rank for axis in listed.reshape(-1)}
    kept = [axis for axis in range(rank) if axis not in added]
    order = (*sorted(added), *(kept[axis] for axis in value.order))
    tensor = tf.reshape(value.tensor, [1] * len(added) + list(value.tensor.shape))
    return Value(tensor, order)


def _concat(node: OnnxNode) -> Value:
    """Join in the order in which most of the data is stored."""
    import tensorflow as tf

    operands = [node.operand(index) for index in range(len(node.inputs))]
    operands = [one for one in operands if prod(one.shape)] or operands[:1]
    values = [one for one in operands if isinstance(one, Value)]
    sizes: dict[tuple[int, ...], int] = {}
    for one in values:
        sizes[one.order] = sizes.get(one.order, 0) + prod(one.shape)
    order = max(sizes, key=lambda key: (sizes[key], key)) if sizes else (0,)
    axis = node.whole("axis", 0 if node.opset >= 4 else 1) % len(order)
    tensors = [
        one.stored(order) if isinstance(one, Value) else constant(one.transpose(order))
        for one in operands
    ]
    if len(tensors) == 1:
        return Value(tensors[0], order)
    return Value(tf.concat(tensors, order.index(axis)), order)


def _split(node: OnnxNode) -> tuple[Operand | None, ...]:
    """Parts that nothing reads are not made."""
    value = node.value()
    axis = node.whole("axis", 0) % value.rank
    listed, size = node.setting("split", 1), value.shape[axis]
    if listed is None:
        count = node.whole("num_outputs", len(node.outputs))
        part = -(-size // count)
        sizes = [min(part, size - part * index) for index in range(count)]
    else:
        sizes = [int(one) for one in listed.reshape(-1)]
    found: list[Operand | None] = []
    start = 0
    for used, length in zip(node.outputs, sizes, strict=False):
        found.append(cut(value, axis, start, start + length) if used else None)
        start += length
    return tuple(found)


def cut(value: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
    """Take a range along one axis."""
    if (start, end, step) == (0, value.shape[axis], 1):
        return value
    bounds = [slice(None)] * value.place(axis) + [slice(start, end, step)]
    return value.like(value.tensor[tuple(bounds)])


def _slice(node: OnnxNode) -> Value:
    """One strided slice; a negative step reverses first."""
    import tensorflow as tf

    value = node.value()
    starts, ends = node.setting("starts", 1), node.setting("ends", 2)
    if starts is None or ends is None:
        raise Unsupported("its bounds are missing")
    axes, steps = node.setting("axes", 3), node.setting("steps", 4)
    count = starts.size
    listed = range(count) if axes is None else [int(one) for one in axes.reshape(-1)]
    stepped = [1] * count if steps is None else [int(one) for one in steps.reshape(-1)]
    bounds = [slice(None)] * value.rank
    flipped = []
    for at, axis in enumerate(listed):
        place = value.place(axis)
        size = value.shape[axis % value.rank]
        found = slice(int(starts.flat[at]), int(ends.flat[at]), stepped[at]).indices(size)
        start, end, step = found
        if step < 0:
            flipped.append(place)
            start, end, step = size - 1 - start, size - 1 - end, -step
        bounds[place] = slice(start, max(start, end), step)
    tensor = tf.reverse(value.tensor, flipped) if flipped else value.tensor
    if all(
        one in (slice(None), slice(0, int(size), 1))
        for one, size in zip(bounds, tensor.shape, strict=True)
    ):
        return value.like(tensor)
    return value.like(tensor[tuple(bounds)])


def _pad(node: OnnxNode) -> Value:
    """All modes; a negative padding cuts."""
    value = node.value()
    listed = node.setting("pads", 1)
    if listed is None:
        listed = node.setting("paddings", 1)
    if listed is None:
        raise Unsupported("its pads are missing")
    axes = [int(one) for one in node.array(3, "axes")] if node.has(3) else list(range(value.rank))
    half = len(axes)
    pads = [(0, 0)] * value.rank
    for at, axis in enumerate(axes):
        pads[axis % value.rank] = (int(listed.flat[at]), int(listed.flat[at + half]))
    for axis, (before, after) in enumerate(pads):
        size = value.shape[axis]
        value = cut(value, axis, max(0, -before), size - max(0, -after))
    fill = float(node.array(2, "value").item()) if node.has(2) else node.number("value", 0.0)
    grown = [(max(0, before), max(0, after)) for before, after in pads]
    stored = [grown[axis] for axis in value.order]
    if not any(one for pair in stored for one in pair):
        return value
    return value.like(_extended(value.tensor, stored, node.text("mode", "constant"), fill))


def _extended(tensor: Tensor, pads: Sequence[tuple[int, int]], mode: str, fill: float) -> Tensor:
    import tensorflow as tf

    if mode == "constant":
        return tf.pad(tensor, pads, constant_values=tf.cast(fill, tensor.dtype))
    if mode == "reflect":
        return tf.pad(tensor, pads, "REFLECT")
    if mode not in ("edge", "wrap"):
        raise Unsupported(f"its mode is {mode!r}")
    for axis, (before, after) in enumerate(pads):
        if not before and not after:
            continue
        size = int(tensor.shape[axis])
        places = [index % size for index in range(-before, size + after)]
        if mode == "edge":
            places = [min(max(index, 0), size - 1) for index in range(-before, size + after)]
        tensor = tf.gather(tensor, places, axis=axis)
    return tensor


def _expand(node: OnnxNode) -> Value:
    import tensorflow as tf

    value = node.value()
    wanted = [int(one) for one in node.array(1, "shape")]
    value = value.grown(len(wanted))
    wanted = [1] * (value.rank - len(wanted)) + wanted
    shape = [max(size, one) for size, one in zip(value.shape, wanted, strict=True)]
    if tuple(shape) == value.shape:
        return value
    return value.like(tf.broadcast_to(value.tensor, [shape[axis] for axis in value.order]))


def _tile(node: OnnxNode) -> Value:
    import tensorflow as tf

    value = node.value()
    repeats = [int(one) for one in node.array(1, "repeats")]
    if all(one == 1 for one in repeats):
        return value
    return value.like(tf.tile(value.tensor, [repeats[axis] for axis in value.order]))


def _depth_to_space(node: OnnxNode) -> Value:
    import numpy as np
    import tensorflow as tf

    value = node.value()
    size = node.whole("blocksize", 1)
    tensor = value.stored(channels_last(4))
    if node.text("mode", "DCR") == "CRD":
        count = int(tensor.shape[3])
        places = np.arange(count).reshape(-1, size * size).T.reshape(-1)
        tensor = tf.gather(tensor, places, axis=3)
    return Value(tf.nn.depth_to_space(tensor, size), channels_last(4))


def _space_to_depth(node: OnnxNode) -> Value:
    import tensorflow as tf

    tensor = node.value().stored(channels_last(4))
    return Value(tf.nn.space_to_depth(tensor, node.whole("blocksize", 1)), channels_last(4))


def _triangle(node: OnnxNode) -> Value:
    """Trilu: a constant mask chooses."""
    import numpy as np
    import tensorflow as tf

    value = node.value()
    offset = int(node.array(1, "offset").item()) if node.has(1) else 0
    keep = np.triu if node.whole("upper", 1) else np.tril
    mask = keep(np.ones(value.shape[-2:], bool), offset)
    tensor = value.stored()
    return Value.natural(tf.where(mask, tensor, tf.zeros_like(tensor)))


def _shape(node: OnnxNode) -> tuple[Operand | None, ...]:
    import numpy as np

    shape = node.value().shape
    end = node.attributes.get("end")
    found = shape[node.whole("start", 0) : None if end is None else int(end)]
    return (np.array(found, np.int64),)


def _size(node: OnnxNode) -> tuple[Operand | None, ...]:
    import numpy as np

    return (np.array(prod(node.value().shape), np.int64),)


def _one_hot(node: OnnxNode) -> Value:
    import tensorflow as tf

    indices = node.value(0)
    depth = int(node.array(1, "depth").item())
    off, on = narrow(node.array(2, "values")).tolist()
    axis = node.whole("axis", -1)
    places = tf.cast(indices.stored(), tf.int32)
    places = tf.where(places < 0, places + depth, places)
    kind = narrow(node.array(2, "values")).dtype
    axis += indices.rank + 1 if axis < 0 else 0
    return Value.natural(tf.one_hot(places, depth, on, off, axis, kind))


OPERATORS: Table = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": _same,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueeze,
}
