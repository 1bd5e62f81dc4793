"""Kinds of models that can be converted, one file each.

A kind says what a model is without loading it (`describe`, in the parent process), and loads it to
answer steps and to be lowered to a SavedModel (`load`, in a child process).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgevid.contract import Contract
from edgevid.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = ("run",)


@dataclass(frozen=True)
class Source:
    """What is known of a model before it is loaded.

    ``record`` is what the bundle keeps about it, without times and places. ``data`` is the folder
    that it was trained on, ``split`` the recorded paths below it.
    """

    kind: str
    path: Path
    contract: Contract
    record: Mapping[str, Any] = field(default_factory=dict)
    data: Path | None = None
    split: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Model(Protocol):
    """A loaded model of any kind."""

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Take one step with the contract's full tensor names (``state_x``, ``next_x``)."""

    def last_answers(self, clips: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]] | None:
        """The answers at the last frame of each clip (N, H, W, 3), all at once: (clips, *shape).

        None where the model can only take step after step.
        """

    def lower(self, folder: Path) -> None:
        """Write a SavedModel whose ``serving_default`` is the step."""


def describe(path: Path) -> Source:
    """Recognise the model at ``path``; raises `BadInput` that says what would be one."""
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path} does not exist; give the run folder that edgevid train wrote")
    for kind in KINDS:
        module = import_module(f"{__name__}.{kind}")
        if module.matches(path):
            source: Source = module.describe(path)
            return source
    raise BadInput(f"{path} is not a run: it has no run.json; make one with edgevid train")


def load(kind: str, path: Path) -> Model:
    """Load the model at ``path``; raises `BadInput` where its files are damaged."""
    model: Model = import_module(f"{__name__}.{kind}").load(path)
    return model
