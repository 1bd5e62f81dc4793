"""From a model to a bundle: lower, convert, prove, measure, write. All of it, or nothing."""

from __future__ import annotations

import hashlib
import platform
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import bundle as bundles
from edgevid import registry
from edgevid.bundle import Artifact, Bundle
from edgevid.contract import Contract
from edgevid.errors import BadInput, BadVideo, GateRefused, MissingExtra
from edgevid.media.video import VIDEO_ENDINGS, read_clip
from edgevid.progress import Progress, silent
from edgevid.proof import Golden, Trajectory, Verdict
from edgevid.proof.golden import read_taken
from edgevid.proof.replay import OWN_TOLERANCE
from edgevid.proof.verdict import record_in_child
from edgevid.proof.verify import runtimes_for
from edgevid_converters import sources, trajectories
from edgevid_converters.child import ask
from edgevid_converters.clip import golden_clip
from edgevid_converters.protocol import LayerError, Operator, summary
from edgevid_converters.sources import Source

if TYPE_CHECKING:
    from edgevid.media.clips import Clips
    from edgevid.runtimes import Engine

FORMATS = ("tflite", "openvino")
QUANTISATIONS = ("float32", "int8")
CALIBRATION_CLIPS = 48
LARGEST_LOSS = 0.05
"""Of the task's metric, from source to artifact, on held-out clips."""
PACKAGES = ("ai-edge-litert", "av", "edgevid", "keras", "nncf", "numpy", "openvino", "tensorflow")


@dataclass(frozen=True)
class Made:
    """One artifact on its way into the bundle."""

    artifact: Artifact
    files: Mapping[str, bytes]


def convert(
    model: Path,
    formats: Sequence[str] = FORMATS,
    quantize: Sequence[str] = QUANTISATIONS,
    calibrate: Path | None = None,
    out: Path = Path("model.edgevid"),
    progress: Progress = silent,
    contract: Path | None = None,
) -> dict[str, Any]:
    """Convert a model to every format in every quantisation and write the bundle ``out``.

    ``contract`` is a TOML file with what the model's own file does not say; without it
    ``MODEL.contract.toml`` beside the model is read.

    ``calibrate`` is a folder of clips; without it the model's own recorded training split is used.
    Gives ``bundle``, ``sha256`` and ``artifacts``. Raises `BadInput` for wrong use, `GateRefused`
    where an artifact does not do what the model does, `SurroundingsFailed` where a converter
    crashes; then nothing is written.
    """
    plan = _plan(formats, quantize)
    source = sources.describe(model, contract)
    forms = _forms(source, plan)
    artifacts = sum(map(len, plan.values()))
    report = _Report(progress, 3 + len(plan) + artifacts)
    with tempfile.TemporaryDirectory(prefix="edgevid-convert-") as name:
        folder = Path(name)
        report("reading clips")
        paths, clips = _calibration_clips(source, calibrate)
        held_out, why_not = _held_out(source, calibrate, progress)
        report("lowering the model")
        lowered = _lower(source, forms, clips, held_out, folder)
        made: list[Made] = []
        for format_name, quantisations in plan.items():
            report(f"converting to {format_name} {', '.join(quantisations)}")
            made += _convert(format_name, quantisations, forms, lowered, folder)
        golden = _golden(source.contract, folder)
        draft = _write(folder / "draft.edgevid", source, made, golden, {})
        for index, one in enumerate(made):
            report(f"proving {one.artifact.name}")
            made[index] = _prove(one, draft, folder)
        report("measuring on held-out clips")
        made = _measure(made, source, held_out, folder, progress)
        golden = replace(golden, references=_references(made, folder))
        evidence = {
            "source": {"kind": source.kind, **source.record},
            "split": {name: list(listed) for name, listed in source.split.items()},
            "calibration": {"clips": paths, "sha256": _sum(folder / "calibration")},
            "held_out": _held_out_record(held_out, why_not),
            "versions": _versions(),
        }
        written = _write(Path(out), source, made, golden, evidence)
    report("done")
    return {
        "bundle": str(written.path),
        "sha256": written.sha256,
        "artifacts": [_told(artifact) for artifact in written.artifacts],
    }


