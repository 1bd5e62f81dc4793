"""From a model to a bundle: lower, convert, prove, measure, write. All of it, or nothing."""

from __future__ import annotations

import hashlib
import platform
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import bundle as bundles
from edgevid import registry, targets
from edgevid.bundle import Artifact, Bundle
from edgevid.contract import Contract
from edgevid.errors import BadInput, MissingExtra
from edgevid.files import writing
from edgevid.progress import Progress, silent
from edgevid.proof import Golden, Trajectory
from edgevid.tasks.host import open_host
from edgevid_converters import graphs, importers, target_selection
from edgevid_converters.acceptance.gates import MAX_DROP, Budget
from edgevid_converters.acceptance.measurement import (
    AcceptanceResult,
    ArtifactAcceptance,
    BuiltArtifact,
)
from edgevid_converters.acceptance.reference import Reference, read_reference
from edgevid_converters.calibration import calibration_data, checks, trajectories
from edgevid_converters.calibration.golden_clip import golden_clip
from edgevid_converters.child_process import Limits, ask, limited
from edgevid_converters.importers.source import SourceModel
from edgevid_converters.lowering import edgetpu
from edgevid_converters.lowering.artifact_builder import ArtifactBuilder, chosen, repair_artifact
from edgevid_converters.page import StepTimes, page, page_path

if TYPE_CHECKING:
    from edgevid.contract import Tensors
    from edgevid.data.cache import Clips
    from edgevid.targets import Target

FORMATS = ("tflite", "openvino")
QUANTISATIONS = ("float32", "int8")
INTEGERS = ("dynamic", "int8", "int16x8")
PACKAGES = ("ai-edge-litert", "av", "edgevid", "keras", "nncf", "numpy", "openvino", "tensorflow")


