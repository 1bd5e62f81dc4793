"""Sliding windows of convolutions and pools: padding, and several axes brought to two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgevid_converters.importers.onnx_operators.node import OnnxNode
from edgevid_converters.importers.onnx_operators.value import (
    Tensor,
    Unsupported,
    Value,
    channels_last,
)


@dataclass(frozen=True)
class Window:
    """How a window slides over the spatial axes; one entry per axis.

    Attributes:
        kernel: Its size.
        strides: Its steps.
        dilations: The distance of its elements.
        before: Padding in front.
        after: Padding behind, without what `ceil` adds.
        extra: What rounding the output size up adds behind.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    extra: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """Number of elements that the window spans."""
        pairs = zip(self.kernel, self.dilations, strict=True)
        return tuple((size - 1) * apart + 1 for size, apart in pairs)

    @property
    def padding(self) -> list[tuple[int, int]]:
        """All padding of each axis."""
        behind = [one + more for one, more in zip(self.after, self.extra, strict=True)]
        return list(zip(self.before, behind, strict=True))

    def is_same(self, sizes: Sequence[int]) -> bool:
        """Whether the padding is what TensorFlow calls SAME."""
        found = zip(sizes, self.extents, self.strides, strict=True)
        return self.padding == [same_padding(*one) for one in found]

    def part(self, first: int, last: int) -> Window:
        """Return the window over some of the axes."""
        cut = slice(first, last)
        return Window(
            self.kernel[cut],
            self.strides[cut],
            self.dilations[cut],
            self.before[cut],
            self.after[cut],
            self.extra[cut],
        )


def same_padding(size: int, extent: int, stride: int, lower: bool = False) -> tuple[int, int]:
    """Return the padding of one axis for an output of ``size / stride``, rounded up."""
    outputs = -(-size // stride)
    total = max(0, (outputs - 1) * stride + extent - size)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def window_of(node: OnnxNode, kernel: Sequence[int], sizes: Sequence[int]) -> Window:
    """Read the window of a node.

    Args:
        node: A convolution or pool.
        kernel: Size of its kernel.
        sizes: Sizes of its input's spatial axes.

    Raises:
        Unsupported: Its padding is negative.
    """
    count = len(sizes)
    strides = node.numbers("strides", [1] * count)
    dilations = node.numbers("dilations", [1] * count)
    extents = [(size - 1) * apart + 1 for size, apart in zip(kernel, dilations, strict=True)]
    kind = node.text("auto_pad", "NOTSET")
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        found = zip(sizes, extents, strides, strict=True)
        pads = [same_padding(*one, lower=kind == "SAME_LOWER") for one in found]
    elif kind == "VALID":
        pads = [(0, 0)] * count
    else:
        listed = node.numbers("pads", [0] * 2 * count)
        pads = list(zip(listed[:count], listed[count:], strict=True))
    if any(one < 0 for pair in pads for one in pair):
        raise Unsupported("its padding is negative")
    extra = [0] * count
    if node.whole("ceil_mode", 0):
        for axis, (size, extent, stride, pad) in enumerate(
            zip(sizes, extents, strides, pads, strict=True)
        ):
            room = size + sum(pad) - extent
            outputs = -(-room // stride) + 1
            if (outputs - 1) * stride >= size + pad[0]:
                outputs -= 1  # a window that starts in the padding behind is left out
            extra[axis] = max(0, (outputs - 1) * stride - room)
    return Window(
        tuple(kernel),
        tuple(strides),
        tuple(dilations),
        tuple(pad[0] for pad in pads),
        tuple(pad[1] for pad in pads),
        tuple(extra),
    )


def padded(tensor: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
    """Pad the spatial axes of a tensor ``(N, ..., C)`` with zeros."""
    import tensorflow as tf

    if not any(one for pair in pads for one in pair):
        return tensor
    return tf.pad(tensor, [(0, 0), *pads, (0, 0)])


def images(value: Value) -> Tensor:
    """Return ``(N, ..., C)``, channels last; a signal gets a height of 1.

    Raises:
        Unsupported: It has no spatial axes, or more than three.
    """
    import tensorflow as tf

    if not 3 <= value.rank <= 5:
        raise Unsupported(f"its input has {value.rank} axes; 3 to 5 can be lowered")
    tensor = value.stored(channels_last(value.rank))
    if value.rank == 3:
        count, length, channels = tensor.shape
        return tf.reshape(tensor, [count, 1, length, channels])
    return tensor


def from_images(tensor: Tensor, rank: int) -> Value:
    """Return what `images` made of a value of this rank as a value again."""
    import tensorflow as tf

    if rank == 3:
        count, _, length, channels = tensor.shape
        tensor = tf.reshape(tensor, [count, length, channels])
    return Value(tensor, channels_last(rank))


def frames(tensor: Tensor) -> Tensor:
    """Join the first two axes: ``(N, T, H, W, C)`` becomes ``(N * T, H, W, C)``."""
    import tensorflow as tf

    count, steps, *rest = tensor.shape
    return tf.reshape(tensor, [count * steps, *rest])


def clips(tensor: Tensor, count: int) -> Tensor:
    """Undo `frames`, for ``count`` clips."""
    import tensorflow as tf

    total, *rest = tensor.shape
    return tf.reshape(tensor, [count, total // count, *rest])


def taps(tensor: Tensor, window: Window) -> list[Tensor]:
    """Return what each element along the time axis of a window sees.

    Args:
        tensor: ``(N, T, H, W, C)``, padded in time.
        window: A window whose first axis is time.

    Returns:
        For each element ``(N, T', H, W, C)``.
    """
    steps = int(tensor.shape[1])
    outputs = (steps - window.extents[0]) // window.strides[0] + 1
    found = []
    for index in range(window.kernel[0]):
        first = index * window.dilations[0]
        last = first + (outputs - 1) * window.strides[0] + 1
        found.append(tensor[:, first : last : window.strides[0]])
    return found
