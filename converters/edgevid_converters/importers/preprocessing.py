"""How a contract's tensors become the imported model's own, and its answers the contract's."""

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
    """What a model wants in place of a frame input, which is uint8 RGB (1, H, W, 3).

    Each value becomes ``(pixel / scale - mean) / std``; ``mean`` and ``std`` have one value, or one
    for each channel in the model's own order of ``colour``. ``name`` is the contract's name of the
    input, ``input`` the model's own.
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
        """The same arithmetic as ``pixel * first + second``, by channel or for all alike."""
        count = max(len(self.mean), len(self.std))
        means, stds = (
            values if len(values) == count else values * count for values in (self.mean, self.std)
        )
        first = tuple(1.0 / (self.scale * std) for std in stds)
        return first, tuple(-mean / std for mean, std in zip(means, stds, strict=True))

    @property
    def computes(self) -> bool:
        """Whether the values of pixels change at all."""
        first, second = self.factors
        return any(one != 1.0 for one in first) or any(second)

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[Any]:
        """Do it: the reference for what is lowered."""
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
    """One tensor under two names: the contract's, and the model's own.

    ``shape`` and ``dtype`` are the model's; the contract has the same shape in float32.
    """

    name: str
    own: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    softmax: bool = False


@dataclass(frozen=True)
class ConstantInput:
    """An input of the model that is always the same."""

    own: str
    shape: tuple[int, ...]
    dtype: str
    values: tuple[float, ...]

    def array(self) -> NDArray[Any]:
        """The value, of the model's shape and type."""
        import numpy as np

        values = np.array(self.values, np.dtype(self.dtype))
        if values.size == 1:
            return np.full(self.shape, values.reshape(()))
        return values.reshape(self.shape)


@dataclass(frozen=True)
class Preprocessing:
    """All that stands between a contract and an imported model's own inputs and outputs.

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
        """The inputs that are passed on as tensors: the states', then the contract's own."""
        return (*self.state_inputs, *self.tensors)

    def to_json(self) -> dict[str, Any]:
        """Give plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_json` gave."""
        return settings.build_json(cls, data, "preprocessing")