def convert(
    model: Path,
    formats: Sequence[str] | None = None,
    quantize: Sequence[str] | None = None,
    calibrate: Path | None = None,
    out: Path = Path("model.edgevid"),
    progress: Progress = silent,
    contract: Path | None = None,
    *,
    data: Path | None = None,
    max_drop: float = MAX_DROP,
    min_metric: float | None = None,
    reference: Path | None = None,
    repair: bool = True,
    allow_float: bool = False,
    target: str | None = None,
    time_limit_s: float = Limits.time_s,
    memory_limit_mb: int | None = None,
) -> dict[str, Any]:
    """Convert a model to every format in every quantisation and write the bundle ``out``.

    Without ``formats`` and ``quantize`` they are what the engines of ``target`` like best, or else
    `FORMATS` and `QUANTISATIONS`. Formats of artifact are those of the converters and ``edgetpu``,
    which compiles the int8 ``.tflite`` further.

    ``contract`` is a TOML file with what the model's own file does not say; without it
    ``MODEL.contract.toml`` beside the model is read.

    ``calibrate`` is a folder of clips; without it the model's own recorded training split is used.
    ``data`` has labelled clips to measure on; without it the recorded test split is used.
    ``max_drop`` and ``min_metric`` are the budget, see `gates.Budget`; ``reference`` has the
    owner's answers, see `reference`. An int8 artifact that breaks the budget is repaired where
    ``repair``; with ``allow_float`` it may compute in float what cannot be quantised. A converter's
    child process may take ``time_limit_s`` and ``memory_limit_mb`` (None: most of what is free).

    A page of the evidence, `page.page_path`, is written beside the bundle.

    Gives ``bundle``, ``sha256``, ``page``, ``artifacts``, ``preprocessing``, ``notes`` in words and
    the ladders of ``repairs``. Latencies are those on this machine; the bundle has none.

    Raises `BadInput` for wrong use, `CheckFailed` where an artifact does not do what the model
    does, `EnvironmentFailed` where a converter crashes; then nothing is written.
    """
    budget, limits = Budget(max_drop, min_metric), Limits(time_limit_s, memory_limit_mb)
    limits.check()
    if page_path(out).is_dir():
        raise BadInput(f"{page_path(out)} is a folder; remove it, or give another --out")
    aimed = targets.load(target) if target else None
    plan = _plan(formats, quantize, aimed)
    compiled = _wants_edgetpu(formats, plan, aimed)
    source = importers.describe(model, contract)
    budget.check(open_host(source.contract.task).metric)
    owner = read_reference(reference, source.contract) if reference else None
    forms = _forms(source, plan)
    artifacts = sum(map(len, plan.values()))
    report = _Report(progress, 2 + len(plan) + artifacts)
    with limited(limits), tempfile.TemporaryDirectory(prefix="edgevid-convert-") as name:
        folder = Path(name)
        report("reading clips")
        paths, clips = calibration_data.calibration_clips(source, calibrate)
        held_out, why_not = calibration_data.held_out(source, calibrate, data, paths, progress)
        if min_metric is not None and held_out is None:
            raise BadInput(f"--min-metric needs labelled clips ({why_not}); give them with --data")
        report("lowering the model")
        notes = _calibration_notes(source, plan, clips, held_out)
        lowered = _lower(source, forms, clips, held_out, owner, folder)
        if _calibrates(plan):
            checks.check_states(trajectories.read_arrays(folder / "calibration"), source)
        builder = ArtifactBuilder(forms, lowered, folder, allow_float)
        notes += _accelerator_notes(aimed, plan, builder)
        for note in notes:
            report.note(note)
        checked = _check_owner(owner, source, contract, folder)
        golden = _golden(source.contract, folder)
        notes += checks.check_outputs(_all_answers(golden))
        answers = _source_answers(held_out, folder)
        judge = ArtifactAcceptance(
            source.contract, golden, budget, folder, held_out, answers, progress
        )
        made: list[BuiltArtifact] = []
        for format_name, quantisations in plan.items():
            report(f"converting to {format_name} {', '.join(quantisations)}")
            made += builder.convert(format_name, quantisations)
        if aimed:
            for one in made:
                target_selection.check_release(aimed, one.artifact)
        judged, ladders = [], {}
        for one in made:
            report(f"proving {one.artifact.name}")
            found = judge.judge(one)
            if not found.ok:
                ladder = repair_artifact(found, judge, builder, report.note, repair=repair)
                ladders[one.artifact.name] = ladder
                found = chosen(ladder, one.artifact.name)
            judged.append(found)
        if compiled:
            report.note("compiling for the Edge TPU")
            judged, told = _with_edgetpu(judged)
            notes += told
        golden = replace(golden, references={_name(one): one.taken for one in judged})
        notes += _notes(judged, budget) + _unmeasured(made)
        evidence = {
            "source": {"kind": source.kind, **source.record},
            "split": {name: list(listed) for name, listed in source.split.items()},
            "calibration": {"clips": paths, "sha256": _sum(folder / "calibration")},
            "held_out": calibration_data.held_out_record(held_out, why_not),
            "preprocessing": _preprocessing(source, checked, budget),
            "gates": {**asdict(budget), "reference": checked, "notes": notes},
            "outputs": {_name(one): dict(one.outputs) for one in judged},
            "operators": {_name(one): _operators(one.made) for one in judged},
            "layers": {
                one.artifact.name: [layer.to_json() for layer in one.layers]
                for one in made
                if one.layers
            },
            "repair": {name: ladder.to_json() for name, ladder in ladders.items()},
            "versions": _versions(),
        }
        timed = StepTimes(
            {_name(one): one.latency_ms for one in judged},
            {name: ladder.latencies_ms() for name, ladder in ladders.items()},
        )
        pairs = [(one.made.artifact, one.made.files) for one in judged]
        written = _write(Path(out), source.contract, pairs, golden, evidence, timed, folder)
    report("done")
    return {
        "bundle": str(written.path),
        "sha256": written.sha256,
        "page": str(page_path(out)),
        "artifacts": [
            _told(artifact) | {"latency_ms": timed.artifacts[artifact.name]}
            for artifact in written.artifacts
        ],
        "preprocessing": evidence["preprocessing"],
        "notes": notes,
        "repairs": {
            name: {**ladder.to_json(), "latencies_ms": timed.rungs[name]}
            for name, ladder in ladders.items()
        },
    }


