"""The evidence of a bundle: what a conversion proves about each artifact before writing the bundle.

It is part of the bundle's manifest and holds no times and no paths of the machine, so that equal
conversions write equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgevid import documents
from edgevid.documents import optional

NAMED = 3
"""Settings that a line names."""
PreprocessingProof = Literal["own", "reference", "floor", "unproven"]
PREPROCESSING_PROOF: Mapping[PreprocessingProof, str] = {
    "own": "the model's own: edgevid trained it with this preprocessing",
    "reference": "compared with the model owner's outputs",
    "floor": "the metric reaches the required minimum on labelled clips",
    "unproven": "unproven: nothing shows that the model gets the input that it was trained on",
}
"""What shows that the preprocessing of a model is right."""


@dataclass(frozen=True)
class CalibrationRecord:
    """What the integer artifacts are calibrated on."""

    clips: tuple[str, ...] = ()
    """The clips, below their folder."""
    sha256: str = ""
    """Hash of the recorded inputs and states."""


@dataclass(frozen=True)
class LeftOutClip:
    """A clip that could not be used."""

    path: str
    reason: str


@dataclass(frozen=True)
class HeldOutRecord:
    """The labelled clips that the metric is measured on."""

    split: str = "test"
    clips: int = 0
    reason: str | None = optional()
    """Why there are none."""
    left_out: tuple[LeftOutClip, ...] | None = optional()
    """Clips that could not be read; absent if there are no clips at all."""


@dataclass(frozen=True)
class ReferenceRecord:
    """The comparison of an imported model with outputs that its owner recorded elsewhere."""

    steps: int
    max_abs: float
    """Largest difference, in units of the output's range where that exceeds 1."""
    sha256: str
    """Hash of the owner's inputs and outputs."""
    kind: Literal["inputs", "tensor", "images", "video"] = "tensor"
    """What the outputs belong to: the inputs of a model without frames, frames of the model's own
    size, whole images, or whole videos."""
    files: tuple[str, ...] = ()
    """Names of the videos or of the files with the images."""
    mean_abs: float | None = optional()
    """Mean over the steps of each step's largest difference; only for whole frames."""
    limit: float | None = optional()
    """The largest accepted mean: what another way of decoding changes."""
    proven: tuple[str, ...] = ()
    """The settings (colour, fit, resize) that other values would make differ from the owner's."""
    alike: tuple[str, ...] = ()
    """Other settings that give outputs as near to the owner's."""


@dataclass(frozen=True)
class GateRecord:
    """The limits that every artifact must meet."""

    max_drop: float
    """Largest allowed drop of the task's metric from source model to artifact."""
    min_metric: float | None = None
    """Minimum of the metric for both."""
    reference: ReferenceRecord | None = None
    notes: tuple[str, ...] = ()
    """What the data cannot show, and other findings."""


@dataclass(frozen=True)
class TensorDifference:
    """The difference of one tensor from the source model's, over the golden trajectories."""

    max_abs: float | None
    """In units of ``range`` where that exceeds 1; null where a value is not a number."""
    mean_abs: float | None
    range: float
    """Largest magnitude in the source model."""


@dataclass(frozen=True)
class TensorSensitivity:
    """How far a tensor moves in the source model for a step of one unit in the last place.

    All inputs and states of the model take the step; the movement is in units of the tensor's range
    where that exceeds 1.
    """

    max_abs: float
    mean_abs: float
    allowed: float
    """The largest difference that an artifact of this precision may have."""


@dataclass(frozen=True)
class OperatorCount:
    """How many operators of a kind compute in one type."""

    kind: str
    computes: str
    count: int


@dataclass(frozen=True)
class FloatRemainder:
    """What the quantiser of an integer artifact left in float32."""

    operators: tuple[str, ...]
    """Kinds with counts, such as ``Convolution x16``."""
    names: tuple[str, ...]
    """Names in the graph."""
    share: float | None
    """Share of the artifact's arithmetic, 0 to 1: multiply-adds of products, elements of other
    operators; null: unknown."""


@dataclass(frozen=True)
class LayerCost:
    """The error of the model's outputs with one layer alone in int8."""

    name: str
    kind: str
    error: float | None
    """Root mean square, as a share of the outputs' standard deviation; null: not a number."""


@dataclass(frozen=True)
class LoweringAttempt:
    """One way of lowering a model of another tool to TensorFlow."""

    way: str
    """``operators``, edgevid's own table of operators, or the package that was used."""
    difference: float | None = None
    """Largest difference of the float32 model's outputs from the source, as a share of an output's
    range where that exceeds 1, over three random inputs; null: it failed."""
    failure: str | None = None
    """Why it failed."""


@dataclass(frozen=True)
class RepairTry:
    """One attempt of a repair."""

    kept: tuple[str, ...]
    """Layers kept in float32."""
    ok: bool
    reason: str | None
    """Which gate rejected it."""
    bytes: int
    metric: float | None
    agreement: float | None
    max_abs: float | None
    n: int | None = optional()
    """How many frames ``agreement`` rests on."""


