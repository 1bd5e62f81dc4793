"""The contract of a step: named inputs, states and outputs. Plain frozen data in every bundle.

A step is ``step(inputs, state) -> outputs, state'``. In an artifact every tensor goes by its name,
never by its position: an input has its own name (a single frame is usually called ``frame``), a
state tensor ``x`` goes in as ``state_x`` and comes out as ``next_x``, and an output has its own
name. States and outputs are float32; every tensor has a leading batch axis of 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from edgevid import settings
from edgevid.content import check_texts
from edgevid.errors import BadInput
from edgevid.settings import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Inputs: TypeAlias = Mapping[str, NDArray[Any]]
    Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]

Fit = Literal["stretch", "letterbox", "crop"]
Resize = Literal["area", "bilinear", "bilinear-antialias", "nearest"]
Temporal = Literal["none", "window", "carry"]

FRAME = "frame"
_SIDE_LIMIT = 1 << 14
_ELEMENTS_LIMIT = 1 << 28  # a gibibyte of float32
_AXES_LIMIT = 8
_TENSORS_LIMIT = 1024
_FRAMES_LIMIT = 1 << 20
_RATE_LIMIT = 1000.0


@dataclass(frozen=True)
class FrameInput:
    """One image of a video stream: uint8 RGB ``(1, height, width, 3)``.

    Attributes:
        name: Name of the input tensor.
        height: Height in pixels.
        width: Width in pixels.
        fit: How an image of another size becomes this size. ``stretch`` scales both axes
            independently, ``crop`` scales the shorter side and cuts out the middle, ``letterbox``
            scales the longer side and pads with grey.
        colour: Order of the channels.
        resize: The filter that scales the image. ``area`` averages what each pixel covers, as
            OpenCV's INTER_AREA. ``bilinear`` mixes the four nearest pixels, as OpenCV's
            INTER_LINEAR and ``tf.image.resize``. ``bilinear-antialias`` widens that to what each
            pixel covers, as Pillow's BILINEAR and torchvision. ``nearest`` picks single pixels,
            as OpenCV's INTER_NEAREST.
    """

    name: str
    height: int
    width: int
    fit: Fit = "stretch"
    colour: Literal["rgb"] = "rgb"
    resize: Resize = "area"
    kind: Literal["frame"] = "frame"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor, batch axis included."""
        return 1, self.height, self.width, 3

    @property
    def dtype(self) -> str:
        """NumPy name of the element type."""
        return "uint8"


@dataclass(frozen=True)
class AudioInput:
    """A piece of mono sound: float32 ``(1, samples)``, in the range -1 to 1.

    Attributes:
        name: Name of the input tensor.
        sample_rate_hz: Samples per second.
        samples: Samples per step.
    """

    name: str
    sample_rate_hz: int
    samples: int
    kind: Literal["audio"] = "audio"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor, batch axis included."""
        return 1, self.samples

    @property
    def dtype(self) -> str:
        """NumPy name of the element type."""
        return "float32"


@dataclass(frozen=True)
class VectorInput:
    """Any other numbers, such as sensor readings or features: float32 ``shape``.

    Attributes:
        name: Name of the input tensor.
        shape: Shape of the tensor, batch axis included.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["vector"] = "vector"

    @property
    def dtype(self) -> str:
        """NumPy name of the element type."""
        return "float32"


Input: TypeAlias = FrameInput | AudioInput | VectorInput


@dataclass(frozen=True)
class StateTensor:
    """One named tensor of the recurrent state, float32, zero at the start of a stream."""

    name: str
    shape: tuple[int, ...]

    @property
    def input_name(self) -> str:
        """Name of the artifact's input tensor."""
        return f"state_{self.name}"

    @property
    def output_name(self) -> str:
        """Name of the artifact's output tensor."""
        return f"next_{self.name}"


