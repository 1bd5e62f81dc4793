"""The contract TOML of an imported model: what the model's own file does not record.

    task = "classification"             # or "raw": the output tensors
    rate_fps = 15                       # steps per second
    labels_file = "labels.txt"          # or labels = [...]

    [[input]]                           # x = (pixel / scale - mean) / std
    kind = "frame"                      # or audio, vector; constant never changes
    scale = 255
    mean = [0.485, 0.456, 0.406]

    [[state]]                           # an output that is the next step's input
    name = "memory"
    input = "state"
    output = "stateN"

    [[output]]
    name = "scores"
    output = "logits"
    softmax = true

    [shapes]
    "input.1" = [1, 3, 224, 224]

A misspelt key is rejected with its line and the closest match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgevid.contract import FRAME, Fit, Resize
from edgevid.errors import BadInput
from edgevid.settings import option, positive, read, whole
from edgevid.text import expand
from edgevid_converters.importers.preprocessing import Colour, Layout

ENDING = ".contract.toml"
CARRIED_FRAMES = 8
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("a name of letters, digits and underscores")
    return value


def _values(value: Any) -> tuple[float, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or any(type(one) not in (int, float) or not abs(one) < 1e30 for one in listed):
        raise ValueError("a number, or a list of numbers")
    return tuple(float(one) for one in listed)


def _channels(value: Any) -> tuple[float, ...]:
    listed = _values(value)
    if len(listed) not in (1, 3):
        raise ValueError("a number, or one for each of three channels")
    return listed


def _divisors(value: Any) -> tuple[float, ...]:
    listed = _channels(value)
    if not all(listed):
        raise ValueError("numbers other than 0")
    return listed


@dataclass(frozen=True)
class FrameTable:
    """An ``[[input]]`` that takes images; see `ImageMapping` for its arithmetic.

    Without ``scale``, ``mean`` and ``std`` a quantised input takes pixels as they are.
    """

    name: str = option(FRAME, read=_name)
    input: str | None = None
    height: int | None = option(None, read=whole(1))
    width: int | None = option(None, read=whole(1))
    fit: Fit = "stretch"
    resize: Resize = "area"
    colour: Colour = "rgb"
    layout: Layout | None = None
    frames: int | None = option(None, read=whole(2))
    scale: float | None = option(None, read=positive)
    mean: tuple[float, ...] | None = option(None, read=_channels)
    std: tuple[float, ...] | None = option(None, read=_divisors)
    kind: Literal["frame"] = "frame"


@dataclass(frozen=True)
class AudioTable:
    """An ``[[input]]`` that takes mono audio."""

    sample_rate_hz: int = option(read=whole(1))
    name: str | None = option(None, read=_name)
    input: str | None = None
    samples: int | None = option(None, read=whole(1))
    kind: Literal["audio"] = "audio"


@dataclass(frozen=True)
class VectorTable:
    """An ``[[input]]`` that takes any other tensor that is new at every step."""

    name: str | None = option(None, read=_name)
    input: str | None = None
    shape: tuple[int, ...] = ()
    kind: Literal["vector"] = "vector"


@dataclass(frozen=True)
class ConstantTable:
    """An ``[[input]]`` that never changes."""

    input: str
    value: tuple[float, ...] = option(read=_values)
    shape: tuple[int, ...] = ()
    kind: Literal["constant"] = "constant"


@dataclass(frozen=True)
class StateTable:
    """A ``[[state]]``: an output of the model that is an input of the next step."""

    name: str = option(read=_name)
    input: str = ""
    output: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class OutputTable:
    """An ``[[output]]``: the contract's name of one output of the model."""

    name: str = option(read=_name)
    output: str | None = None
    softmax: bool = False


@dataclass(frozen=True)
class ContractFile:
    """The whole file."""

    task: str
    rate_fps: float = option(read=positive)
    labels: tuple[str, ...] = ()
    labels_file: str | None = None
    frames: int = option(CARRIED_FRAMES, read=whole(1))
    state: tuple[StateTable, ...] = ()
    input: tuple[FrameTable | AudioTable | VectorTable | ConstantTable, ...] = ()
    output: tuple[OutputTable, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def labels_beside(file: Path) -> Path | None:
    """Return the path of the labels file that a contract file names; None if it names none."""
    with suppress(BadInput):  # whoever reads the whole file reports what is wrong with it
        named = read(file).data.get("labels_file")
        if isinstance(named, str):
            return file.parent / expand(named)
    return None


def default_contract_path(model: Path) -> Path:
    """Return the default path: ``face.contract.toml`` next to ``face.tflite``."""
    return model.with_name((model.name if model.is_dir() else model.stem) + ENDING)
