"""The evidence of a bundle as one page: it needs nothing but a browser, and no script.

What it says stands in the bundle, but for latencies: these are of the machine that converted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevid import __version__
from edgevid.bundle import Artifact, Bundle
from edgevid.contract import Input
from edgevid.errors import BadBundle
from edgevid.report.page import Page
from edgevid.report.svg import stacked
from edgevid.tasks.evidence import metric_name, recorded_drop
from edgevid_converters import graphs
from edgevid_converters.graphs.draw import LEGEND, common, draw, short

Raw = Mapping[str, Any]

PREPROCESSING = {
    "own": "the model's own: it is the one that edgevid trained it with",
    "reference": "proven: the owner's answers are met",
    "floor": "the metric keeps to a floor on labelled clips",
    "unproven": "unproven",
}
UNPROVEN = (
    "Nothing shows that the model is fed as it was trained to be. Source and artifact share one "
    "contract, so a wrong colour order or scale does not show between them. To prove it, convert "
    "with the owner's answers (--reference), or with labelled clips and a floor (--data and "
    "--min-metric)."
)
FIRST = ("kind", "model", "sha256", "weights_sha256", "labels")
"""What the source says first of itself."""
MOST_LAYERS, LONGEST = 24, 48
IN_INT8, KEPT = "in int8", "kept in float"


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds of a step on the machine that converted, by artifact, and of repairs' rungs."""

    artifacts: Mapping[str, float | None] = field(default_factory=dict)
    rungs: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


NO_TIMES = StepTimes()


def page_path(bundle: Path) -> Path:
    """Where the page of a bundle belongs: beside it."""
    bundle = Path(bundle)
    if bundle.suffix == ".edgevid":
        return bundle.with_suffix(".html")
    return bundle.with_name(f"{bundle.name}.html")


def page(bundle: Bundle, timed: StepTimes = NO_TIMES) -> str:
    """The page as HTML; raises `BadBundle` where the evidence is not what a conversion writes."""
    try:
        return _page(bundle, timed)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BadBundle(
            f"{bundle.path}: its evidence is not what edgevid convert writes "
            f"({type(error).__name__}: {error}); convert the model again"
        ) from error


def _page(bundle: Bundle, timed: StepTimes) -> str:
    contract, evidence = bundle.contract, bundle.evidence
    made = Page(
        f"Evidence of {bundle.path.name}",
        f"{len(bundle.artifacts)} artifacts of one {contract.task} model, and what was shown of "
        "each before the bundle was written.",
    )
    _verdict(made, bundle)
    _source(made, bundle)
    _artifacts(made, bundle, timed)
    _parity(made, evidence)
    _repairs(made, bundle, timed)
    _layers(made, evidence)
    _graphs(made, bundle)
    _operators(made, bundle)
    _calibration(made, bundle)
    _gates(made, evidence)
    _versions(made, evidence)
    return made.html(f"Bundle {bundle.sha256}; page made by edgevid {__version__}.")


def _verdict(made: Page, bundle: Bundle) -> None:
    evidence = bundle.evidence
    reasons = [_measured(bundle)]
    reasons += [
        f"{name} was repaired: in float stays {', '.join(_kept(evidence, name))}"
        for name in evidence.get("repair", {})
    ]
    count = len(bundle.artifacts)
    word = "does what the model does" if count == 1 else "do what the model does"
    made.verdict(True, f"{count} artifact{'s'[: count > 1]} {word}", reasons)
    if evidence.get("preprocessing") == "unproven":
        made.verdict(False, "Preprocessing: unproven", [UNPROVEN])


def _measured(bundle: Bundle) -> str:
    """What the verdict rests on."""
    metrics = [one.metric for one in bundle.artifacts if one.metric.get("name")]
    if not metrics:
        why = bundle.evidence.get("held_out", {}).get("reason")
        return "by parity on recorded streams; no metric was measured" + (f": {why}" if why else "")
    worst = max(metrics, key=lambda metric: recorded_drop(metric) or 0.0)
    most = bundle.evidence.get("gates", {}).get("max_drop")
    allowed = f"; a drop of {most:g} was allowed" if most is not None else ""
    return (
        f"{worst['name']} {worst['source']:.4g} of the model, {worst['artifact']:.4g} of "
        f"the worst artifact, on {worst['n']} held-out clips{allowed}"
    )


