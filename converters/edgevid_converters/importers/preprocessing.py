"""Preprocessing of imported models: the contract's tensors mapped to the model's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgevid import settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Colour = Literal["rgb", "bgr", "grey"]
Layout = Literal["nhwc", "nchw", "nthwc", "ntchw", "ncthw", "thwc", "tchw"]
"""Order of an image's or a clip's axes: batch n, frames t, channels c, height h and width w."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey: ITU-R BT.601, as OpenCV and Pillow have them."""


@dataclass(frozen=True)
class ImageMapping:
    """How a frame, uint8 RGB ``(1, H, W, 3)``, becomes an input of the model.

    Each value becomes ``(pixel / scale - mean) / std``. If the input is a clip, the frame joins the
    frames before it, which are a state of the step: float32, prepared already, in the model's
    order of axes without its last frame, with a batch axis of 1.

    Attributes:
        name: The contract's name of the input.
        input: The model's own name.
        dtype: Type that the model takes.
        colour: Order of the model's channels, or one channel of grey (see `LUMA`).
        layout: Order of the model's axes.
        scale: Divisor of a pixel.
        mean: One value, or one for each channel in the model's order.
        std: As ``mean``.
        shape: Shape of the model's input, needed for a clip.
        state: The contract's name of the state with a clip's earlier frames; empty for a picture.
    """

    name: str
    input: str
    dtype: str
    colour: Colour = "rgb"
    layout: Layout = "nhwc"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    shape: tuple[int, ...] = ()
    state: str = ""

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
        return self.colour == "grey" or any(one != 1.0 for one in first) or any(second)

    @property
    def luma(self) -> tuple[tuple[float, ...], float]:
        """Factors of red, green and blue whose sum, plus an offset, is the grey value.

        An integer input gets the nearest level.
        """
        (first, *_), (second, *_) = self.factors
        half = 0.0 if self.dtype.startswith("float") else 0.5
        return tuple(weight * first for weight in LUMA), second + half

    # ------------------------------------------------------------ clips

    @property
    def is_clip(self) -> bool:
        """Whether the model takes several frames at once."""
        return "t" in self.layout

    @property
    def channels_first(self) -> bool:
        """Whether a frame's channels come before its height and width."""
        return self.layout.index("c") < self.layout.index("h")

    @property
    def time_axis(self) -> int:
        """Axis of the frames in `batched_shape`."""
        return self._batched.index("t")

    @property
    def batched_shape(self) -> tuple[int, ...]:
        """Shape of the clip with a batch axis of 1, which the model may lack."""
        return self.shape if self._batched == self.layout else (1, *self.shape)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """`batched_shape` of a single frame."""
        return self._of_frames(1)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """`batched_shape` of the frames before the newest one."""
        return self._of_frames(self.batched_shape[self.time_axis] - 1)

    @property
    def state_input(self) -> str:
        """Full name of the state with a clip's earlier frames."""
        return f"state_{self.state}"

    @property
    def state_output(self) -> str:
        """Full name of the next such state."""
        return f"next_{self.state}"

    @property
    def _batched(self) -> str:
        return self.layout if "n" in self.layout else f"n{self.layout}"

    def _of_frames(self, count: int) -> tuple[int, ...]:
        sizes = list(self.batched_shape)
        sizes[self.time_axis] = count
        return tuple(sizes)

    # ------------------------------------------------------------ the reference in numpy

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[Any]:
        """Prepare one frame, as the reference for the lowered graph.

        Args:
            frame: uint8 RGB ``(1, H, W, 3)``.

        Returns:
            ``(1, H, W, C)`` or ``(1, C, H, W)`` in the model's ``dtype``; of a clip float32
            `frame_shape`.
        """
        import numpy as np

        values = frame.astype(np.float64)
        if self.colour == "grey":
            factors, offset = self.luma
            values = values @ np.array(factors)[:, None] + offset
        else:
            if self.colour == "bgr":
                values = values[..., ::-1]
            values = (values / self.scale - np.array(self.mean)) / np.array(self.std)
        if self.channels_first:
            values = values.transpose(0, 3, 1, 2)
        if self.is_clip:
            return np.ascontiguousarray(values, np.float32).reshape(self.frame_shape)
        return np.ascontiguousarray(values, np.dtype(self.dtype))

    def arrange(self, frames: NDArray[np.uint8]) -> NDArray[Any]:
        """Prepare all frames of an image or clip at once.

        Args:
            frames: uint8 RGB ``(frames, H, W, 3)``; one for a picture.

        Returns:
            The model's input in its ``dtype``; of a clip in its ``shape``.
        """
        import numpy as np

        values = [self.apply(frame[None]) for frame in frames]
        if not self.is_clip:
            return values[0]
        clip: NDArray[Any] = np.concatenate(values, self.time_axis)
        return clip.reshape(self.shape).astype(self.dtype)

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Prepare a frame and, for a clip, join it to the frames before it.

        Args:
            inputs: Inputs and states by full name: uint8 RGB ``(1, H, W, 3)`` for the frame,
                float32 `state_shape` for the state.

        Returns:
            The model's input in its shape and ``dtype``; the next state by full name, if any.
        """
        import numpy as np

        value = self.apply(inputs[self.name])
        if not self.is_clip:
            return value, {}
        axis = self.time_axis
        clip = np.concatenate([inputs[self.state_input], value], axis)
        rest = np.ascontiguousarray(np.delete(clip, 0, axis))
        model_input: NDArray[Any] = clip.reshape(self.shape).astype(self.dtype)
        return model_input, {self.state_output: rest}


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
        images: The frame inputs, with the states of those that are clips.
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
