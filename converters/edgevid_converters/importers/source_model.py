"""A model as a conversion sees it: what is known before it is loaded, and once it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgevid.contract import Contract
from edgevid_converters.importers.preprocessing import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgevid.evidence import LoweringAttempt

    Move = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class SourceModel:
    """A model before it is loaded.

    Attributes:
        kind: Name of its importer; ``run`` for a run folder.
        path: File or folder of the model.
        contract: Its contract.
        forms: The forms that it can be lowered to, see `ReferenceModel.lower`.
        record: What the bundle's evidence keeps of it; no times, no absolute paths.
        data: Folder of the training data, if known.
        split: Recorded split of that data: name -> paths below ``data``.
        preprocessing: Maps the contract's tensors to an imported model's own; None for a run,
            whose step has the contract's tensors itself.
        quantised: The quantisation that the model has already; ``float32`` for none.
        companions: Other files that belong to it.
        starts_children: Whether lowering it runs tasks in child processes of its own.
        trusted: Whether the user accepts code in the model.
    """

    kind: str
    path: Path
    contract: Contract
    forms: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    data: Path | None = None
    split: Mapping[str, Sequence[str]] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    quantised: str = "float32"
    companions: Sequence[Path] = ()
    starts_children: bool = False
    trusted: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that loading it reads: its file or folder, and its companions."""
        return (self.path.resolve(), *self.companions)

    @property
    def imported(self) -> bool:
        """Whether its preprocessing comes from a contract file, which may be wrong."""
        return self.preprocessing is not None

    def form_for(self, accepted: Sequence[str]) -> str | None:
        """Return the first of ``accepted`` that it can be lowered to; None if it is none."""
        return next((form for form in accepted if form in self.forms), None)

    def to_task(self) -> dict[str, Any]:
        """Return what a child process needs to load the model, as plain data."""
        return {
            "kind": self.kind,
            "model": str(self.path.resolve()),
            "contract": self.contract.to_json(),
            "preprocessing": self.preprocessing.to_json() if self.preprocessing else None,
            "trusted": self.trusted,
        }

    @classmethod
    def from_task(cls, task: Mapping[str, Any]) -> SourceModel:
        """Read what `to_task` returned."""
        preprocessing = task["preprocessing"]
        return cls(
            kind=task["kind"],
            path=Path(task["model"]),
            contract=Contract.from_json(task["contract"]),
            preprocessing=Preprocessing.from_json(preprocessing) if preprocessing else None,
            trusted=bool(task.get("trusted")),
        )


class ReferenceModel(Protocol):
    """A loaded model of any kind, in its own runtime; its inputs and outputs are float32."""

    forms: tuple[str, ...]
    """Those of ``saved_model``, ``onnx``, ``ir`` and ``tflite`` that it can be lowered to."""

    @property
    def precision(self) -> str:
        """The arithmetic of the model itself: ``float32`` or ``float16``."""

    @property
    def attempts(self) -> tuple[LoweringAttempt, ...]:
        """The ways that `lower` tried where there are several; the last one succeeded."""

    def step(
        self, inputs: Mapping[str, NDArray[Any]], move: Move | None = None
    ) -> dict[str, NDArray[Any]]:
        """Take one step.

        Args:
            inputs: Every input and state by its full name (``frame``, ``state_x``): uint8 RGB
                ``(1, H, W, 3)`` for a frame, float32 of the contract's shape for the others.
            move: Applied to each float array that enters the model itself, after preprocessing; it
                returns an array of the same shape and dtype.

        Returns:
            Every output and next state (``next_x``) by name, float32.
        """

    def last_outputs(
        self, clips: Sequence[Mapping[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]] | None:
        """Compute the outputs at the last step of each recording at once.

        Args:
            clips: Recordings: for each input by name one row per step, of a frame uint8 RGB
                ``(steps, H, W, 3)``.

        Returns:
            Output name -> float32 ``(clips, *shape)``; None if the model can only be stepped.
        """

    def lower(self, form: str, folder: Path) -> Path:
        """Write the step in one of ``forms`` into ``folder``.

        The tensors have the contract's names, and the preprocessing is part of the graph. A
        SavedModel's ``serving_default`` is the step.

        Returns:
            The path of the file or folder written.
        """
