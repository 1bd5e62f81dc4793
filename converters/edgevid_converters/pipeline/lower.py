"""The fourth stage: lower the model and record its streams, in a child process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.errors import EdgevidError
from edgevid.evidence import LoweringAttempt, ReferenceRecord
from edgevid.isolation.child_task import error_from_json
from edgevid.proof import Golden, Trajectory
from edgevid_converters import target_selection
from edgevid_converters.calibration import checks, observed, sensitivity, trajectories
from edgevid_converters.calibration.golden_clip import golden_clip
from edgevid_converters.calibration.observed import ObservedSteps
from edgevid_converters.calibration.sensitivity import Sensitivities
from edgevid_converters.child_process import LOWERING, ChildFailed, ask
from edgevid_converters.lowering import edgetpu
from edgevid_converters.lowering.artifact_builder import ArtifactBuilder
from edgevid_converters.pipeline.context import LOWER, ConversionRun
from edgevid_converters.pipeline.data import ConversionData
from edgevid_converters.pipeline.lowering_cache import LoweringCache, annotated_steps
from edgevid_converters.pipeline.plan import Plan
from edgevid_converters.pipeline.source import ConversionSource

if TYPE_CHECKING:
    from edgevid.contract import Tensors
    from edgevid.data.cache import Clips


@dataclass(frozen=True)
class LoweredModel:
    """The model, lowered to what the converters take, and what it computed on the clips.

    Attributes:
        builder: Builds artifacts of it.
        golden: Golden trajectories recorded from it.
        source_outputs: Its outputs for each held-out clip.
        reference: The comparison with its owner's outputs, if given.
        calibration_sha256: Hash of the recorded calibration.
        notes: Findings about the calibration, the target and the outputs.
        refused: Format -> why the model could not be lowered for it.
        sensitivity: Precision -> tensor -> how far it moves in the source model itself.
        observed: Calibration steps with its outputs; None if no integer artifact is planned.
        owner: The owner's streams, each with its outputs on it.
        attempts: The ways that were tried to lower it, if there are several.
    """

    builder: ArtifactBuilder
    golden: Golden
    source_outputs: tuple[Tensors, ...]
    reference: ReferenceRecord | None
    calibration_sha256: str
    notes: tuple[str, ...]
    refused: Mapping[str, EdgevidError] = field(default_factory=dict)
    sensitivity: Sensitivities = field(default_factory=dict)
    observed: ObservedSteps | None = None
    owner: tuple[tuple[Tensors, Tensors], ...] = ()
    attempts: tuple[LoweringAttempt, ...] = ()


def lower_model(
    plan: Plan, source: ConversionSource, data: ConversionData, run: ConversionRun
) -> LoweredModel:
    """Lower the model, record its streams and check them.

    A format whose form of the model cannot be made does not stop the others.

    Raises:
        BadInput: The calibration clips are of no use, or the model's outputs are not numbers.
        CheckFailed: The model does not compute its owner's outputs.
        ChildFailed: Lowering crashed.
    """
    model = source.model
    run.report("lowering the model", LOWER)
    notes = _calibration_notes(plan, source, data)
    lowered = lower_in_child(source, data, run.folder, observe=plan.observes)
    if plan.calibrates:
        checks.check_states(trajectories.read_arrays(run.folder / "calibration"), model)
    refused = refused_formats(source, lowered)
    forms = {name: form for name, form in source.forms.items() if name not in refused}
    if not forms:
        raise next(iter(refused.values()))
    builder = ArtifactBuilder(forms, lowered, run.folder, plan.options.allow_float, plan.as_it_is)
    if plan.as_it_is:
        name, own = model.path.name, model.quantised
        notes.append(f"{name} is quantised already ({own}) and is used as it is")
    attempts = tuple(LoweringAttempt(**one) for one in lowered["attempts"])
    notes += _accelerator_notes(plan, builder) + _lowering_notes(attempts)
    for note in notes:
        run.report.note(note)
    reference = _check_owner(source, plan.options.contract, run.folder)
    golden = read_golden(model.contract, run.folder)
    notes += checks.check_outputs(_all_outputs(golden))
    return LoweredModel(
        builder,
        golden,
        _source_outputs(data.held_out, run.folder),
        reference,
        _sha256(run.folder / "calibration"),
        tuple(notes),
        refused,
        sensitivity.read(lowered["sensitivity"]),
        observed.read(run.folder) if plan.observes else None,
        _owner_pairs(source, run.folder),
        attempts,
    )


def refused_formats(
    source: ConversionSource, lowered: Mapping[str, Any]
) -> dict[str, EdgevidError]:
    """Return why the model could not be lowered for some formats."""
    failed = {form: error_from_json(error) for form, error in lowered["refused"].items()}
    forms = source.forms.items()
    return {**source.refused, **{name: failed[form] for name, form in forms if form in failed}}


def lower_in_child(
    source: ConversionSource, data: ConversionData, folder: Path, *, observe: bool = True
) -> dict[str, Any]:
    """Lower the model to each form and record its streams into ``folder``.

    With ``observe`` the outputs on calibration steps are recorded too; see
    `edgevid_converters.calibration.observed`.

    If lowering to one form crashes, a new child makes the others.

    Returns:
        ``lowered``, the path of each form, ``refused``, the errors of forms that could not be made,
        and ``trajectories``, the paths of the calibration.

    Raises:
        ChildFailed: The model's own runtime, or lowering to every form, crashed.
    """
    forms = sorted(set(source.forms.values()))
    kept = LoweringCache.of(source, data, folder, observe=observe)
    lowered, attempts = kept.forms(forms) if kept else ({}, [])
    recorded = kept.recordings() if kept else None
    left = [form for form in forms if form not in lowered]
    answer: dict[str, Any] = {"lowered": {}, "refused": {}, "attempts": []}
    if left or recorded is None:
        task = _lowering_task(source, data, folder)
        task |= {"forms": left, "record": recorded is None, "observe": observe}
        answer = ask_for_forms(task, others=bool(lowered))
        if kept:
            kept.keep(answer, recorded=recorded is None)
    answer |= recorded or {}
    answer["attempts"] = answer["attempts"] or attempts
    answer["lowered"] = {**lowered, **answer["lowered"]}
    answer["contract"] = source.model.contract.to_json()
    return answer | {"hashes": kept.hashes(answer) if kept else None}


def _lowering_task(source: ConversionSource, data: ConversionData, folder: Path) -> dict[str, Any]:
    """Write what the child reads; returns its task."""
    trajectories.write_clips(folder / "clips.npz", data.clips)
    if data.held_out is not None:
        name = source.model.contract.frame.name
        frames = [{name: images} for images in data.held_out.images]
        trajectories.write_clips(folder / "held_out.npz", frames)
    if source.owner is not None:
        trajectories.write_clips(folder / "reference.npz", source.owner.to_run)
    return {
        "do": "lower",
        **source.model.to_task(),
        "files": [str(path) for path in source.model.files],
        "starts": source.model.starts_children,
        "clips": str(folder / "clips.npz"),
        "held_out": str(folder / "held_out.npz") if data.held_out is not None else None,
        "annotated": annotated_steps(source, data),
        "reference": str(folder / "reference.npz") if source.owner is not None else None,
        "reference_moves": _moves(source),
        "out": str(folder),
    }


def ask_for_forms(task: Mapping[str, Any], *, others: bool = False) -> dict[str, Any]:
    """Run the task, again without each form at which it crashes.

    Args:
        task: The task.
        others: Whether other forms are there already, so that all of these may fail.

    Raises:
        ChildFailed: The child crashed elsewhere, or at the only form.
    """
    forms = list(task["forms"])
    crashed: dict[str, Any] = {}
    while True:
        try:
            answer = ask(
                "lowering the model",
                {**task, "forms": forms},
                read=task["files"],
                write=Path(task["out"]),
                starts=task["starts"],
            )
        except ChildFailed as error:
            form = error.at.removeprefix(LOWERING)
            if form not in forms or (len(forms) == 1 and not others):
                raise
            forms.remove(form)
            crashed[form] = {"error": "ConverterFailed", "message": str(error)}
            continue
        return answer | {"refused": crashed | answer["refused"]}


def read_golden(contract: Contract, folder: Path) -> Golden:
    """Read the golden trajectories that lowering recorded, and add the golden clip."""
    found = sorted((folder / "golden").iterdir(), key=lambda path: int(path.name))
    recorded = tuple(
        Trajectory(
            trajectories.read_arrays(path / "inputs"),
            trajectories.read_arrays(path / "outputs"),
            trajectories.read_arrays(path / "states"),
        )
        for path in found
    )
    if not contract.frame_inputs:
        return Golden(recorded)
    clip, pixels = golden_clip(contract.frame_inputs[0], contract.rate_fps)
    return Golden(recorded, clip=clip, pixels=pixels)


def _calibration_notes(plan: Plan, source: ConversionSource, data: ConversionData) -> list[str]:
    if not plan.calibrates:
        return []
    held_out: Sequence[Any] = data.held_out.images if data.held_out is not None else ()
    return checks.check(data.clips, source.model, held_out)


def _accelerator_notes(plan: Plan, builder: ArtifactBuilder) -> list[str]:
    """Which operators the target's accelerators do not take."""
    target = plan.target
    if target is None:
        return []
    needed = target_selection.formats_to_read(target, plan.quantisations)
    operators = {name: builder.operators(name) for name in needed if name in builder.forms}
    notes = target_selection.unsupported_operators(target, operators, plan.quantisations)
    if target_selection.wants_edgetpu(target) and not edgetpu.there():
        notes.append(f"nothing is compiled for the Edge TPU: {edgetpu.GET}")
    return notes


