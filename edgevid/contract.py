"""What one step takes and gives. Frozen, plain data; it travels in every run and bundle.

A step is ``step(frame, state) -> answer, state'``. Its tensors have fixed names: the frame is
``frame``, uint8 ``(1, height, width, 3)``; a state tensor ``x`` goes in as ``state_x`` and comes
out as ``next_x``; every other output has its own name. States and outputs are float32 with a
leading batch axis of 1. Everything goes by name, nothing by an order of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from edgevid.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]

Fit = Literal["stretch", "letterbox", "crop"]
Temporal = Literal["none", "window", "carry"]

FRAME = "frame"
SCORES = "scores"


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
class Contract:
    """Everything that a runner must know to feed a step and to read its answer.

    ``warm_after`` is the number of frames after which an answer has seen all that it can remember:
    T for ``window``, 1 for ``none`` and ``carry``.
    """

    task: str
    frame: FrameInput
    outputs: tuple[Output, ...]
    labels: tuple[str, ...]
    temporal: Temporal = "none"
    frames: int = 1
    states: tuple[StateTensor, ...] = ()

    @property
    def warm_after(self) -> int:
        """Frames until an answer is no longer marked as warming up."""
        return self.frames if self.temporal == "window" else 1

    def to_json(self) -> dict[str, Any]:
        """Give plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contract:
        """Read what `to_json` gave; raises `BadInput` that names the wrong key."""
        known = _take(cls, data, "contract")
        known["frame"] = FrameInput(**_take(FrameInput, data["frame"], "contract.frame"))
        known["states"] = tuple(
            StateTensor(s["name"], tuple(s["shape"])) for s in data.get("states", ())
        )
        known["outputs"] = tuple(Output(o["name"], tuple(o["shape"])) for o in data["outputs"])
        known["labels"] = tuple(data["labels"])
        contract = cls(**known)
        contract.check()
        return contract

    def check(self) -> None:
        """Raise `BadInput` where a value makes no sense."""
        if self.temporal not in get_args(Temporal):
            raise BadInput(f"contract.temporal is {self.temporal!r}; use none, window or carry")
        if self.frame.fit not in get_args(Fit):
            raise BadInput(
                f"contract.frame.fit is {self.frame.fit!r}; use stretch, letterbox or crop"
            )
        if min(self.frame.height, self.frame.width) < 1 or not 0 < self.frame.rate_fps <= 1000:
            raise BadInput("contract.frame needs a positive height, width and rate_fps")
        if (self.temporal == "none") != (not self.states):
            raise BadInput("contract.states must be empty exactly when contract.temporal is none")


def _take(kind: type, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check the keys of ``data`` against the data class ``kind``."""
    if not isinstance(data, Mapping):
        raise BadInput(f"{where} must be a table of values, not {type(data).__name__}")
    names = {field.name for field in fields(kind)}
    if unknown := sorted(set(data) - names):
        raise BadInput(
            f"{where} has an unknown key {unknown[0]!r}; known: {', '.join(sorted(names))}"
        )
    return dict(data)