class _Report:
    """Counts the steps of a conversion for a `Progress`."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, note: str) -> None:
        self._progress("converting", self._done, self._total, note)
        self._done += 1


def _plan(formats: Sequence[str], quantize: Sequence[str]) -> dict[str, list[str]]:
    """Format -> its quantisations, each once, in order; raises for names that are not known."""
    if not formats or not quantize:
        raise BadInput("name at least one format and one quantisation")
    for format_name in formats:
        known = registry.load("converter", format_name).quantisations
        _need_packages(format_name)
        for quantisation in quantize:
            if quantisation not in known:
                what = f"quantisation of {format_name}"
                raise BadInput(registry.unknown(what, quantisation, known))
    return {format_name: list(dict.fromkeys(quantize)) for format_name in formats}


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


def _calibration_clips(source: Source, calibrate: Path | None) -> tuple[list[str], list[Any]]:
    """Choose and decode clips evenly over the sorted files; gives their names, and the clips."""
    root, paths = _calibration_files(source, calibrate)
    stride = max(1, len(paths) // CALIBRATION_CLIPS)
    chosen = paths[::stride][:CALIBRATION_CLIPS]
    names, clips = [], []
    for path in chosen:
        try:
            clips.append(_clip(root / path, source.contract))
        except BadVideo:
            continue  # the rest is enough; what was used is in the evidence
        names.append(path)
    if not clips:
        raise BadInput(f"{root}: none of {len(chosen)} clips can be decoded; give other clips")
    return names, clips


def _clip(file: Path, contract: Contract) -> Any:
    """One clip: frames (N, H, W, 3), or the pieces of a signal, (N, ...), from an ``.npz``."""
    if contract.signal is None:
        return read_clip(file, contract.frame)
    return trajectories.read_signal(file, contract.signal)


def _calibration_files(source: Source, calibrate: Path | None) -> tuple[Path, list[str]]:
    """Where the calibration clips are: the recorded training split if it is there, else all."""
    root = Path(calibrate) if calibrate else source.data
    if root is None or not root.exists():
        mend = "give another folder" if calibrate else "give clips with --calibrate"
        raise BadInput(f"{root or 'the data of the training'} does not exist; {mend}")
    if root.is_file():
        return root.parent, [root.name]
    train = sorted(source.split.get("train", ()))
    if train and (root / train[0]).is_file():
        return root, train
    endings = VIDEO_ENDINGS if source.contract.signal is None else (".npz",)
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in endings)
    paths = [p.relative_to(root).as_posix() for p in found]
    if not paths:
        known = ", ".join(endings)
        raise BadInput(f"{root} has no clips to calibrate on; known endings: {known}")
    return root, paths


def _held_out(
    source: Source, calibrate: Path | None, progress: Progress
) -> tuple[Clips | None, str]:
    """Decode the recorded test split; or None, and why there is none."""
    from edgevid.evaluate import choose_clips

    paths = source.split.get("test", ())
    if not paths:
        return None, "the model has no recorded test split"
    for root in filter(None, (source.data, calibrate)):
        there = {"test": [path for path in paths if (Path(root) / path).is_file()]}
        if there["test"]:
            clips = choose_clips(source.contract, there, Path(root), "test", progress)
            return (clips, "") if len(clips) else (None, "no clip of the test split is readable")
    return None, "the clips of the recorded test split are not there"


def _held_out_record(clips: Clips | None, why_not: str) -> dict[str, Any]:
    if clips is None:
        return {"split": "test", "clips": 0, "reason": why_not}
    return {"split": "test", "clips": len(clips), "left_out": [dict(c) for c in clips.left_out]}


def _lower(
    source: Source,
    forms: Mapping[str, str],
    clips: list[Any],
    held_out: Clips | None,
    folder: Path,
) -> dict[str, Any]:
    """Lower the source to what each format takes (format -> form), and record its streams.

    Gives ``lowered``, the path of each form, and ``trajectories``, the paths of the calibration.
    """
    trajectories.write_clips(folder / "clips.npz", clips)
    if held_out is not None:
        trajectories.write_clips(folder / "held_out.npz", held_out.pictures)
    task = {
        "do": "lower",
        **source.to_task(),
        "forms": sorted(set(forms.values())),
        "clips": str(folder / "clips.npz"),
        "held_out": str(folder / "held_out.npz") if held_out is not None else None,
        "out": str(folder),
    }
    return ask("lowering the model", task)


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
    }


def _convert(
    format_name: str,
    quantisations: Sequence[str],
    forms: Mapping[str, str],
    lowered: Mapping[str, Any],
    folder: Path,
    keep: Mapping[str, Sequence[str]] | None = None,
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
        _made(format_name, quantisation, answer[f"{format_name}-{quantisation}"], folder)
        for quantisation in quantisations
    ]


def _layer_errors(
    format_name: str, forms: Mapping[str, str], lowered: Mapping[str, Any]
) -> list[LayerError]:
    """Measure what int8 costs each layer in one format, in a child; the worst comes first."""
    task = _task("layer_errors", format_name, forms, lowered)
    answer = ask(f"measuring the layers of {format_name}", task)
    return [LayerError(**one) for one in answer["layers"]]


def _made(format_name: str, quantisation: str, told: Mapping[str, Any], folder: Path) -> Made:
    """Take in one artifact; raises `GateRefused` where int8 has a product in float."""
    name = f"{format_name}-{quantisation}"
    operators = [Operator(**operator) for operator in told["float_ops"]]
    products = [operator for operator in operators if operator.product]
    if quantisation == "int8" and products:
        listed = ", ".join(f"{o.kind} {o.name}" for o in products[:5])
        raise GateRefused(
            f"{name} computes {len(products)} products in float: {listed}; "
            "use layers that quantise, or --quantize float32"
        )
    artifact = Artifact(
        name,
        format_name,
        quantisation,
        float_ops=summary(operators),
        tolerance=_tolerance(quantisation),
        smallest_runtime=told["smallest_runtime"],
    )
    return Made(artifact, {e: (folder / f"{name}.{e}").read_bytes() for e in told["endings"]})


def _tolerance(quantisation: str) -> dict[str, float]:
    """What a device's proof accepts, by the precision that runs there."""
    floats = {k: v for k, v in OWN_TOLERANCE.items() if k != "int8"}
    return {"int8": OWN_TOLERANCE["int8"]} if quantisation == "int8" else floats


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