class _Report:
    """Counts the steps of a conversion for a `Progress`."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, note: str) -> None:
        self._progress("converting", self._done, self._total, note)
        self._done += 1

    def note(self, note: str) -> None:
        """Say what else is done within the last step."""
        self._progress("converting", self._done - 1, self._total, note)


def _plan(
    formats: Sequence[str] | None, quantize: Sequence[str] | None, target: Target | None
) -> dict[str, list[str]]:
    """Format -> its quantisations, each once, in order; raises for names that are not known.

    A quantisation that only some of the formats have is made in these.
    """
    if target:
        wanted = [name for name in formats or () if name != edgetpu.FORMAT]
        if formats and edgetpu.FORMAT in formats:
            wanted.append("tflite")
        _check_names(wanted or registry.names("converter"), quantize or ())
        return target_selection.plan(target, wanted, quantize or ())
    formats = FORMATS if formats is None else list(dict.fromkeys(formats))
    quantize = QUANTISATIONS if quantize is None else list(dict.fromkeys(quantize))
    if not formats or not quantize:
        raise BadInput("name at least one format and one quantisation")
    plain = [name for name in formats if name != edgetpu.FORMAT]
    _check_names(plain or ["tflite"], quantize)
    plan = {
        name: [one for one in quantize if one in registry.load("converter", name).quantisations]
        for name in plain
    }
    if edgetpu.FORMAT in formats and "int8" not in plan.setdefault("tflite", []):
        plan["tflite"].append("int8")
    return {name: chosen for name, chosen in plan.items() if chosen}


def _check_names(formats: Sequence[str], quantize: Sequence[str]) -> None:
    """Raise where a name is not known, or a package is missing."""
    known: list[str] = []
    for format_name in formats:
        known += registry.load("converter", format_name).quantisations
        _need_packages(format_name)
    for quantisation in quantize:
        if quantisation not in known:
            what = f"quantisation of {' and '.join(formats)}"
            raise BadInput(registry.unknown(what, quantisation, set(known)))


def _wants_edgetpu(
    formats: Sequence[str] | None, plan: Mapping[str, Sequence[str]], target: Target | None
) -> bool:
    """Whether to compile for the Edge TPU; raises `MissingExtra` where it is asked for by name.

    A target that has one gets its artifact where the compiler is there, and a note where not.
    """
    if formats and edgetpu.FORMAT in formats:
        edgetpu.need()
        return True
    aimed = target is not None and target_selection.wants_edgetpu(target)
    return aimed and "int8" in plan.get("tflite", ()) and edgetpu.there()


def _calibrates(plan: Mapping[str, Sequence[str]]) -> bool:
    """Whether anything of it needs samples."""
    return any(one in checks.CALIBRATED for chosen in plan.values() for one in chosen)


def _calibration_notes(
    source: SourceModel,
    plan: Mapping[str, Sequence[str]],
    clips: list[Any],
    held_out: Clips | None,
) -> list[str]:
    """What is odd about the calibration clips, where anything is calibrated on them."""
    if not _calibrates(plan):
        return []
    return checks.check(clips, source, held_out.images if held_out is not None else ())


def _accelerator_notes(
    target: Target | None,
    plan: Mapping[str, Sequence[str]],
    builder: ArtifactBuilder,
) -> list[str]:
    """What the target's accelerators will not take; told before anything is converted."""
    if target is None:
        return []
    listed = {
        way.runtime
        for way in target.engine
        if way.runtime in plan
        and target_selection.needs_operators(f"{way.runtime}/{way.accelerator}")
    }
    found = {name: builder.operators(name) for name in sorted(listed)}
    notes = target_selection.untaken(target, found, plan)
    if target_selection.wants_edgetpu(target) and not edgetpu.there():
        notes.append(f"nothing is compiled for the Edge TPU: {edgetpu.GET}")
    return notes


def _all_answers(golden: Golden) -> dict[str, Any]:
    """The model's own answers over all golden steps, by output."""
    import numpy as np

    parts = [one.outputs for one in golden.trajectories]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _with_edgetpu(judged: Sequence[AcceptanceResult]) -> tuple[list[AcceptanceResult], list[str]]:
    """Add what Google's compiler makes of the int8 ``.tflite``, and what it said.

    Nothing here executes it: it has the parity, the metric and the answers of the ``.tflite`` that
    it was made of, and a device holds it against these.
    """
    base = next(one for one in judged if _name(one) == "tflite-int8")
    content, told = edgetpu.compile_model(base.made.files["tflite"])
    name = f"{edgetpu.FORMAT}-int8"
    artifact = replace(base.made.artifact, name=name, format=edgetpu.FORMAT)
    made = BuiltArtifact(artifact, {"tflite": content})
    return [*judged, replace(base, made=made)], [f"{name}: {words}" for words in told.words()]


def _forms(source: SourceModel, formats: Iterable[str]) -> dict[str, str]:
    """Format -> the form of the model that its converter likes best among those there are."""
    chosen = {}
    for format_name in formats:
        taken = registry.load("converter", format_name).forms
        form = next((form for form in taken if form in source.forms), None)
        if form is None:
            raise BadInput(
                f"{source.path} cannot become {format_name}: {importers.why_not(source, taken)}"
            )
        chosen[format_name] = form
    return chosen


def _need_packages(format_name: str) -> None:
    """Raise `MissingExtra` where a package is missing, without importing the heavy ones here."""
    row = registry.row("converter", format_name)
    for package in sorted({"keras", "nncf", "tensorflow", *row.needs}):
        if find_spec(package) is None:
            raise _missing(f"package {package}", row.extra or "convert")


def _missing(what: str, extra: str) -> MissingExtra:
    return MissingExtra(registry.install_line(what, extra))


