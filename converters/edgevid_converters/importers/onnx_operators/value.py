"""Tensors of an ONNX model while it is written in TensorFlow.

TFLite's convolutions want channels last, ONNX has them second. So a `Value` may be stored with its
axes in another order than the ONNX model has them: a Transpose only changes that order, most
operators work in any order, and data moves only where an operator needs another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

Tensor: TypeAlias = Any
Order: TypeAlias = tuple[int, ...]

NARROWED = {
    "float16": "float32",
    "bfloat16": "float32",
    "float64": "float32",
    "int64": "int32",
    "uint16": "int32",
    "uint32": "int32",
    "uint64": "int32",
}
"""Types that the lowered model computes in another: TFLite has few operators for them."""


class Unsupported(Exception):
    """An operator, or its use in this place, cannot be lowered; the message says why."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the model.

    Attributes:
        tensor: The tensor as TensorFlow has it, of a static shape.
        order: For each of its axes the axis of the ONNX tensor.
    """

    tensor: Tensor
    order: Order

    @classmethod
    def natural(cls, tensor: Tensor) -> Value:
        """Return a tensor whose axes are in the order of the ONNX model."""
        return cls(tensor, tuple(range(len(tensor.shape))))

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def dtype(self) -> str:
        """Name of the type, such as ``float32``."""
        return str(self.tensor.dtype.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes in the order of the ONNX model."""
        sizes = dict(zip(self.order, self.tensor.shape, strict=True))
        return tuple(int(sizes[axis]) for axis in range(self.rank))

    def place(self, axis: int) -> int:
        """Return where an axis of the ONNX tensor is stored; it may count from the end."""
        return self.order.index(axis % max(1, self.rank))

    def stored(self, order: Sequence[int] | None = None) -> Tensor:
        """Return the tensor with its axes in an order, by default that of the ONNX model.

        Moving an axis of size 1 is only a reshape.
        """
        import tensorflow as tf

        wanted = tuple(range(self.rank)) if order is None else tuple(order)
        if wanted == self.order:
            return self.tensor
        shape = self.shape
        if _long(self.order, shape) == _long(wanted, shape):
            return tf.reshape(self.tensor, [shape[axis] for axis in wanted])
        return tf.transpose(self.tensor, [self.order.index(axis) for axis in wanted])

    def last(self, axis: int) -> Order:
        """Return the stored order with one axis moved to the end."""
        axis %= max(1, self.rank)
        return (*(one for one in self.order if one != axis), axis)

    def like(self, tensor: Tensor) -> Value:
        """Return another tensor stored in the same order."""
        return Value(tensor, self.order)

    def grown(self, rank: int) -> Value:
        """Add axes of size 1 in front, as ONNX broadcasts."""
        import tensorflow as tf

        more = rank - self.rank
        if more <= 0:
            return self
        tensor = tf.reshape(self.tensor, [1] * more + list(self.tensor.shape))
        return Value(tensor, (*range(more), *(axis + more for axis in self.order)))


Operand: TypeAlias = "Value | NDArray[Any]"
"""A tensor, or a constant as the ONNX model has it."""


def narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Return a constant of any shape in the dtype that the lowered model computes in.

    Raises:
        Unsupported: It holds text.
    """
    import numpy as np

    kind = NARROWED.get(array.dtype.name, array.dtype.name)
    if array.dtype.kind in "OUS":
        raise Unsupported("it computes with strings")
    if kind == "int32" and array.dtype.kind in "iu":
        limits = np.iinfo(np.int32)
        array = np.clip(array, limits.min, limits.max)
    narrowed: NDArray[Any] = array.astype(kind)
    return narrowed


def constant(array: NDArray[Any]) -> Tensor:
    """Return a constant of any shape as a tensor, in the dtype that the lowered model has."""
    import tensorflow as tf

    return tf.constant(narrow(array))


def channels_last(rank: int) -> Order:
    """Return the order that stores axis 1, the channels, at the end."""
    return (0, *range(2, rank), 1)


def elementwise(function: Callable[..., Tensor], *operands: Operand) -> Value:
    """Apply a function that broadcasts to operands, at least one of which is no constant.

    All are brought into the order of the largest; constants are turned for free.
    """
    rank = max(one.rank if isinstance(one, Value) else one.ndim for one in operands)
    values = [one.grown(rank) for one in operands if isinstance(one, Value)]
    leading = max(values, key=lambda one: (prod(one.shape), one.order != tuple(range(rank))))
    full = max(one.rank for one in operands if isinstance(one, Value)) == rank
    tensors = [
        one.grown(rank).stored(leading.order)
        if isinstance(one, Value)
        else constant(_turned(one, leading.order, full))
        for one in operands
    ]
    return leading.like(function(*tensors))


def _turned(array: NDArray[Any], order: Order, shorten: bool) -> NDArray[Any]:
    """Turn a constant into a stored order; leading axes of size 1 are left out."""
    grown = array.reshape((1,) * (len(order) - array.ndim) + array.shape).transpose(order)
    if shorten:
        while grown.ndim and grown.shape[0] == 1:
            grown = grown[0]
    return grown


def _long(order: Order, shape: Sequence[int]) -> list[int]:
    return [axis for axis in order if shape[axis] != 1]
