"""Resizing of images and signals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid_converters.importers.onnx_operators.node import OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import (
    Tensor,
    Unsupported,
    Value,
    channels_last,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Axis:
    """How one axis is resized.

    Attributes:
        size: Its size.
        wanted: The size that it gets.
        scale: Their ratio as the model states it, which need not be exact.
    """

    size: int
    wanted: int
    scale: float


@dataclass(frozen=True)
class Method:
    """How values between pixels are found; names are ONNX's.

    Attributes:
        mode: ``nearest``, ``linear`` or ``cubic``.
        coordinates: ``coordinate_transformation_mode``.
        rounding: ``nearest_mode``.
        cubic: ``cubic_coeff_a``.
        antialias: Whether a smaller image averages over all pixels.
        exclude_outside: Whether pixels outside have no weight.
    """

    mode: str
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    cubic: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False

    def positions(self, axis: Axis) -> NDArray[Any]:
        """Return where each output lies among the inputs: ``(wanted,)`` float64.

        Raises:
            Unsupported: The model's coordinates are none of those of ONNX.
        """
        import numpy as np

        at = np.arange(axis.wanted, dtype=np.float64)
        if self.coordinates == "align_corners":
            return at * ((axis.size - 1) / (axis.wanted - 1) if axis.wanted > 1 else 0.0)
        if self.coordinates == "asymmetric":
            return at / axis.scale
        if self.coordinates == "pytorch_half_pixel" and axis.wanted == 1:
            return np.array([-0.5])
        if self.coordinates == "tf_half_pixel_for_nn":
            return (at + 0.5) / axis.scale
        if self.coordinates == "half_pixel_symmetric":
            ratio = axis.wanted / (axis.scale * axis.size)
            offset = axis.size / 2 * (1 - ratio)
            return offset + (at + 0.5) / axis.scale - 0.5
        if self.coordinates not in ("half_pixel", "pytorch_half_pixel"):
            raise Unsupported(f"its coordinate_transformation_mode is {self.coordinates!r}")
        return (at + 0.5) / axis.scale - 0.5

    def nearest(self, axis: Axis) -> list[int]:
        """Return the input that each output takes."""
        import numpy as np

        at = self.positions(axis)
        rounded = {
            "round_prefer_floor": np.ceil(at - 0.5),
            "round_prefer_ceil": np.floor(at + 0.5),
            "floor": np.floor(at),
            "ceil": np.ceil(at),
        }[self.rounding]
        return [int(one) for one in np.clip(rounded, 0, axis.size - 1)]

    def matrix(self, axis: Axis) -> NDArray[Any]:
        """Return the weight of each input for each output: ``(wanted, size)`` float32."""
        import numpy as np

        reach = 2 if self.mode == "cubic" else 1
        wide = max(1.0, 1.0 / axis.scale) if self.antialias else 1.0
        made = np.zeros((axis.wanted, axis.size))
        for row, at in enumerate(self.positions(axis)):
            first = int(np.floor(at - reach * wide)) - 1
            places = np.arange(first, first + int(2 * reach * wide) + 5)
            weights = self._weight((places - at) / wide)
            if self.exclude_outside or self.antialias:
                weights = weights * ((places >= 0) & (places < axis.size))
            weights = weights / weights.sum()
            np.add.at(made[row], np.clip(places, 0, axis.size - 1), weights)
        narrow: NDArray[Any] = made.astype(np.float32)
        return narrow

    def _weight(self, away: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        x, a = np.abs(away), self.cubic
        if self.mode != "cubic":
            straight: NDArray[Any] = np.maximum(0.0, 1.0 - x)
            return straight
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


BUILT_IN: tuple[tuple[str, dict[str, bool]], ...] = (
    ("asymmetric", {}),
    ("half_pixel", {"half_pixel_centers": True}),
    ("align_corners", {"align_corners": True}),
)
"""Coordinates that TFLite's own operators know, and their options."""


def _resize(node: OnnxNode) -> Value:
    """All modes over any axes; what TFLite has no operator for becomes matrix products."""
    value = node.value()
    axes = _axes(node, value)
    changed = [one for one, axis in axes.items() if axis.size != axis.wanted]
    method = _method(node)
    if not changed:
        return value
    if method.mode == "nearest":
        return _nearest(value, axes, changed, method)
    if method.mode not in ("linear", "cubic"):
        raise Unsupported(f"its mode is {method.mode!r}")
    return _interpolated(value, axes, changed, method)