def _lower(
    source: SourceModel,
    forms: Mapping[str, str],
    clips: list[Any],
    held_out: Clips | None,
    owner: Reference | None,
    folder: Path,
) -> dict[str, Any]:
    """Lower the source to what each format takes (format -> form), and record its streams.

    Gives ``lowered``, the path of each form, and ``trajectories``, the paths of the calibration.
    """
    trajectories.write_clips(folder / "clips.npz", clips)
    if held_out is not None:
        name = source.contract.frame.name
        frames = [{name: images} for images in held_out.images]
        trajectories.write_clips(folder / "held_out.npz", frames)
    if owner is not None:
        trajectories.write_clips(folder / "reference.npz", owner.streams)
    task = {
        "do": "lower",
        **source.to_task(),
        "forms": sorted(set(forms.values())),
        "clips": str(folder / "clips.npz"),
        "held_out": str(folder / "held_out.npz") if held_out is not None else None,
        "reference": str(folder / "reference.npz") if owner is not None else None,
        "out": str(folder),
    }
    return ask("lowering the model", task)


def _check_owner(
    owner: Reference | None, source: SourceModel, contract: Path | None, folder: Path
) -> dict[str, Any] | None:
    """Hold the model's answers against its owner's; raises `CheckFailed` where they differ."""
    if owner is None:
        return None
    given = [
        trajectories.read_arrays(folder / "reference" / str(index))
        for index in range(len(owner.streams))
    ]
    return owner.check(given, str(contract or f"the contract of {source.path.name}"))


def _source_answers(held_out: Clips | None, folder: Path) -> list[Tensors]:
    """The source model's raw answer to each held-out clip."""
    if held_out is None:
        return []
    stacked = trajectories.read_arrays(folder / "held_out")
    return [{n: values[k] for n, values in stacked.items()} for k in range(len(held_out))]


def _preprocessing(source: SourceModel, checked: Mapping[str, Any] | None, budget: Budget) -> str:
    """What shows that the model is fed as it was trained to be: source and artifact share it."""
    if not source.imported:
        return "own"
    if checked is not None:
        return "reference"
    return "unproven" if budget.min_metric is None else "floor"


def _golden(contract: Contract, folder: Path) -> Golden:
    """Read the trajectories that lowering recorded, and add the clip."""
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


def _notes(judged: Sequence[AcceptanceResult], budget: Budget) -> list[str]:
    """What the held-out clips are too few to show, once for each thing, and what had none."""
    found = (budget.resolution_note(one.comparison) for one in judged)
    coarse = (_coarse(one.made.artifact) for one in judged)
    return sorted({note for note in found if note}) + [note for note in coarse if note]


def _coarse(artifact: Artifact) -> str:
    """What to know of integers that were let through without a metric."""
    if artifact.quantize not in INTEGERS or artifact.metric.get("name"):
        return ""
    return (
        f"{artifact.name}: no metric was measured, so a coarse bound alone decided; "
        f"its largest difference is {artifact.parity['max_abs']:.2g}"
    )


def _name(judged: AcceptanceResult) -> str:
    return judged.made.artifact.name


def _write(
    path: Path,
    contract: Contract,
    pairs: Sequence[tuple[Artifact, Mapping[str, bytes]]],
    golden: Golden,
    evidence: Mapping[str, Any],
    timed: StepTimes,
    folder: Path,
) -> Bundle:
    """Write the bundle and the page beside it: both, or neither.

    The page is made first, of the bundle's like in ``folder``, and gets its name last.
    """
    members = golden.to_members()
    like = bundles.write(folder / "like" / path.name, contract, pairs, members, evidence)
    with writing(page_path(path)) as part:
        part.write_text(page(like, timed), encoding="utf-8")
        return bundles.write(path, contract, pairs, members, evidence)


def _operators(made: BuiltArtifact) -> list[dict[str, Any]]:
    return graphs.table(graphs.read(made.artifact.format, made.files))


def _unmeasured(made: Sequence[BuiltArtifact]) -> list[str]:
    """Where measuring the layers failed, though converting did not."""
    return [
        f"{one.artifact.name}: its layers could not be measured one by one"
        for one in made
        if one.artifact.quantize == "int8" and not one.layers
    ]


def _sum(folder: Path) -> str:
    """One hash over the recorded calibration."""
    total = hashlib.sha256()
    for file in sorted(folder.glob("*.npy")):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _told(artifact: Artifact) -> dict[str, Any]:
    """What `convert` says of an artifact."""
    told = asdict(artifact)
    told.pop("members")
    return told | {"float_ops": list(artifact.float_ops)}