@dataclass(frozen=True)
class Output:
    """One named output tensor, float32."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Contract:
    """Everything a runner must know to feed a step and to interpret its outputs.

    Attributes:
        task: Name of the task that decodes the outputs.
        inputs: What is new at every step.
        outputs: What a step returns besides its next state.
        labels: Class names in the order of the scores; empty if the task has none.
        rate_fps: Steps per second.
        temporal: How the step uses the past.
        frames: For ``window``, the number of steps a prediction depends on.
        states: The recurrent state; empty exactly if ``temporal`` is ``none``.
        options: Options of the task.
    """

    task: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    labels: tuple[str, ...]
    rate_fps: float
    temporal: Temporal = "none"
    frames: int = 1
    states: tuple[StateTensor, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frame_inputs(self) -> tuple[FrameInput, ...]:
        """The inputs that are images, in order."""
        return tuple(one for one in self.inputs if isinstance(one, FrameInput))

    @property
    def frame(self) -> FrameInput:
        """The only frame input.

        Raises:
            BadInput: The contract has no frame input, or more than one.
        """
        found = self.frame_inputs
        if len(found) != 1:
            raise BadInput(
                f"the model has {len(found)} frame inputs (its inputs: {self.input_names}), and "
                "this needs exactly one; use a model with one frame input"
            )
        return found[0]

    @property
    def is_video(self) -> bool:
        """Whether its only input is one frame, so that a video source alone can feed it."""
        return len(self.inputs) == len(self.frame_inputs) == 1

    @property
    def input_names(self) -> str:
        """The inputs with their kinds, for messages."""
        return ", ".join(f"{one.kind} {shown(one.name)}" for one in self.inputs)

    @property
    def warm_after(self) -> int:
        """Number of steps after which a prediction has seen everything it can depend on."""
        return self.frames if self.temporal == "window" else 1

    def require_video(self, what: str) -> FrameInput:
        """Return the frame input of a model that a video source alone can feed.

        Args:
            what: Name of the model for the error message.

        Raises:
            BadInput: The model has an input that no video source can feed.
        """
        if not self.is_video:
            raise BadInput(
                f"{what} cannot run on video, because no source feeds its inputs "
                f"({self.input_names}); use a model whose only input is a frame, or check this "
                "one with: edgevid verify"
            )
        return self.frame

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; equal contracts give equal data in equal order."""
        data = asdict(self)
        data["inputs"] = [{"kind": one.pop("kind"), **one} for one in data["inputs"]]
        return data | {"options": dict(self.options)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contract:
        """Read what `to_json` returned.

        Raises:
            BadInput: A key is unknown or missing, a value makes no sense, or the data has the
                old form from before inputs had names.
        """
        if isinstance(data, Mapping) and "inputs" not in data and {"frame", "signal"} & set(data):
            raise BadInput(
                "contract has the old form without named inputs; convert the model again: "
                "edgevid convert (a training run: edgevid train)"
            )
        contract = settings.build_json(cls, data, "contract")
        contract.check()
        return contract

    def check(self) -> None:
        """Check that the values make sense together.

        Raises:
            BadInput: A value makes no sense.
        """
        if not self.inputs:
            raise BadInput("contract.inputs is empty; a step needs at least one input")
        for frame in self.frame_inputs:
            if not (1 <= frame.height <= _SIDE_LIMIT and 1 <= frame.width <= _SIDE_LIMIT):
                raise BadInput(
                    f"contract.inputs: {shown(frame.name)} needs a height and width from 1 to 16384"
                )
        for audio in self.inputs:
            if isinstance(audio, AudioInput) and not 1 <= audio.sample_rate_hz <= 1 << 20:
                raise BadInput(
                    f"contract.inputs: {shown(audio.name)} needs a positive sample_rate_hz"
                )
        if not 0 < self.rate_fps <= _RATE_LIMIT:
            raise BadInput("contract needs a positive rate_fps of at most 1000")
        if not 1 <= self.frames <= _FRAMES_LIMIT:
            raise BadInput(f"contract.frames must be from 1 to {_FRAMES_LIMIT}")
        if (self.temporal == "none") != (not self.states):
            raise BadInput("contract.states must be empty exactly when contract.temporal is none")
        check_texts(self.to_json(), "contract")
        _check_tensors("inputs", self.inputs)
        _check_tensors("states", self.states)
        _check_tensors("outputs", self.outputs)
        _check_sizes([*self.inputs, *self.states, *self.outputs])
        _check_distinct("input", (*self.inputs,), [state.input_name for state in self.states])
        _check_distinct("output", self.outputs, [state.output_name for state in self.states])


def _check_sizes(tensors: Sequence[Input | StateTensor | Output]) -> None:
    """Check that there are not too many tensors, and that together they fit into memory."""
    if len(tensors) > _TENSORS_LIMIT:
        raise BadInput(f"contract has {len(tensors)} tensors; a step may have {_TENSORS_LIMIT}")
    elements = sum(prod(tensor.shape) for tensor in tensors)
    if elements > _ELEMENTS_LIMIT:
        raise BadInput(
            f"contract declares tensors of {elements} elements in total; a step may have "
            f"{_ELEMENTS_LIMIT} (1 GB in float32)"
        )


def _check_distinct(what: str, tensors: Sequence[Input | Output], states: Sequence[str]) -> None:
    """Raise `BadInput` if an input or output has the name of a state's tensor in the artifact."""
    for tensor in tensors:
        if tensor.name in states:
            raise BadInput(
                f"contract has two {what}s named {shown(tensor.name)}, one of them a state's; "
                "rename one of them"
            )


def _check_tensors(where: str, tensors: Sequence[Input | StateTensor | Output]) -> None:
    """Check that names are there and differ, and that shapes fit into memory."""
    names = [tensor.name for tensor in tensors]
    for position, name in enumerate(names):
        if not name:
            raise BadInput(f"contract.{where}: entry {position} has no name; give it one")
        if name in names[:position]:
            raise BadInput(
                f"contract.{where} has two entries named {shown(name)}; rename one of them"
            )
    for tensor in tensors:
        if len(tensor.shape) > _AXES_LIMIT:
            raise BadInput(
                f"contract.{where}: {shown(tensor.name)} has {len(tensor.shape)} axes; use at most "
                f"{_AXES_LIMIT}"
            )
        if min(tensor.shape, default=1) < 1 or prod(tensor.shape) > _ELEMENTS_LIMIT:
            raise BadInput(
                f"contract.{where}: {shown(tensor.name)} has an unusable shape; every axis needs "
                f"at least 1 element, and all together at most {_ELEMENTS_LIMIT}"
            )
