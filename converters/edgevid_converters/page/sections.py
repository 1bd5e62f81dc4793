"""What the sections of the page show: facts and tables, as data for the template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgevid.bundle import Bundle
from edgevid.contract import Input
from edgevid.documents import to_json
from edgevid.evidence import (
    Evidence,
    HeldOutRecord,
    TensorDifference,
    preprocessing_text,
    repair_choice,
)
from edgevid.tasks.evidence import metric_name, recorded_agreement, recorded_drop
from edgevid_converters.lowering.protocol import listed
from edgevid_converters.page.times import StepTimes

UNPROVEN = (
    "Nothing shows that the model gets the input that it was trained on. Source and artifact "
    "share one contract, so a wrong colour order or scale makes no difference between them. To "
    "prove it, convert with outputs of the model's owner (--reference), or with labelled clips "
    "and a floor (--data and --min-metric)."
)
FIRST = ("kind", "model", "sha256", "weights_sha256", "labels")
"""Facts about the source that come first."""
BASIC = frozenset({"name", "source", "artifact", "agreement", "higher_is_better"})
"""Parts of a metric that are in the table of artifacts; the rest is its paired test."""


@dataclass(frozen=True)
class SectionTable:
    """A table of the page."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class RepairSection:
    """The repair of one artifact."""

    name: str
    reason: str
    kept: str
    rungs: SectionTable
    why: str


def verdict(bundle: Bundle, evidence: Evidence) -> tuple[str, list[str]]:
    """Return what the evidence comes to, and the reasons."""
    reasons = [_measured(bundle, evidence)]
    reasons += [
        f"{name} was repaired; kept in float32: {', '.join(evidence.kept(name))}"
        for name in evidence.repair
    ]
    refused = evidence.refused or {}
    reasons += [f"not in the bundle: {name}: {text}" for name, text in refused.items()]
    count = len(bundle.artifacts)
    outcome = "reproduces the model" if count == 1 else "reproduce the model"
    return f"{count} artifact{'s'[: count > 1]} {outcome}", reasons


def _measured(bundle: Bundle, evidence: Evidence) -> str:
    """What the verdict rests on."""
    metrics = [one.metric for one in bundle.artifacts if one.metric.get("name")]
    if not metrics:
        reason = f": {evidence.held_out.reason}" if evidence.held_out.reason else ""
        return f"by parity on recorded streams; no metric was measured{reason}"
    worst = max(metrics, key=lambda metric: recorded_drop(metric) or 0.0)
    gates = evidence.gates
    allowed = f"; a drop of {gates.max_drop:g} was allowed" if gates else ""
    return (
        f"{worst['name']} {worst['source']:.4g} of the model, {worst['artifact']:.4g} of "
        f"the worst artifact, on {worst['n']} held-out clips{allowed}"
    )


