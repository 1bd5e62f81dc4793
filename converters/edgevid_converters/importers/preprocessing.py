"""Preprocessing of imported models: the contract's tensors mapped to the model's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgevid import settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Colour = Literal["rgb", "bgr"]
Layout = Literal["nhwc", "nchw"]


@dataclass(frozen=True)
class ImageMapping:
    """How a frame, uint8 RGB ``(1, H, W, 3)``, becomes an input of the model.

    Each value becomes ``(pixel / scale - mean) / std``.

    Attributes:
        name: The contract's name of the input.
        input: The model's own name.
        dtype: Type that the model takes.
        colour: Order of the model's channels.
        layout: Where the model has its channels.
        scale: Divisor of a pixel.
        mean: One value, or one for each channel in the model's order.
        std: As ``mean``.
    """

    name: str
    input: str
    dtype: str
    colour: Colour = "rgb"
    layout: Layout = "nhwc"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def factors(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Factors of ``pixel * first + second``, one for all channels or one for each."""
        count = max(len(self.mean), len(self.std))
        means, stds = (
            values if len(values) == count else values * count for values in (self.mean, self.std)
        )
        first = tuple(1.0 / (self.scale * std) for std in stds)
        return first, tuple(-mean / std for mean, std in zip(means, stds, strict=True))

    @property
    def computes(self) -> bool:
        """Whether the values change at all."""
        first, second = self.factors
        return any(one != 1.0 for one in first) or any(second)

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[Any]:
        """Compute the model's input, as the reference for the lowered graph.

        Args:
            frame: uint8 RGB ``(1, H, W, 3)``.

        Returns:
            ``(1, H, W, 3)`` or ``(1, 3, H, W)`` in the model's ``dtype``.
        """
        import numpy as np

        values = frame.astype(np.float64)
        if self.colour == "bgr":
            values = values[..., ::-1]
        values = (values / self.scale - np.array(self.mean)) / np.array(self.std)
        if self.layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, np.dtype(self.dtype))


@dataclass(frozen=True)
class TensorMapping:
    """One tensor of the contract, float32, and the model's tensor of the same shape.

    Attributes:
        name: The contract's name.
        own: The model's own name.
        shape: Shape of both.
        dtype: The model's type.
        softmax: Whether the lowered graph adds a softmax to this output.
    """

    name: str
    own: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    softmax: bool = False


@dataclass(frozen=True)
class ConstantInput:
    """An input of the model that never changes.

    Attributes:
        own: The model's name.
        shape: Its shape.
        dtype: Its type.
        values: One value for all elements, or one for each.
    """

    own: str
    shape: tuple[int, ...]
    dtype: str
    values: tuple[float, ...]

    def array(self) -> NDArray[Any]:
        """Return the value as an array of this ``shape`` and ``dtype``."""
        import numpy as np

        values = np.array(self.values, np.dtype(self.dtype))
        if values.size == 1:
            return np.full(self.shape, values.reshape(()))
        return values.reshape(self.shape)


@dataclass(frozen=True)
class Preprocessing:
    """Maps a contract's tensors to an imported model's own.

    Attributes:
        images: The frame inputs.
        tensors: The other inputs.
        constants: The model's inputs that never change.
        state_inputs: The states' inputs by the contract's full names (``state_x``).
        outputs: The outputs and the states' (``next_x``).
        shapes: Shape of every input of the model, by its own name.
    """

    images: tuple[ImageMapping, ...] = ()
    tensors: tuple[TensorMapping, ...] = ()
    constants: tuple[ConstantInput, ...] = ()
    state_inputs: tuple[TensorMapping, ...] = ()
    outputs: tuple[TensorMapping, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def tensor_inputs(self) -> tuple[TensorMapping, ...]:
        """All inputs but images: those of the states, then ``tensors``."""
        return (*self.state_inputs, *self.tensors)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_json` returned.

        Raises:
            BadInput: A value has the wrong type.
        """
        return settings.build_json(cls, data, "preprocessing")
