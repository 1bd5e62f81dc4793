"""Pools over one, two or three axes."""

from __future__ import annotations

from collections.abc import Sequence

from edgevid_converters.importers.onnx_operators.node import Lowering, OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import Tensor, Unsupported, Value
from edgevid_converters.importers.onnx_operators.windows import (
    Window,
    clips,
    frames,
    from_images,
    images,
    padded,
    taps,
    window_of,
)


def _maximum(node: OnnxNode) -> Value:
    """Padding repeats the edge, which changes no maximum and, unlike -inf, quantises."""
    import tensorflow as tf

    if len(node.outputs) > 1 and node.outputs[1]:
        raise Unsupported("its output of indices is used")
    value = node.value()
    window = _window(node, value)
    if max(window.dilations) > 1:
        raise Unsupported("it is dilated")
    tensor = images(value)
    if value.rank == 5:
        time, space = window.part(0, 1), window.part(1, 3)
        count = int(tensor.shape[0])
        tensor = clips(_maximum_image(frames(tensor), space), count)
        seen = taps(_edged(tensor, 1, time.padding[0]), time)
        for one in seen[1:]:
            seen[0] = tf.maximum(seen[0], one)
        return from_images(seen[0], 5)
    return from_images(_maximum_image(tensor, _two(window)), value.rank)


def _window(node: OnnxNode, value: Value) -> Window:
    return window_of(node, node.numbers("kernel_shape", []), value.shape[2:])


def _two(window: Window) -> Window:
    """Give a window over a signal a height of 1."""
    if len(window.kernel) == 2:
        return window
    return Window(
        (1, *window.kernel),
        (1, *window.strides),
        (1, *window.dilations),
        (0, *window.before),
        (0, *window.after),
        (0, *window.extra),
    )


def _maximum_image(tensor: Tensor, window: Window) -> Tensor:
    import tensorflow as tf

    kind = "VALID"
    if window.is_same(tensor.shape[1:3]):
        kind = "SAME"
    else:
        for axis, pad in enumerate(window.padding):
            tensor = _edged(tensor, axis + 1, pad)
    return tf.nn.max_pool2d(tensor, window.kernel, window.strides, kind)


def _edged(tensor: Tensor, axis: int, pad: tuple[int, int]) -> Tensor:
    """Repeat the first and last elements along an axis."""
    import tensorflow as tf

    if not any(pad):
        return tensor
    if max(pad) == 1:
        pads = [(0, 0)] * len(tensor.shape)
        pads[axis] = pad
        return tf.pad(tensor, pads, "SYMMETRIC")
    first = [slice(None)] * axis + [slice(0, 1)]
    last = [slice(None)] * axis + [slice(int(tensor.shape[axis]) - 1, None)]
    parts = [tensor[tuple(first)]] * pad[0] + [tensor] + [tensor[tuple(last)]] * pad[1]
    return tf.concat(parts, axis)


def _average(node: OnnxNode) -> Value:
    """Mean over the elements that count; where fewer do, a constant factor corrects it."""
    import tensorflow as tf

    value = node.value()
    window = _window(node, value)
    if max(window.dilations) > 1:
        raise Unsupported("it is dilated")
    included = bool(node.whole("count_include_pad", 0))
    tensor = images(value)
    if value.rank == 5:
        time, space = window.part(0, 1), window.part(1, 3)
        count = int(tensor.shape[0])
        tensor = clips(_average_image(frames(tensor), space, included), count)
        steps = int(tensor.shape[1])
        tensor = tf.pad(tensor, [(0, 0), *time.padding, (0, 0), (0, 0), (0, 0)])
        mean = tf.add_n(taps(tensor, time)) * (1.0 / time.kernel[0])
        factors = _factors(steps, time, 0, included)
        return from_images(_scaled(mean, 1, factors), 5)
    return from_images(_average_image(tensor, _two(window), included), value.rank)


def _average_image(tensor: Tensor, window: Window, included: bool) -> Tensor:
    import tensorflow as tf

    sizes = [int(one) for one in tensor.shape[1:3]]
    plain = not any(one for pair in window.padding for one in pair)
    if plain or (not included and window.is_same(sizes)):
        kind = "VALID" if plain else "SAME"
        return tf.nn.avg_pool2d(tensor, window.kernel, window.strides, kind)
    mean = tf.nn.avg_pool2d(padded(tensor, window.padding), window.kernel, window.strides, "VALID")
    for axis in range(2):
        mean = _scaled(mean, axis + 1, _factors(sizes[axis], window, axis, included))
    return mean


def _factors(size: int, window: Window, axis: int, included: bool) -> list[float]:
    """For each output along an axis: elements of the window, divided by those that count."""
    kernel, stride, before = window.kernel[axis], window.strides[axis], window.before[axis]
    first, last = (-before, size + window.after[axis]) if included else (0, size)
    outputs = (size + sum(window.padding[axis]) - kernel) // stride + 1
    starts = [index * stride - before for index in range(outputs)]
    counts = [min(start + kernel, last) - max(start, first) for start in starts]
    return [kernel / max(1, count) for count in counts]


def _scaled(tensor: Tensor, axis: int, factors: Sequence[float]) -> Tensor:
    import numpy as np

    if all(one == 1 for one in factors):
        return tensor
    shape = [1] * len(tensor.shape)
    shape[axis] = len(factors)
    return tensor * np.array(factors, np.float32).reshape(shape)


def _powers(node: OnnxNode) -> Value:
    """LpPool: the mean of powers, times the size of the window, to the inverse power."""
    import tensorflow as tf

    value = node.value()
    window, power = _window(node, value), node.number("p", 2)
    if max(window.dilations) > 1 or value.rank == 5:
        raise Unsupported("it is dilated, or has three spatial axes")
    pair = _two(window)
    tensor = tf.pow(tf.abs(padded(images(value), pair.padding)), power)
    mean = tf.nn.avg_pool2d(tensor, pair.kernel, pair.strides, "VALID")
    total = mean * float(pair.kernel[0] * pair.kernel[1])
    return from_images(tf.pow(total, 1.0 / power), value.rank)


def _global(name: str) -> Lowering:
    """Lower by a reduction of TensorFlow over all spatial axes."""

    def lower(node: OnnxNode) -> Value:
        import tensorflow as tf

        value = node.value()
        axes = [value.place(axis) for axis in range(2, value.rank)]
        return value.like(getattr(tf, name)(value.tensor, axes, keepdims=True))

    return lower


OPERATORS: Table = {
    "AveragePool": _average,
    "GlobalAveragePool": _global("reduce_mean"),
    "GlobalMaxPool": _global("reduce_max"),
    "LpPool": _powers,
    "MaxPool": _maximum,
}
