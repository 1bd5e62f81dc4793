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
from edgevid.errors import BadInput, GateRefused, MissingExtra, SurroundingsFailed
from edgevid.progress import Progress, silent
from edgevid.proof import Golden, Trajectory
from edgevid.proof.replay import own_tolerances
from edgevid_converters import aim, calibration, edgetpu, material, sources, trajectories
from edgevid_converters.child import Limits, ask, limited
from edgevid_converters.clip import golden_clip
from edgevid_converters.gates import MAX_DROP, UNKNOWN, Budget, with_statistics
from edgevid_converters.judging import Judge, Judgement, Made
from edgevid_converters.protocol import LayerError, Operator, summary
from edgevid_converters.reference import Reference, read_reference
from edgevid_converters.repair import Ladder, listed, refuse, repair
from edgevid_converters.sources import Source

if TYPE_CHECKING:
    from edgevid.contract import Tensors
    from edgevid.media.clips import Clips
    from edgevid.targets import Target

FORMATS = ("tflite", "openvino")
QUANTISATIONS = ("float32", "int8")
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
    mend: bool = True,
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
    ``mend``; with ``allow_float`` it may compute in float what cannot be quantised. A converter's
    child process may take ``time_limit_s`` and ``memory_limit_mb`` (None: most of what is free).

    Gives ``bundle``, ``sha256``, ``artifacts``, ``preprocessing``, ``notes`` in words and
    the ladders of ``repairs``, with latencies on this machine.

    Raises `BadInput` for wrong use, `GateRefused` where an artifact does not do what the model
    does, `SurroundingsFailed` where a converter crashes; then nothing is written.
    """
    budget, limits = Budget(max_drop, min_metric), Limits(time_limit_s, memory_limit_mb)
    budget.check()
    limits.check()
    aimed = targets.load(target) if target else None
    plan = _plan(formats, quantize, aimed)
    compiled = _wants_edgetpu(formats, plan, aimed)
    source = sources.describe(model, contract)
    owner = read_reference(reference, source.contract) if reference else None
    forms = _forms(source, plan)
    artifacts = sum(map(len, plan.values()))
    report = _Report(progress, 2 + len(plan) + artifacts)
    with limited(limits), tempfile.TemporaryDirectory(prefix="edgevid-convert-") as name:
        folder = Path(name)
        report("reading clips")
        paths, clips = material.calibration_clips(source, calibrate)
        held_out, why_not = material.held_out(source, calibrate, data, paths, progress)
        if min_metric is not None and held_out is None:
            raise BadInput(f"--min-metric needs labelled clips ({why_not}); give them with --data")
        report("lowering the model")
        notes = _calibration_notes(source, plan, clips, held_out)
        lowered = _lower(source, forms, clips, held_out, owner, folder)
        if _calibrates(plan):
            calibration.check_memory(trajectories.read_arrays(folder / "calibration"), source)
        notes += _accelerator_notes(aimed, plan, forms, lowered)
        for note in notes:
            report.note(note)
        checked = _check_owner(owner, source, contract, folder)
        golden = _golden(source.contract, folder)
        notes += calibration.check_answers(_all_answers(golden))
        answers = _source_answers(held_out, folder)
        judge = Judge(source.contract, golden, budget, folder, held_out, answers, progress)
        made: list[Made] = []
        for format_name, quantisations in plan.items():
            report(f"converting to {format_name} {', '.join(quantisations)}")
            made += _convert(format_name, quantisations, forms, lowered, folder, None, allow_float)
        if aimed:
            for one in made:
                aim.check_release(aimed, one.artifact)
        judged, ladders = [], {}
        for one in made:
            report(f"proving {one.artifact.name}")
            found = judge.judge(one, timed=one.artifact.quantize == "int8")
            if not found.ok:
                ladder = _mended(found, judge, forms, lowered, folder, report, mend, allow_float)
                ladders[one.artifact.name] = ladder
                found = _chosen(ladder, one.artifact.name)
            judged.append(found)
        if compiled:
            report.note("compiling for the Edge TPU")
            judged, told = _with_edgetpu(judged)
            notes += told
        golden = replace(golden, references={_name(one): one.taken for one in judged})
        notes += _notes(judged, budget)
        evidence = {
            "source": {"kind": source.kind, **source.record},
            "split": {name: list(listed) for name, listed in source.split.items()},
            "calibration": {"clips": paths, "sha256": _sum(folder / "calibration")},
            "held_out": material.held_out_record(held_out, why_not),
            "preprocessing": _preprocessing(source, checked, budget),
            "gates": {**asdict(budget), "reference": checked, "notes": notes},
            "outputs": {_name(one): dict(one.outputs) for one in judged},
            "repair": {name: ladder.to_json() for name, ladder in ladders.items()},
            "versions": _versions(),
        }
        written = _write(Path(out), source, [one.made for one in judged], golden, evidence)
    report("done")
    return {
        "bundle": str(written.path),
        "sha256": written.sha256,
        "artifacts": [_told(artifact) for artifact in written.artifacts],
        "preprocessing": evidence["preprocessing"],
        "notes": notes,
        "repairs": {
            name: {**ladder.to_json(), "latencies_ms": ladder.latencies_ms()}
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
        return aim.plan(target, wanted, quantize or ())
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
    aimed = target is not None and aim.wants_edgetpu(target)
    return aimed and "int8" in plan.get("tflite", ()) and edgetpu.there()


def _calibrates(plan: Mapping[str, Sequence[str]]) -> bool:
    """Whether anything of it needs samples."""
    return any(one in calibration.CALIBRATED for chosen in plan.values() for one in chosen)


def _calibration_notes(
    source: Source,
    plan: Mapping[str, Sequence[str]],
    clips: list[Any],
    held_out: Clips | None,
) -> list[str]:
    """What is odd about the calibration clips, where anything is calibrated on them."""
    if not _calibrates(plan):
        return []
    return calibration.check(clips, source, held_out.pictures if held_out is not None else ())


def _accelerator_notes(
    target: Target | None,
    plan: Mapping[str, Sequence[str]],
    forms: Mapping[str, str],
    lowered: Mapping[str, Any],
) -> list[str]:
    """What the target's accelerators will not take; told before anything is converted."""
    if target is None:
        return []
    listed = {
        way.runtime
        for way in target.engine
        if way.runtime in plan and aim.needs_operators(f"{way.runtime}/{way.accelerator}")
    }
    operators = {
        name: ask(f"reading the operators for {name}", _task("operators", name, forms, lowered))
        for name in sorted(listed)
    }
    found = {name: told["operators"] for name, told in operators.items()}
    notes = aim.untaken(target, found, plan)
    if aim.wants_edgetpu(target) and not edgetpu.there():
        notes.append(f"nothing is compiled for the Edge TPU: {edgetpu.GET}")
    return notes