def _lowering_notes(attempts: Sequence[LoweringAttempt]) -> list[str]:
    """Which way was used instead of one that failed."""
    failed = [f"{one.way}: {one.failure}" for one in attempts if one.failure]
    return [f"lowered to TFLite by {attempts[-1].way}, since {'; '.join(failed)}"] if failed else []


def _check_owner(
    source: ConversionSource, contract: Path | None, folder: Path
) -> ReferenceRecord | None:
    if source.owner is None:
        return None
    given = _owner_given(source, folder)
    where = str(contract or f"the contract of {source.model.path.name}")
    return source.owner.check(given, where)


def _moves(source: ConversionSource) -> list[dict[str, Any] | None]:
    """What is applied to each of the owner's streams; plain data."""
    moves = source.owner.moves if source.owner is not None else ()
    return [asdict(move) if move is not None else None for move in moves]


def _owner_pairs(source: ConversionSource, folder: Path) -> tuple[tuple[Any, Any], ...]:
    """The owner's frames and the model's outputs on them, in the contract's normalisation."""
    if source.owner is None:
        return ()
    given = zip(source.owner.to_run, _owner_given(source, folder), strict=True)
    return tuple(pair for pair, move in zip(given, source.owner.moves, strict=True) if move is None)


def _owner_given(source: ConversionSource, folder: Path) -> list[dict[str, Any]]:
    """The model's outputs on each of the owner's streams."""
    count = len(source.owner.to_run) if source.owner is not None else 0
    return [trajectories.read_arrays(folder / "reference" / str(index)) for index in range(count)]


def _all_outputs(golden: Golden) -> dict[str, Any]:
    """The source model's outputs over all golden steps, by output."""
    import numpy as np

    parts = [one.outputs for one in golden.trajectories]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _source_outputs(held_out: Clips | None, folder: Path) -> tuple[Tensors, ...]:
    if held_out is None:
        return ()
    stacked = trajectories.read_arrays(folder / "held_out")
    rows = zip(*stacked.values(), strict=True)
    return tuple(dict(zip(stacked, row, strict=True)) for row in rows)


def _sha256(folder: Path) -> str:
    """One hash over the recorded calibration."""
    total = hashlib.sha256()
    for file in sorted(folder.glob("*.npy")):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()
