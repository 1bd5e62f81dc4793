"""Convolutions and transposed convolutions over one, two or three axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgevid_converters.importers.onnx_operators.node import OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import (
    Tensor,
    Unsupported,
    Value,
    narrow,
)
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

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _convolution(node: OnnxNode) -> Value:
    """Weights must be constant; one over time becomes one over its frames, which quantises."""
    value = node.value(0)
    weights = narrow(node.array(1, "weight"))
    window = window_of(node, weights.shape[2:], value.shape[2:])
    groups = node.whole("group", 1)
    tensor = images(value)
    if value.rank == 5:
        result = _over_time(tensor, weights, window, groups)
    else:
        if value.rank == 3:
            weights, window = weights[:, :, None], _flat(window)
        result = _over_image(tensor, weights, window, groups)
    return from_images(_biased(node, result), value.rank)


def _flat(window: Window) -> Window:
    """Give a window over a signal a height of 1."""
    one, none = (1, *window.kernel), (0,)
    return Window(
        one,
        (1, *window.strides),
        (1, *window.dilations),
        none + window.before,
        none + window.after,
        none + window.extra,
    )


def _biased(node: OnnxNode, tensor: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.nn.bias_add(tensor, node.value(2).stored()) if node.has(2) else tensor


def _over_image(tensor: Tensor, weights: NDArray[Any], window: Window, groups: int) -> Tensor:
    """Convolve ``(N, H, W, C)`` with weights as ONNX has them, ``(out, in / groups, H, W)``."""
    import tensorflow as tf

    if window.is_same(tensor.shape[1:3]):
        padding = "SAME"
    else:
        tensor, padding = padded(tensor, window.padding), "VALID"
    channels = int(tensor.shape[3])
    strides, dilations = list(window.strides), list(window.dilations)
    if groups == channels and (strides[0] == strides[1] or groups == 1) and groups > 1:
        kernel = weights.reshape(channels, -1, *weights.shape[2:]).transpose(2, 3, 0, 1)
        if max(dilations) > 1 and max(strides) > 1:
            raise Unsupported("its strides and dilations are both above 1")
        return tf.nn.depthwise_conv2d(tensor, kernel, [1, *strides, 1], padding, None, dilations)
    kernel = weights.transpose(2, 3, 1, 0)  # TFLite's CONV_2D takes groups as it is
    return tf.nn.conv2d(tensor, kernel, strides, padding, dilations=dilations)


def _over_time(tensor: Tensor, weights: NDArray[Any], window: Window, groups: int) -> Tensor:
    """Convolve ``(N, T, H, W, C)``: the frames under the window side by side as channels.

    TFLite's CONV_3D has no integers and few fast kernels; this is one CONV_2D.
    """
    import tensorflow as tf

    count = int(tensor.shape[0])
    time, space = window.part(0, 1), window.part(1, 3)
    if groups == 1 and space.kernel == space.strides == (1, 1) and not _any(space.padding):
        return _over_time_only(tensor, weights, time)
    tensor = (
        tf.pad(tensor, [(0, 0), *time.padding, (0, 0), (0, 0), (0, 0)])
        if any(time.padding[0])
        else tensor
    )
    seen = [frames(one) for one in taps(tensor, time)]
    if groups == 1:
        joined = seen[0] if len(seen) == 1 else tf.concat(seen, -1)
        outputs, inputs, steps, *rest = weights.shape
        flat = weights.transpose(0, 2, 1, 3, 4).reshape(outputs, steps * inputs, *rest)
        return clips(_over_image(joined, flat, space, 1), count)
    parts = [
        _over_image(one, weights[:, :, index], space, groups) for index, one in enumerate(seen)
    ]
    return clips(tf.add_n(parts) if len(parts) > 1 else parts[0], count)


def _any(pads: Sequence[tuple[int, int]]) -> bool:
    return any(one for pair in pads for one in pair)


def _over_time_only(tensor: Tensor, weights: NDArray[Any], time: Window) -> Tensor:
    """Convolve along time alone: the pixels of a frame become one axis, and nothing is copied."""
    import tensorflow as tf

    count, steps, height, width, channels = (int(one) for one in tensor.shape)
    flat = tf.reshape(tensor, [count, steps, height * width, channels])
    none = (0,)
    window = Window(
        (*time.kernel, 1),
        (*time.strides, 1),
        (*time.dilations, 1),
        time.before + none,
        time.after + none,
        time.extra + none,
    )
    made = _over_image(flat, weights[..., 0], window, 1)
    return tf.reshape(made, [count, int(made.shape[1]), height, width, int(made.shape[3])])


def _transposed(node: OnnxNode) -> Value:
    """Computed without padding, then cropped to what ONNX asks for."""
    import tensorflow as tf

    value = node.value(0)
    weights = narrow(node.array(1, "weight"))
    if value.rank == 5:
        raise Unsupported("it has three spatial axes; one or two can be lowered")
    tensor = images(value)
    count = value.rank - 2
    strides = node.numbers("strides", [1] * count)
    weights = _dilated(weights, node.numbers("dilations", [1] * count))
    sizes = value.shape[2:]
    crops = _crops(node, sizes, weights.shape[2:], strides)
    if value.rank == 3:
        weights, strides, crops = weights[:, :, None], [1, *strides], [(0, 0), *crops]
    groups = node.whole("group", 1)
    parts = zip(tf.split(tensor, groups, 3), _kernels(weights, groups), strict=True)
    made = [_grown(part, kernel, strides) for part, kernel in parts]
    whole = made[0] if groups == 1 else tf.concat(made, 3)
    return from_images(_biased(node, _cropped(whole, crops)), value.rank)


def _grown(tensor: Tensor, kernel: NDArray[Any], strides: list[int]) -> Tensor:
    """Compute a transposed convolution in full: every product is kept."""
    import tensorflow as tf

    count, *sizes, _ = tensor.shape
    full = [
        (size - 1) * stride + extent
        for size, stride, extent in zip(sizes, strides, kernel.shape[:2], strict=True)
    ]
    shape = [count, *full, kernel.shape[2]]
    return tf.nn.conv2d_transpose(tensor, kernel, shape, strides, "VALID")


def _kernels(weights: NDArray[Any], groups: int) -> list[NDArray[Any]]:
    """Return ``(H, W, out, in)`` of each group, from ``(in, out / groups, H, W)``."""
    import numpy as np

    return [one.transpose(2, 3, 1, 0) for one in np.split(weights, groups, axis=0)]


def _dilated(weights: NDArray[Any], dilations: list[int]) -> NDArray[Any]:
    """Insert zeros between the elements of a kernel."""
    import numpy as np

    if all(one == 1 for one in dilations):
        return weights
    sizes = zip(weights.shape[2:], dilations, strict=True)
    shape = weights.shape[:2] + tuple((size - 1) * apart + 1 for size, apart in sizes)
    wide = np.zeros(shape, weights.dtype)
    wide[(slice(None), slice(None), *(slice(None, None, apart) for apart in dilations))] = weights
    return wide


def _crops(
    node: OnnxNode, sizes: tuple[int, ...], extents: tuple[int, ...], strides: list[int]
) -> list[tuple[int, int]]:
    """Return what is cut from the full result at both ends; below 0, what is added behind."""
    count = len(sizes)
    more = node.numbers("output_padding", [0] * count)
    listed = node.numbers("pads", [0] * 2 * count)
    wanted = node.numbers("output_shape", [])[-count:]
    kind = node.text("auto_pad", "NOTSET")
    crops = []
    for axis, (size, extent, stride) in enumerate(zip(sizes, extents, strides, strict=True)):
        full = (size - 1) * stride + extent
        total = None
        if wanted:
            total = full + more[axis] - wanted[axis]
        elif kind in ("SAME_UPPER", "SAME_LOWER"):
            total = full + more[axis] - size * stride
        elif kind == "VALID":
            total = 0
        if total is None:
            before, after = listed[axis], listed[axis + count]
        elif kind == "SAME_UPPER":
            before, after = total // 2, total - total // 2
        else:
            before, after = total - total // 2, total // 2
        crops.append((before, after - more[axis]))
    return crops


def _cropped(tensor: Tensor, crops: list[tuple[int, int]]) -> Tensor:
    low = [(max(0, -before), max(0, -after)) for before, after in crops]
    tensor = padded(tensor, low)
    cuts = [
        slice(max(0, before), int(size) - max(0, after))
        for size, (before, after) in zip(tensor.shape[1:3], crops, strict=True)
    ]
    whole = all(
        cut == slice(0, int(size)) for cut, size in zip(cuts, tensor.shape[1:3], strict=True)
    )
    return tensor if whole else tensor[:, cuts[0], cuts[1], :]


OPERATORS: Table = {"Conv": _convolution, "ConvTranspose": _transposed}