def _all_answers(golden: Golden) -> dict[str, Any]:
    """The model's own answers over all golden steps, by output."""
    import numpy as np

    parts = [one.answers for one in golden.trajectories]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _with_edgetpu(judged: Sequence[Judgement]) -> tuple[list[Judgement], list[str]]:
    """Add what Google's compiler makes of the int8 ``.tflite``, and what it said.

    Nothing here executes it: it has the parity, the metric and the answers of the ``.tflite`` that
    it was made of, and a device holds it against these.
    """
    base = next(one for one in judged if _name(one) == "tflite-int8")
    content, told = edgetpu.compile_model(base.made.files["tflite"])
    name = f"{edgetpu.FORMAT}-int8"
    artifact = replace(base.made.artifact, name=name, format=edgetpu.FORMAT)
    made = Made(artifact, {"tflite": content})
    return [*judged, replace(base, made=made)], [f"{name}: {words}" for words in told.words()]


def _forms(source: Source, formats: Iterable[str]) -> dict[str, str]:
    """Format -> the form of the model that its converter likes best among those there are."""
    chosen = {}
    for format_name in formats:
        taken = registry.load("converter", format_name).forms
        form = next((form for form in taken if form in source.forms), None)
        if form is None:
            raise BadInput(
                f"{source.path} cannot become {format_name}: {sources.why_not(source, taken)}"
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
    source: Source,
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
        trajectories.write_clips(folder / "held_out.npz", held_out.pictures)
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
    owner: Reference | None, source: Source, contract: Path | None, folder: Path
) -> dict[str, Any] | None:
    """Hold the model's answers against its owner's; raises `GateRefused` where they differ."""
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


def _preprocessing(source: Source, checked: Mapping[str, Any] | None, budget: Budget) -> str:
    """What shows that the model is fed as it was trained to be: source and artifact share it."""
    if not source.imported:
        return "own"
    if checked is not None:
        return "reference"
    return "unproven" if budget.min_metric is None else "floor"


def _task(
    do: str, format_name: str, forms: Mapping[str, str], lowered: Mapping[str, Any]
) -> dict[str, Any]:
    """What every task of a converter has: its format, and the model in the form that it takes."""
    form = forms[format_name]
    return {
        "do": do,
        "format": format_name,
        "form": form,
        "lowered": lowered["lowered"][form],
        "trajectories": lowered["trajectories"],
        "contract": lowered["contract"],
    }


def _convert(
    format_name: str,
    quantisations: Sequence[str],
    forms: Mapping[str, str],
    lowered: Mapping[str, Any],
    folder: Path,
    keep: Mapping[str, Sequence[str]] | None = None,
    allow_float: bool = False,
) -> list[Made]:
    """Make the artifacts of one format, in one child.

    ``keep`` has, by quantisation, the layers that stay in a higher precision.
    """
    task = {
        **_task("convert", format_name, forms, lowered),
        "quantize": list(quantisations),
        "keep": {name: list(layers) for name, layers in (keep or {}).items()},
        "out": str(folder),
    }
    answer = ask(f"conversion to {format_name}", task)
    return [
        _made(
            format_name,
            quantisation,
            answer[f"{format_name}-{quantisation}"],
            folder,
            allow_float,
        )
        for quantisation in quantisations
    ]


