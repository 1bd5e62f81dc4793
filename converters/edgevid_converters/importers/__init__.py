"""Kinds of models that can be converted, one file each.

A kind says what a model is (`describe`), and loads it, in a child process, to answer steps in its
own reference runtime and to be lowered. What a model's file does not say comes from a contract
TOML; see `edgevid_converters.importers.contract_toml`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid_converters.importers.preprocessing import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = ("run", "saved_model", "keras", "onnx", "tflite", "openvino")
KNOWN = "a run folder, a SavedModel, .keras, .h5, .onnx, .tflite, or OpenVINO's .xml"


@dataclass(frozen=True)
class SourceModel:
    """What is known of a model before it is loaded.

    ``forms`` are those that it can be lowered to. ``record`` is what the bundle keeps about it,
    without times and places. ``data`` is the folder that it was trained on, ``split`` the recorded
    paths below it. ``preprocessing`` maps them to
    an imported model's own tensors; None for a run, whose step has the contract's own.
    """

    kind: str
    path: Path
    contract: Contract
    forms: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    data: Path | None = None
    split: Mapping[str, Sequence[str]] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None

    @property
    def imported(self) -> bool:
        """Whether its preprocessing comes from a contract file, which may be wrong."""
        return self.preprocessing is not None

    def to_task(self) -> dict[str, Any]:
        """What a child needs to load it, as plain data."""
        return {
            "kind": self.kind,
            "model": str(self.path.resolve()),
            "contract": self.contract.to_json(),
            "preprocessing": self.preprocessing.to_json() if self.preprocessing else None,
        }


def from_task(task: Mapping[str, Any]) -> SourceModel:
    """Read what `SourceModel.to_task` gave."""
    return SourceModel(
        kind=task["kind"],
        path=Path(task["model"]),
        contract=Contract.from_json(task["contract"]),
        preprocessing=Preprocessing.from_json(task["preprocessing"])
        if task["preprocessing"]
        else None,
    )


class ReferenceModel(Protocol):
    """A loaded model of any kind."""

    forms: tuple[str, ...]
    """Of ``saved_model``, ``onnx``, ``ir`` and ``tflite`` those that it can be lowered to."""

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Take one step with the contract's full tensor names (``state_x``, ``next_x``)."""

    def last_outputs(self, clips: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]] | None:
        """The answers at the last frame of each clip (N, H, W, 3), all at once: (clips, *shape).

        None where the model can only take step after step.
        """

    def lower(self, form: str, folder: Path) -> Path:
        """Write the step in ``form`` into ``folder``, and give the path of it.

        Its tensors have the contract's names, and whatever the model wants of its input is part of
        it. A SavedModel's ``serving_default`` is the step.
        """


def describe(path: Path, contract_file: Path | None = None) -> SourceModel:
    """Recognise the model at ``path``; raises `BadInput` that says what would be one."""
    path = Path(path)
    kind = kind_of(path)
    module = import_module(f"{__name__}.{kind}")
    if kind == "run":
        source: SourceModel = module.describe(path, contract_file)
        return source
    from edgevid_converters.importers import imported

    told = imported.describe(kind, path, contract_file)
    return SourceModel(
        kind=kind,
        path=path,
        contract=Contract.from_json(told["contract"]),
        forms=module.FORMS,
        record=told["record"],
        preprocessing=Preprocessing.from_json(told["preprocessing"]),
    )


def kind_of(path: Path) -> str:
    """The kind of the model at ``path``; raises `BadInput` that says what would be one."""
    if not path.exists():
        raise BadInput(f"{path} does not exist; give {KNOWN}")
    for kind in KINDS:
        if import_module(f"{__name__}.{kind}").matches(path):
            return kind
    what = "has no run.json; make one with edgevid train, or" if path.is_dir() else "is no model;"
    raise BadInput(f"{path} {what} give {KNOWN}")


def why_not(source: SourceModel, forms: Collection[str]) -> str:
    """Say why a source can take none of ``forms``."""
    if source.kind == "openvino":
        return "nothing turns OpenVINO's IR into it; give the model that the IR was made of"
    return f"it can be lowered to {', '.join(source.forms)} only, not to {', '.join(forms)}"


def load(source: SourceModel) -> ReferenceModel:
    """Load the model; raises `BadInput` where its files are damaged."""
    module = import_module(f"{__name__}.{source.kind}")
    if source.preprocessing is None:
        model: ReferenceModel = module.load(source)
        return model
    from edgevid_converters.importers.imported import ImportedModel

    return ImportedModel(source, module.FORMS)
