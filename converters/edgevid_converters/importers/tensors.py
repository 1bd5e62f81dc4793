"""Inputs and outputs of a model as its own file records them, and names for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid.settings import shown
from edgevid_converters.importers.preprocessing import Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int | None, ...]
"""Sizes by axis; None for one that the model leaves open."""


@dataclass(frozen=True)
class Levels:
    """The levels of a quantised tensor: ``value = scale * (level - zero_point)``.

    Attributes:
        dtype: numpy type of a level: uint8, int8 or int16.
        scale: Distance of two neighbouring values.
        zero_point: The level of the value 0.
    """

    dtype: str
    scale: float
    zero_point: int

    def __str__(self) -> str:
        return f"{self.dtype} (scale {self.scale:.6g}, zero point {self.zero_point})"

    @property
    def lowest(self) -> int:
        """The lowest level."""
        return 0 if self.dtype == "uint8" else -(1 << (8 if self.dtype == "int8" else 16) - 1)

    @property
    def highest(self) -> int:
        """The highest level."""
        return self.lowest + (1 << (16 if self.dtype == "int16" else 8)) - 1

    @property
    def value_range(self) -> tuple[float, float]:
        """The lowest and the highest value that can be stored."""
        low, high = (self.scale * (n - self.zero_point) for n in (self.lowest, self.highest))
        return low, high

    def quantise(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the nearest levels, as the operator QUANTIZE does.

        Args:
            values: float32 of any shape.

        Returns:
            The levels in ``dtype``, of the same shape.
        """
        import numpy as np

        scaled = values.astype(np.float32) / np.float32(self.scale)
        levels = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)) + self.zero_point
        stored: NDArray[Any] = np.clip(levels, self.lowest, self.highest).astype(self.dtype)
        return stored

    def dequantise(self, levels: NDArray[Any]) -> NDArray[np.float32]:
        """Return the float32 values of levels.

        Args:
            levels: Of ``dtype``, of any shape.
        """
        import numpy as np

        values = (levels.astype(np.int32) - self.zero_point).astype(np.float32)
        found: NDArray[np.float32] = np.float32(self.scale) * values
        return found


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model as its file records it.

    Attributes:
        name: The model's own name.
        shape: Sizes by axis; None for one that the file leaves open.
        dtype: Name of the numpy type; float32 for a quantised tensor, whose values are real
            numbers outside of the model.
        levels: How a quantised tensor stores its values.
    """

    name: str
    shape: Shape
    dtype: str
    levels: Levels | None = None

    def __str__(self) -> str:
        kind = self.dtype if self.levels is None else str(self.levels)
        return f"{shown(self.name)} {kind} {sizes(self.shape)}"


def sizes(shape: Shape) -> str:
    """Format a shape, such as ``(1, 3, ?, ?)``."""
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


_LAYOUTS: dict[int, tuple[Layout, ...]] = {
    4: ("nhwc", "nchw", "thwc", "tchw"),
    5: ("nthwc", "ntchw", "ncthw"),
}
LEAST_GREY_SIDE = 8
"""Smallest height and width of what may be a greyscale image, and not some other tensor."""


def layout_of(shape: Shape) -> Layout | None:
    """Guess the axes of an image or a clip, of three channels or of one; None if ambiguous."""
    for channels in (3, 1):
        fitting = [one for one in _LAYOUTS.get(len(shape), ()) if _fits(shape, one, channels)]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
    return None


def _fits(shape: Shape, layout: Layout, channels: int) -> bool:
    size = dict(zip(layout, shape, strict=True))
    sides = [size["h"], size["w"]]
    if size["c"] != channels or size.get("n", 1) not in (1, None):
        return False
    if layout in ("thwc", "tchw") and (size["t"] is None or size["t"] < 2):
        return False  # an open first axis is a batch
    least = LEAST_GREY_SIDE if channels == 1 else 1
    return all(side is None or side >= least for side in sides)


def channels_of(layout: Layout, shape: Shape) -> int | None:
    """Return how many channels an input of this layout has; None if the file leaves it open."""
    return shape[layout.index("c")]


def plain_name(name: str) -> str:
    """Turn a model's name of a tensor into a valid name for a contract."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name.partition(":")[0]).strip("_").lower() or "tensor"
    taken = plain[0].isdigit() or plain == "frame" or plain.startswith(("state_", "next_"))
    return f"of_{plain}" if taken else plain


def plain_names(names: Sequence[str]) -> list[str]:
    """Turn a model's names of tensors into valid and distinct names for a contract."""
    found: list[str] = []
    for name in names:
        plain = base = plain_name(name)
        count = 1
        while plain in found:
            count += 1
            plain = f"{base}_{count}"
        found.append(plain)
    return found