@dataclass(frozen=True)
class RepairRecord:
    """How an int8 artifact was brought within the budget."""

    reason: str
    """Why the artifact with every layer in int8 was rejected."""
    kept: tuple[str, ...] | None
    """Layers kept in float32 in the bundle; null if no attempt was accepted."""
    rungs: tuple[RepairTry, ...]
    """Every attempt, in order."""


def repair_choice(rungs: Iterable[Mapping[str, Any]], kept: Sequence[str]) -> str:
    """Explain why a repair keeps one attempt although others may look better.

    Args:
        rungs: Every attempt, as `RepairTry` in JSON.
        kept: The layers that are kept in float32.
    """
    more = sum(bool(one["ok"]) and len(one["kept"]) > len(kept) for one in rungs)
    text = (
        "Kept: the accepted attempt with the fewest layers in float32. With more of them an "
        "artifact may be closer to the model, but it is larger and slower, and this one meets "
        "every gate"
    )
    others = "another accepted attempt keeps" if more == 1 else f"{more} accepted attempts keep"
    return f"{text}; {others} more." if more else f"{text}."


@dataclass(frozen=True)
class Evidence:
    """What a conversion proves about each artifact; mappings are keyed by artifact name."""

    schema_version: Literal[1] = 1
    source: Mapping[str, Any] = field(default_factory=dict)
    """The source model, as its importer records it: ``kind`` and, by kind, hashes, training."""
    split: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The recorded split of the data: name -> clips."""
    calibration: CalibrationRecord = CalibrationRecord()
    held_out: HeldOutRecord = HeldOutRecord()
    preprocessing: PreprocessingProof | None = None
    """What shows that the model gets the input that it was trained on: the training itself
    (own), its owner's outputs (reference), a minimum of the metric (floor), or nothing."""
    gates: GateRecord | None = None
    outputs: Mapping[str, Mapping[str, TensorDifference]] = field(default_factory=dict)
    """By artifact and tensor."""
    sensitivity: Mapping[str, Mapping[str, TensorSensitivity]] = field(default_factory=dict)
    """By precision and tensor; empty if the model takes bytes only."""
    operators: Mapping[str, tuple[OperatorCount, ...]] = field(default_factory=dict)
    """By artifact."""
    float_remainder: Mapping[str, FloatRemainder] = field(default_factory=dict)
    """By integer artifact; absent for one that is integer throughout."""
    layers: Mapping[str, tuple[LayerCost, ...]] = field(default_factory=dict)
    """By artifact; the most expensive layer first."""
    lowering: tuple[LoweringAttempt, ...] = ()
    """How an ONNX model was lowered to TFLite: the ways tried in order, the last one was used."""
    repair: Mapping[str, RepairRecord] = field(default_factory=dict)
    """By repaired artifact."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of Python and the libraries."""
    task: Mapping[str, Any] = field(default_factory=dict)
    """The open part: whatever the task adds."""
    refused: Mapping[str, str] | None = optional()
    """By artifact that was asked for and did not pass: why; absent if every artifact passed."""

    def kept(self, artifact: str) -> tuple[str, ...]:
        """Return the layers of an int8 artifact that are kept in float32."""
        repair = self.repair.get(artifact)
        return (repair.kept or ()) if repair else ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return dict(documents.to_json(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any], name: str = "evidence") -> Evidence:
        """Read what `to_json` returned; a part that is missing is empty.

        Args:
            data: Plain data.
            name: What to call the document in an error.

        Raises:
            BadInput: A value has the wrong type.
        """
        return documents.from_json(cls, data, name, "convert the model again")


def preprocessing_text(
    proof: PreprocessingProof | None, reference: ReferenceRecord | None = None
) -> str:
    """Say in a line what shows that the preprocessing of a model is right.

    Args:
        proof: The kind of proof; None if unknown.
        reference: The comparison with the owner's outputs, if there is one.
    """
    if proof is None:
        return "unknown"
    if proof != "reference" or reference is None:
        return PREPROCESSING_PROOF[proof]
    if reference.kind == "inputs":
        return f"inputs proven by the model owner's outputs on {reference.steps} steps"
    if reference.kind == "tensor":
        return (
            f"only the tensor input is proven, by the model owner's outputs on {reference.steps} "
            "frames of the model's own size: decoding, scaling and fit are not"
        )
    return _whole_frames_text(reference)


def _whole_frames_text(reference: ReferenceRecord) -> str:
    names = {"colour": "colour", "resize": "scaling", "fit": "fit"}
    proven = [text for name, text in names.items() if name in reference.proven]
    missing = [text for name, text in names.items() if name not in reference.proven]
    if proven and reference.kind == "video":
        proven.insert(0, "decoding")
    else:
        missing.insert(0, "decoding")
    where = f"{reference.steps} whole frames of {', '.join(reference.files)}"
    text = f"{_listed(proven)} proven by the model owner's outputs on {where}"
    if not proven:
        text = f"nothing proven by the model owner's outputs on {where}"
    if missing:
        text += f"; not proven: {_listed(missing)}"
    if reference.alike:
        more = len(reference.alike) - NAMED
        named = [*reference.alike[:NAMED], *([f"{more} more"] if more > 0 else [])]
        text += f"; {_listed(named)} would match as well"
    return text


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""