def _prove(made: Made, draft: Bundle, folder: Path) -> Made:
    """Load and replay against the source in a child; raises `GateRefused` with the reason."""
    artifact = made.artifact
    runtime = _reference_runtime(artifact)
    verdict: Verdict = record_in_child(
        draft.path, artifact.name, runtime, folder / f"{artifact.name}.npz"
    )
    if not verdict.ok:
        raise GateRefused(
            f"{artifact.name} does not do in {runtime} what the model does: {verdict.reason}; "
            "leave this artifact out, or change the model"
        )
    parity = {"max_abs": verdict.max_abs, "agreement": verdict.agreement}
    return replace(made, artifact=replace(artifact, parity=parity))


def _reference_runtime(artifact: Artifact) -> str:
    """The runtime whose answers on this machine's CPU are the artifact's own."""
    names = runtimes_for(artifact.format)
    if not names:
        raise _missing(f"a runtime for {artifact.format}", "convert")
    return names[0]


def _references(made: Sequence[Made], folder: Path) -> dict[str, Any]:
    return {m.artifact.name: read_taken(folder / f"{m.artifact.name}.npz") for m in made}


def _measure(
    made: list[Made], source: Source, held_out: Clips | None, folder: Path, progress: Progress
) -> list[Made]:
    """Add the task's metric of source and artifact on held-out clips."""
    task = registry.load("task", source.contract.task)
    if held_out is None or task.metric_name is None:
        unknown = {"name": None, "source": None, "artifact": None, "n": 0}
        return [replace(m, artifact=replace(m.artifact, metric=unknown)) for m in made]
    from edgevid.evaluate import artifact_metrics

    stacked = trajectories.read_arrays(folder / "held_out")
    answers = [{n: values[k] for n, values in stacked.items()} for k in range(len(held_out))]
    engines = {m.artifact.name: _engine(m, source.contract) for m in made}
    metrics = artifact_metrics(source.contract, engines, held_out, answers, progress)
    for name, metric in metrics.items():
        _refuse_loss(name, metric)
    return [replace(m, artifact=replace(m.artifact, metric=metrics[m.artifact.name])) for m in made]


def _refuse_loss(name: str, metric: Mapping[str, Any]) -> None:
    """Raise `GateRefused` where an artifact is clearly worse than its source on held-out data.

    Two standard errors of a share over n clips are allowed on top, so that few clips do not refuse
    by chance.
    """
    lost = metric["source"] - metric["artifact"]
    if not lost <= LARGEST_LOSS + 2 * (0.25 / metric["n"]) ** 0.5:
        raise GateRefused(
            f"{name} has {metric['name']} {metric['artifact']:.3f} on {metric['n']} held-out clips "
            f"where the model has {metric['source']:.3f}; calibrate with more or other clips, "
            "or leave this artifact out"
        )


def _engine(made: Made, contract: Contract) -> Engine:
    """Load an artifact in this process; it was proven in a child before."""
    runtime = registry.load("runtime", _reference_runtime(made.artifact))()
    engine: Engine = runtime.load(made.files, contract)
    return engine


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