def _source(made: Page, bundle: Bundle) -> None:
    made.heading("What it was made from")
    evidence, contract = bundle.evidence, bundle.contract
    memory = {"none": "none", "window": f"the last {contract.frames} frames", "carry": "carried on"}
    takes = f"{'; '.join(map(_input, contract.inputs))}, {contract.rate_fps:g} a second"
    fed = str(evidence.get("preprocessing", "not told"))
    rows: list[tuple[str, object]] = [("preprocessing", PREPROCESSING.get(fed, fed))]
    told = evidence.get("source", {})
    order = sorted(told, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    rows += [(name.replace("_", " "), _flat(told[name])) for name in order]
    train = evidence.get("source", {}).get("train")
    if isinstance(train, Mapping) and "seed" in train:
        rows.append(("seed", f"{train['seed']} (of the training)"))
    rows += [("takes", takes), ("memory", memory[contract.temporal])]
    if contract.labels and "labels" not in evidence.get("source", {}):
        rows.append(("labels", ", ".join(contract.labels)))
    made.facts(rows)


def _input(one: Input) -> str:
    if one.kind == "frame":
        return f"{one.name} {one.width}x{one.height} {one.colour}, {one.fit}"
    if one.kind == "audio":
        return f"{one.name}, {one.samples} samples of sound at {one.sample_rate_hz} Hz"
    return f"{one.name} {one.shape}"


def _artifacts(made: Page, bundle: Bundle, timed: StepTimes) -> None:
    made.heading("Artifacts")
    metric = metric_name([one.metric for one in bundle.artifacts])
    head = ["artifact", "bytes", metric, f"model's {metric}", "same answer", "max abs"]
    rows: list[list[object]] = [
        [
            one.name,
            one.bytes,
            one.metric.get("artifact"),
            one.metric.get("source"),
            one.metric.get("agreement", one.parity.get("agreement")),
            one.parity.get("max_abs"),
        ]
        for one in bundle.artifacts
    ]
    if timed.artifacts:
        head.append("ms a step here")
        rows = [[*row, timed.artifacts.get(str(row[0]))] for row in rows]
    made.table(head, rows, tight=True)
    made.words(
        "Same answer: the share of held-out clips, or of recorded steps where there are none, to "
        "which model and artifact give the same answer. Max abs: the largest difference from the "
        "model on its recorded streams."
    )
    if timed.artifacts:
        made.words(
            "Milliseconds are the middle of some steps on the machine that converted, in the "
            "runtime that edgevid ships, one after another. They hold for that machine only, and "
            "the bundle has none of them; edgevid bench measures properly."
        )
    _certainty(made, bundle.artifacts)
    made.subheading("What stays in float")
    made.facts((one.name, ", ".join(one.float_ops) or "nothing") for one in bundle.artifacts)


def _certainty(made: Page, artifacts: Sequence[Artifact]) -> None:
    columns = ("n", "lost", "won", "drop_at_most", "p")
    paired = [one for one in artifacts if "lost" in one.metric]
    if not paired:
        return
    made.subheading("What the held-out clips show")
    made.table(
        ("artifact", "clips", "lost", "won", "drop at most", "by chance p"),
        [(one.name, *(one.metric.get(column) for column in columns)) for one in paired],
        tight=True,
    )
    made.words(
        "Lost are clips that the model answers rightly and the artifact does not, won the other "
        "way round. The true drop is at most that with 95 % certainty; p is how often so many or "
        "more of the changed clips would be lost by chance."
    )


def _parity(made: Page, evidence: Raw) -> None:
    outputs = evidence.get("outputs", {})
    if not outputs:
        return
    made.heading("Parity of each output")
    made.words(
        "The largest difference from the model over its recorded streams, and the mean one in "
        "brackets; fed with the model's memory and with its own, as a share of the output's range "
        "where that exceeds 1."
    )
    artifacts = sorted(outputs)
    names = sorted({name for tensors in outputs.values() for name in tensors})
    made.table(
        ("output", *artifacts, "range"),
        [
            (
                name,
                *(_difference(outputs[artifact].get(name, {})) for artifact in artifacts),
                max(tensors[name]["range"] for tensors in outputs.values() if name in tensors),
            )
            for name in names
        ],
        tight=True,
    )


def _difference(told: Raw) -> str | None:
    """The largest and the mean one; None where there is none, or it is not a number."""
    if told.get("max_abs") is None:
        return None
    return f"{told['max_abs']:.3g} ({told['mean_abs']:.3g})"


def _repairs(made: Page, bundle: Bundle, timed: StepTimes) -> None:
    repairs = bundle.evidence.get("repair", {})
    if not repairs:
        return
    made.heading("Repair")
    made.words(
        "Where int8 breaks the budget, layers are kept in float: the worst one first, then the "
        "worst two, four and so on, and at last only those that are needed."
    )
    for name, repair in repairs.items():
        made.subheading(name)
        made.words(f"All in int8, it {repair['reason']}.")
        made.words(f"In float stays {', '.join(repair['kept'])}.")
        rungs = repair["rungs"]
        head = ["", "layers in float", "metric", "same answer", "max abs", "bytes"]
        rows: list[list[object]] = [
            [
                "kept" if rung["kept"] == repair["kept"] else "",
                len(rung["kept"]),
                rung["metric"],
                rung["agreement"],
                rung["max_abs"],
                rung["bytes"],
            ]
            for rung in rungs
        ]
        if name in timed.rungs:
            head.append("ms a step here")
            rows = [[*row, ms] for row, ms in zip(rows, timed.rungs[name], strict=True)]
        head.append("what the gates say")
        made.table(head, [[*r, g["reason"] or "yes"] for r, g in zip(rows, rungs, strict=True)])


def _layers(made: Page, evidence: Raw) -> None:
    measured = evidence.get("layers", {})
    if not measured:
        return
    made.heading("What int8 costs each layer")
    made.words(
        "The error of the model's answers with that layer alone in int8, as a share of the spread "
        "of the answers themselves. The worst come first."
    )
    made.drawings(_bars(name, layers, _kept(evidence, name)) for name, layers in measured.items())


def _bars(name: str, layers: Sequence[Raw], kept: Sequence[str]) -> tuple[str, str, Sequence[str]]:
    rows, prefix = [], common(layer["name"] for layer in layers)
    for layer in layers[:MOST_LAYERS]:
        part = KEPT if layer["name"] in kept else IN_INT8
        error = layer["error"]
        told = "not a number" if error is None else f"{error:.3g}"
        rows.append((_layer(layer, prefix), [(part, error or 0.0)], told))
    more = len(layers) - MOST_LAYERS
    left_out = f" The other {more} have less." if more > 0 else ""
    return stacked(rows, (IN_INT8, KEPT), f"error of layers, {name}"), f"{name}.{left_out}", ()


def _layer(layer: Raw, prefix: str) -> str:
    """Its name, with its kind where there is room."""
    name = short(layer["name"], prefix)
    told = f"{layer['kind']} {name}"
    return name if name.startswith(layer["kind"]) or len(told) > LONGEST else told


def _graphs(made: Page, bundle: Bundle) -> None:
    made.heading("The graph, and what it computes in")
    made.words(
        "Drawn from the artifacts themselves. A box is a run of operators that compute in the "
        "same; in large graphs, all of a layer, which is every product with the same weights and "
        "what follows it. Dashed lines lead back up. What unpacks weights once, when an artifact "
        "is loaded, is not drawn. OpenVINO computes in integers between a FakeQuantize and the "
        "product below it."
    )
    made.legend(LEGEND.items())
    for one in bundle.artifacts:
        if one.format not in graphs.READERS:
            made.words(f"{one.name}: there is no picture of this format.")
            continue
        graph = graphs.read(one.format, bundle.files(one))
        kept = _kept(bundle.evidence, one.name)
        svg, boxes = draw(graph, kept, f"graph of {one.name}")
        drawn = sum(box.size for box in boxes.boxes)
        caption = f"{drawn} of {len(graph.operators)} operators, in {len(boxes.boxes)} boxes."
        made.folded(one.name, svg, caption, unfolded=one.quantize != "float32")


def _operators(made: Page, bundle: Bundle) -> None:
    told = bundle.evidence.get("operators", {})
    if not told:
        return
    made.heading("Operators")
    made.words("How many of each kind an artifact has, by what they compute in.")
    made.table(*_by_kind(bundle.artifacts, told), tight=True)


def _by_kind(
    artifacts: Sequence[Artifact], told: Mapping[str, Sequence[Raw]]
) -> tuple[list[str], list[list[object]]]:
    """A row for each kind and what it computes in, a column for each artifact."""
    names = [one.name for one in artifacts if one.name in told]
    counts = {(name, row["kind"], row["computes"]): row["count"]
              for name in names for row in told[name]}  # fmt: skip
    rows = sorted({(kind, computes) for _, kind, computes in counts})
    return ["kind", "computes in", *names], [
        [kind, computes, *(counts.get((name, kind, computes)) for name in names)]
        for kind, computes in rows
    ]


def _calibration(made: Page, bundle: Bundle) -> None:
    evidence = bundle.evidence
    if "calibration" not in evidence:
        return
    made.heading("Data")
    calibration, held_out = evidence.get("calibration", {}), evidence.get("held_out", {})
    clips = calibration.get("clips", ())
    rows: list[tuple[str, object]] = [
        ("calibration", f"{len(clips)} clips: {_some(clips)}"),
        ("its sha256", calibration.get("sha256", "not told")),
        ("held out", _held_out(held_out)),
    ]
    split = evidence.get("split", {})
    if split:
        told = ", ".join(f"{len(paths)} {name}" for name, paths in split.items())
        rows.append(("split of the data", told))
    made.facts(rows)


def _held_out(held_out: Raw) -> str:
    if not held_out.get("clips"):
        return f"none: {held_out.get('reason', 'not told')}"
    left_out = len(held_out.get("left_out", ()))
    without = f", {left_out} could not be read" if left_out else ""
    return f"{held_out['clips']} clips of the split {held_out.get('split')}{without}"


def _gates(made: Page, evidence: Raw) -> None:
    gates = evidence.get("gates")
    if not gates:
        return
    made.heading("Gates")
    rows = [(name.replace("_", " "), _flat(value)) for name, value in gates.items()
            if name != "notes"]  # fmt: skip
    made.facts([*rows, *(("note", note) for note in gates.get("notes", ()))])


def _versions(made: Page, evidence: Raw) -> None:
    if "versions" not in evidence:
        return
    made.heading("Versions")
    made.facts(sorted(evidence.get("versions", {}).items()))


def _kept(evidence: Raw, name: str) -> list[str]:
    return list(evidence.get("repair", {}).get(name, {}).get("kept") or ())


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