def source(bundle: Bundle, evidence: Evidence) -> list[tuple[str, object]]:
    """Return what the artifacts were made from, as name and value."""
    contract, known = bundle.contract, evidence.source
    state = {"none": "none", "window": f"the last {contract.frames} frames", "carry": "carried"}
    inputs = f"{'; '.join(map(_input, contract.inputs))}, {contract.rate_fps:g} per second"
    reference = evidence.gates.reference if evidence.gates else None
    shown = preprocessing_text(evidence.preprocessing, reference)
    rows: list[tuple[str, object]] = [("preprocessing", shown)]
    order = sorted(known, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    rows += [(name.replace("_", " "), _flat(known[name])) for name in order]
    train = known.get("train")
    if isinstance(train, Mapping) and "seed" in train:
        rows.append(("seed", f"{train['seed']} (of the training)"))
    rows += [("inputs", inputs), ("state", state[contract.temporal])]
    if contract.labels and "labels" not in known:
        rows.append(("labels", ", ".join(contract.labels)))
    return rows


def _input(one: Input) -> str:
    if one.kind == "frame":
        return f"{one.name} {one.width}x{one.height} {one.colour}, {one.fit}, {one.resize}"
    if one.kind == "audio":
        return f"{one.name}, {one.samples} samples of audio at {one.sample_rate_hz} Hz"
    return f"{one.name} {one.shape}"


def artifacts(bundle: Bundle, times: StepTimes) -> SectionTable:
    """Return size, metric and parity of each artifact."""
    metric = metric_name([one.metric for one in bundle.artifacts])
    head = ["artifact", "bytes", metric, f"model's {metric}", "agreement", "of frames", "max abs"]
    rows: list[list[object]] = [
        [
            one.name,
            one.bytes,
            one.metric.get("artifact"),
            one.metric.get("source"),
            *recorded_agreement(one.metric, one.parity),
            one.parity.get("max_abs"),
        ]
        for one in bundle.artifacts
    ]
    if times.artifacts:
        head.append("ms/step here")
        rows = [[*row, times.artifacts.get(str(row[0]))] for row in rows]
    return SectionTable(head, rows)


def frames(bundle: Bundle) -> SectionTable | None:
    """Return how far each integer artifact agrees with the model on all available frames."""
    found = [one for one in bundle.artifacts if "agreement_at_least" in one.parity]
    rows = [
        [
            one.name,
            one.parity["agreement"],
            one.parity["agreement_at_least"],
            one.parity.get("n"),
            one.parity.get("frames_max_abs"),
        ]
        for one in found
    ]
    head = ["artifact", "agreement", "at least", "frames", "largest difference"]
    return SectionTable(head, rows) if rows else None


def float_operators(bundle: Bundle) -> list[tuple[str, object]]:
    """Return the operators of each artifact that stay in float32."""
    return [(one.name, ", ".join(one.float_ops) or "none") for one in bundle.artifacts]


def remainder(evidence: Evidence) -> SectionTable | None:
    """Return what the quantisers of integer artifacts left in float32, with its share."""
    rows = [
        [name, ", ".join(left.operators), left.share, listed(left.names)]
        for name, left in evidence.float_remainder.items()
    ]
    head = ["artifact", "operators", "share of arithmetic", "names"]
    return SectionTable(head, rows) if rows else None


def paired_tests(bundle: Bundle) -> SectionTable | None:
    """Return what the held-out clips show of each artifact, clip by clip."""
    tested = [one for one in bundle.artifacts if "drop_at_most" in one.metric]
    if not tested:
        return None
    columns = [name for name in tested[0].metric if name not in BASIC]
    titles = ("clips" if name == "n" else name.replace("_", " ") for name in columns)
    rows = [[one.name, *(one.metric.get(name) for name in columns)] for one in tested]
    return SectionTable(["artifact", *titles], rows)


def parity(evidence: Evidence) -> SectionTable | None:
    """Return the differences from the source model, tensor by tensor."""
    outputs = evidence.outputs
    if not outputs:
        return None
    names = sorted({name for tensors in outputs.values() for name in tensors})
    columns = sorted(outputs)
    rows = [
        [
            name,
            *(_difference(outputs[column].get(name)) for column in columns),
            max(tensors[name].range for tensors in outputs.values() if name in tensors),
        ]
        for name in names
    ]
    return SectionTable(["output", *columns, "range"], rows)


def sensitivity(bundle: Bundle, evidence: Evidence) -> SectionTable | None:
    """Return how far the model's own tensors move, for the precisions of its float artifacts."""
    built = {one.quantize for one in bundle.artifacts}
    known = {name: found for name, found in evidence.sensitivity.items() if name in built}
    if not known:
        return None
    head = ["output"]
    for precision in known:
        head += [f"moves by, {precision}", "mean", "allowed"]
    names = sorted({name for tensors in known.values() for name in tensors})
    rows: list[list[object]] = []
    for name in names:
        found = [tensors.get(name) for tensors in known.values()]
        cells = [(one.max_abs, one.mean_abs, one.allowed) if one else (None,) * 3 for one in found]
        rows.append([name, *(value for three in cells for value in three)])
    return SectionTable(head, rows)


def _difference(found: TensorDifference | None) -> str | None:
    """The largest and the mean; None if there is none, or it is not a number."""
    if found is None or found.max_abs is None:
        return None
    return f"{found.max_abs:.3g} ({found.mean_abs:.3g})"


def repairs(evidence: Evidence, times: StepTimes) -> list[RepairSection]:
    """Return how each int8 artifact was repaired."""
    found = []
    for name, repair in evidence.repair.items():
        head = ["", "layers in float32", "metric", "agreement", "of frames", "max abs", "bytes"]
        rows: list[list[object]] = [
            [
                "kept" if rung.kept == repair.kept else "",
                len(rung.kept),
                rung.metric,
                rung.agreement,
                rung.n,
                rung.max_abs,
                rung.bytes,
            ]
            for rung in repair.rungs
        ]
        if name in times.rungs:
            head.append("ms/step here")
            rows = [[*row, ms] for row, ms in zip(rows, times.rungs[name], strict=True)]
        head.append("gates")
        reasons = [rung.reason or "accepted" for rung in repair.rungs]
        rows = [[*row, reason] for row, reason in zip(rows, reasons, strict=True)]
        kept = ", ".join(evidence.kept(name))
        why = repair_choice(map(to_json, repair.rungs), repair.kept or ())
        found.append(RepairSection(name, repair.reason, kept, SectionTable(head, rows), why))
    return found


def operators(bundle: Bundle, evidence: Evidence) -> SectionTable | None:
    """Return how many operators of each kind the artifacts have."""
    if not evidence.operators:
        return None
    names = [one.name for one in bundle.artifacts if one.name in evidence.operators]
    counts = {
        (name, row.kind, row.computes): row.count
        for name in names
        for row in evidence.operators[name]
    }
    kinds = sorted({(kind, computes) for _, kind, computes in counts})
    rows: list[list[object]] = [
        [kind, computes, *(counts.get((name, kind, computes)) for name in names)]
        for kind, computes in kinds
    ]
    return SectionTable(["kind", "computes in", *names], rows)


def data(evidence: Evidence) -> list[tuple[str, object]]:
    """Return which clips were used, as name and value; nothing if none were."""
    clips = evidence.calibration.clips
    if not clips:
        return []
    rows: list[tuple[str, object]] = [
        ("calibration", f"{len(clips)} clips: {_some(clips)}"),
        ("its sha256", evidence.calibration.sha256),
        ("held out", _held_out(evidence.held_out)),
    ]
    if evidence.split:
        parts = ", ".join(f"{len(paths)} {name}" for name, paths in evidence.split.items())
        rows.append(("split of the data", parts))
    return rows


def _held_out(held_out: HeldOutRecord) -> str:
    if not held_out.clips:
        return f"none: {held_out.reason or 'reason unknown'}"
    left_out = len(held_out.left_out or ())
    without = f", {left_out} could not be read" if left_out else ""
    return f"{held_out.clips} clips of the split {held_out.split}{without}"


def gates(evidence: Evidence) -> list[tuple[str, object]]:
    """Return the limits and the notes, as name and value."""
    found = evidence.gates
    if found is None:
        return []
    reference = found.reference
    compared = (
        f"max abs {reference.max_abs:g} over {reference.steps} steps" if reference else "none"
    )
    return [
        ("max drop", found.max_drop),
        ("min metric", "none" if found.min_metric is None else found.min_metric),
        ("owner's outputs", compared),
        *(("note", note) for note in found.notes),
    ]


def _flat(value: Any) -> str:
    """Nested plain data in a line."""
    return ", ".join(_parts(value, "")) or "none"


def _parts(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _parts(inner, f"{name}{key} ")
    elif isinstance(value, list | tuple):
        if value:
            yield name + ", ".join(_flat(one) for one in value)
    elif value is not None:
        yield f"{name}{value:g}" if isinstance(value, float) else f"{name}{value}"


def _some(clips: Sequence[str], most: int = 3) -> str:
    more = f" and {len(clips) - most} more" if len(clips) > most else ""
    return ", ".join(clips[:most]) + more