def _method(node: OnnxNode) -> Method:
    mode = node.text("mode", "nearest")
    if node.kind == "Upsample" or node.opset < 11:
        return Method("linear" if "linear" in mode else mode, "asymmetric", "floor")
    return Method(
        "linear" if "linear" in mode else mode,
        node.text("coordinate_transformation_mode", "half_pixel"),
        node.text("nearest_mode", "round_prefer_floor"),
        node.number("cubic_coeff_a", -0.75),
        bool(node.whole("antialias", 0)),
        bool(node.whole("exclude_outside", 0)),
    )


def _axes(node: OnnxNode, value: Value) -> dict[int, Axis]:
    """Return how each axis is resized, from scales or sizes."""
    old = node.kind == "Upsample" or node.opset < 11
    scales = node.setting("scales", 1 if old else 2)
    listed = node.numbers("axes", range(value.rank))
    axes = [axis % value.rank for axis in listed]
    if scales is not None and scales.size:
        factors = [float(one) for one in scales.reshape(-1)]
        return {
            axis: Axis(value.shape[axis], int(value.shape[axis] * factor + 1e-9), factor)
            for axis, factor in zip(axes, factors, strict=True)
        }
    wanted = [int(one) for one in node.array(3, "sizes")]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    ratios = [one / value.shape[axis] for axis, one in zip(axes, wanted, strict=True)]
    if policy != "stretch":
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [ratio] * len(axes)
        wanted = [int(value.shape[axis] * ratio + 0.5) for axis in axes]
    return {
        axis: Axis(value.shape[axis], size, ratio)
        for axis, size, ratio in zip(axes, wanted, ratios, strict=True)
    }


def _nearest(value: Value, axes: dict[int, Axis], changed: Sequence[int], method: Method) -> Value:
    import tensorflow as tf

    found = {axis: method.nearest(axes[axis]) for axis in changed}
    if value.rank == 4 and set(changed) <= {2, 3}:
        for coordinates, options in BUILT_IN[:2]:
            known = Method("nearest", _for_nearest(coordinates), "floor")
            if all(found[axis] == known.nearest(_exact(axes[axis])) for axis in changed):
                tensor = value.stored(channels_last(4))
                size = [axes[axis].wanted if axis in axes else value.shape[axis] for axis in (2, 3)]
                made = tf.raw_ops.ResizeNearestNeighbor(images=tensor, size=size, **options)
                return Value(made, channels_last(4))
    tensor = value.tensor
    for axis, places in found.items():
        tensor = tf.gather(tensor, places, axis=value.place(axis))
    return value.like(tensor)


def _for_nearest(coordinates: str) -> str:
    return "tf_half_pixel_for_nn" if coordinates == "half_pixel" else coordinates


def _exact(axis: Axis) -> Axis:
    """TensorFlow's scale is that of the sizes."""
    return Axis(axis.size, axis.wanted, axis.wanted / axis.size)


def _interpolated(
    value: Value, axes: dict[int, Axis], changed: Sequence[int], method: Method
) -> Value:
    import numpy as np
    import tensorflow as tf

    matrices = {axis: method.matrix(axes[axis]) for axis in changed}
    if value.rank == 4 and set(changed) <= {2, 3}:
        for coordinates, options in BUILT_IN:
            known = Method("linear", coordinates)
            if all(
                np.allclose(matrices[axis], known.matrix(_exact(axes[axis])), atol=1e-6)
                for axis in changed
            ):
                tensor = value.stored(channels_last(4))
                size = [axes[axis].wanted if axis in axes else value.shape[axis] for axis in (2, 3)]
                made = tf.raw_ops.ResizeBilinear(images=tensor, size=size, **options)
                return Value(made, channels_last(4))
    for axis, matrix in matrices.items():
        order = value.last(axis)
        value = Value(_along_last(value.stored(order), matrix), order)
    return value


def _along_last(tensor: Tensor, matrix: NDArray[Any]) -> Tensor:
    import tensorflow as tf

    shape = [int(one) for one in tensor.shape]
    flat = tf.reshape(tensor, [-1, shape[-1]])
    return tf.reshape(tf.matmul(flat, matrix.T), [*shape[:-1], matrix.shape[0]])


OPERATORS: Table = {"Resize": _resize, "Upsample": _resize}
