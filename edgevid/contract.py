"""What one step takes and gives. Frozen, plain data; it travels in every run and bundle.

A step is ``step(frame, state) -> answer, state'``. Its tensors have fixed names: the frame is
``frame``, uint8 ``(1, height, width, 3)``; a state tensor ``x`` goes in as ``state_x`` and comes
out as ``next_x``; every other output has its own name. States and outputs are float32 with a
leading batch axis of 1. Everything goes by name, nothing by an order of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from edgevid import settings
from edgevid.errors import BadInput
from edgevid.settings import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]

Fit = Literal["stretch", "letterbox", "crop"]
Temporal = Literal["none", "window", "carry"]

FRAME = "frame"
SCORES = "scores"
_SIDE_LIMIT = 1 << 14
_ELEMENTS_LIMIT = 1 << 28  # a gibibyte of float32


@dataclass(frozen=True)
class FrameInput:
    """One picture of the stream: uint8 RGB, ``(1, height, width, 3)``.

    ``fit`` says how the camera's picture comes to that size (always with swscale's AREA filter):
    ``stretch`` scales both axes on their own, ``crop`` scales the shorter side and cuts the middle,
    ``letterbox`` scales the longer side and pads with grey. ``rate_fps`` is the rate of steps.
    """

    height: int
    width: int
    rate_fps: float
    fit: Fit = "stretch"
    colour: Literal["rgb"] = "rgb"


@dataclass(frozen=True)
class StateTensor:
    """One named tensor of memory, float32, all zeros at the start of a stream."""

    name: str
    shape: tuple[int, ...]

    @property
    def taken(self) -> str:
        """The name of the step's input."""
        return f"state_{self.name}"

    @property
    def given(self) -> str:
        """The name of the step's output."""
        return f"next_{self.name}"


@dataclass(frozen=True)
class Output:
    """One named answer tensor, float32."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signal:
    """What a step takes that takes no picture: a piece of sound, say; float32.

    Such a model is converted and proven, but nothing serves it to a camera: of its contract's
    ``frame`` only ``rate_fps`` means something, the rate of steps.
    """

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Contract:
    """Everything that a runner must know to feed a step and to read its answer.

    ``warm_after`` is the number of frames after which an answer has seen all that it can remember:
    T for ``window``, 1 for ``none`` and ``carry``. ``labels`` are empty where the task has none.
    """

    task: str
    frame: FrameInput
    outputs: tuple[Output, ...]
    labels: tuple[str, ...]
    temporal: Temporal = "none"
    frames: int = 1
    states: tuple[StateTensor, ...] = ()

    signal: Signal | None = None

    @property
    def main(self) -> str:
        """The name of the input that is new at every step: the frame, or the signal."""
        return self.signal.name if self.signal else FRAME

    @property
    def warm_after(self) -> int:
        """Frames until an answer is no longer marked as warming up."""
        return self.frames if self.temporal == "window" else 1

    def to_json(self) -> dict[str, Any]:
        """Give plain data for JSON; ``signal`` only where there is one."""
        data = asdict(self)
        return data if self.signal else {k: v for k, v in data.items() if k != "signal"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contract:
        """Read what `to_json` gave; raises `BadInput` that names the wrong key."""
        contract = settings.build_json(cls, data, "contract")
        contract.check()
        return contract

    def check(self) -> None:
        """Raise `BadInput` where a value makes no sense."""
        frame = self.frame
        if not (1 <= frame.height <= _SIDE_LIMIT and 1 <= frame.width <= _SIDE_LIMIT):
            raise BadInput("contract.frame needs a height and width from 1 to 16384")
        if not 0 < frame.rate_fps <= 1000:
            raise BadInput("contract.frame needs a positive rate_fps of at most 1000")
        if self.frames < 1:
            raise BadInput("contract.frames must be at least 1")
        if (self.temporal == "none") != (not self.states):
            raise BadInput("contract.states must be empty exactly when contract.temporal is none")
        if self.signal:
            _check_tensors("signal", (self.signal,))
        _check_tensors("states", self.states)
        _check_tensors("outputs", self.outputs)


def _check_tensors(where: str, tensors: Sequence[Signal | StateTensor | Output]) -> None:
    """Names are there and differ; shapes are such as fit into memory."""
    names = [tensor.name for tensor in tensors]
    if len(set(names)) < len(names) or "" in names:
        raise BadInput(f"contract.{where} must have names that differ")
    for tensor in tensors:
        if min(tensor.shape, default=1) < 1 or prod(tensor.shape) > _ELEMENTS_LIMIT:
            raise BadInput(f"contract.{where}: {shown(tensor.name)} has an unusable shape")