def _layer_errors(
    format_name: str, forms: Mapping[str, str], lowered: Mapping[str, Any]
) -> list[LayerError]:
    """Measure what int8 costs each layer in one format, in a child; the worst comes first."""
    task = _task("layer_errors", format_name, forms, lowered)
    answer = ask(f"measuring the layers of {format_name}", task)
    return [LayerError(**one) for one in answer["layers"]]


def _made(
    format_name: str,
    quantisation: str,
    told: Mapping[str, Any],
    folder: Path,
    allow_float: bool = False,
) -> Made:
    """Take in one artifact; raises `GateRefused` where integers have what computes in float."""
    name = f"{format_name}-{quantisation}"
    operators = [Operator(**operator) for operator in told["float_ops"]]
    stray = [operator for operator in operators if operator.stray and not operator.kept]
    if quantisation in calibration.CALIBRATED and stray and not allow_float:
        raise GateRefused(
            f"{name} computes {len(stray)} operators in float: "
            f"{listed([f'{one.kind} {one.name}' for one in stray])}; use layers that quantise, "
            "--allow-float, or --quantize float32"
        )
    artifact = Artifact(
        name,
        format_name,
        quantisation,
        float_ops=summary(operators),
        tolerance=own_tolerances(quantisation),
        smallest_runtime=told["smallest_runtime"],
    )
    return Made(artifact, {e: (folder / f"{name}.{e}").read_bytes() for e in told["endings"]})


def _golden(contract: Contract, folder: Path) -> Golden:
    """Read the trajectories that lowering recorded, and add the clip."""
    import numpy as np

    found = sorted((folder / "golden").iterdir(), key=lambda path: int(path.name))
    recorded = tuple(
        Trajectory(
            np.load(path / "frames.npy"),
            trajectories.read_arrays(path / "answers"),
            trajectories.read_arrays(path / "states"),
        )
        for path in found
    )
    if contract.signal:
        return Golden(recorded)
    clip, pixels = golden_clip(contract.frame)
    return Golden(recorded, clip=clip, pixels=pixels)


def _mended(
    first: Judgement,
    judge: Judge,
    forms: Mapping[str, str],
    lowered: Mapping[str, Any],
    folder: Path,
    report: _Report,
    mend: bool,
    allow_float: bool,
) -> Ladder:
    """Repair one artifact; raises `GateRefused` where that is not possible, or not wanted."""
    artifact = first.made.artifact
    name, format_name = artifact.name, artifact.format
    if not (mend and first.mendable):
        raise GateRefused(
            f"{name} {first.reason}; leave this artifact out, or change the model"
            if not first.mendable
            else f"{name} {first.reason}; leave out --no-repair, or this artifact"
        )
    report.note(f"measuring the layers of {name}")
    layers = _layer_errors(format_name, forms, lowered)

    def attempt(kept: tuple[str, ...]) -> Judgement:
        report.note(f"repairing {name}: {len(kept)} of {len(layers)} layers in float")
        keep = {artifact.quantize: kept}
        try:
            made = _convert(
                format_name, [artifact.quantize], forms, lowered, folder, keep, allow_float
            )
        except (GateRefused, SurroundingsFailed) as error:
            nothing = replace(artifact, parity={}, metric=UNKNOWN)
            return Judgement(Made(nothing, {}), f"could not be made: {error}")
        return judge.judge(made[0], timed=True)

    return repair(first, layers, attempt)


def _chosen(ladder: Ladder, name: str) -> Judgement:
    """What the repair chose, its statistics allowing for the choice; raises `GateRefused`."""
    if ladder.chosen is None:
        raise refuse(ladder, name)
    judged = ladder.chosen.judgement
    metric = with_statistics(judged.made.artifact.metric, tries=len(ladder.rungs))
    artifact = replace(judged.made.artifact, metric=metric)
    return replace(judged, made=replace(judged.made, artifact=artifact))


def _notes(judged: Sequence[Judgement], budget: Budget) -> list[str]:
    """What the held-out clips are too few to show, once for each thing to say."""
    found = (budget.words(one.made.artifact.metric) for one in judged)
    return sorted({words for words in found if words})


def _name(judged: Judgement) -> str:
    return judged.made.artifact.name


def _write(
    path: Path, source: Source, made: Sequence[Made], golden: Golden, evidence: Mapping[str, Any]
) -> Bundle:
    pairs = [(one.artifact, one.files) for one in made]
    return bundles.write(path, source.contract, pairs, golden.to_members(), evidence)


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
