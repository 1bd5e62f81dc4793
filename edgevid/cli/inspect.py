"""``edgevid inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli.console import common, emit, table

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.contract import Input


@click.command(name="inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--page", type=click.Path(path_type=Path), help="Write it all as one HTML page, with graphs."
)
@common
def command(bundle: Path, page: Path | None, as_json: bool) -> None:
    """Show what a bundle takes and gives, what it holds, and what was shown of it.

    Example:  edgevid inspect motion.edgevid --page motion.html
    """
    from dataclasses import asdict

    from edgevid import registry
    from edgevid.bundle import Bundle
    from edgevid.files import write_bytes

    opened = Bundle.open(bundle)
    opened.check()
    result = {
        "bundle": str(bundle),
        "sha256": opened.sha256,
        "contract": opened.contract.to_json(),
        "artifacts": [asdict(artifact) for artifact in opened.artifacts],
        "evidence": opened.evidence,
    }
    text = _text(opened)
    if page is not None:
        write_bytes(page, registry.load("tool", "page")(opened).encode())
        result["page"] = str(page)
        text = f"{text}\n{page}"
    emit(result, as_json, text)


def _text(opened: Bundle) -> str:
    contract = opened.contract
    memory = {
        "none": "none, each frame on its own",
        "window": f"the last {contract.frames} frames",
        "carry": "carried on without end",
    }
    facts: list[tuple[str, Any]] = [
        ("task", contract.task),
        *([("labels", ", ".join(contract.labels))] if contract.labels else []),
        *(("input", _input(one)) for one in contract.inputs),
        *([] if contract.is_video else [("video", "no source feeds these inputs; verify only")]),
        ("steps a second", f"{contract.rate_fps:g}"),
        ("memory", memory[contract.temporal]),
        ("sha256", opened.sha256),
        *_shown(opened),
    ]
    rows = [
        (
            a.name,
            a.bytes,
            a.metric.get("artifact"),
            a.metric.get("source"),
            a.parity.get("max_abs"),
            a.parity.get("agreement"),
            len(a.float_ops),
        )
        for a in opened.artifacts
    ]
    named = (a.metric["name"] for a in opened.artifacts if a.metric.get("name"))
    metric = next(named, "metric")
    head = ("artifact", "bytes", metric, "source's", "max abs", "agreement", "float operators")
    words = "\n".join(f"{name:<15} {value}" for name, value in facts)
    return f"{words}\n\n{table(rows, head)}"


def _input(one: Input) -> str:
    """Describe one input of a contract in a line."""
    if one.kind == "frame":
        return f"{one.name}: {one.width}x{one.height} {one.colour}, {one.fit}"
    if one.kind == "audio":
        return f"{one.name}: audio, {one.samples} samples at {one.sample_rate_hz} Hz"
    return f"{one.name}: vector {one.shape}"


def _shown(opened: Bundle) -> list[tuple[str, Any]]:
    """What was shown of the model, and what was not; a stranger's evidence may be anything."""
    evidence = opened.evidence
    shown: list[tuple[str, Any]] = []
    if fed := PREPROCESSING.get(str(evidence.get("preprocessing"))):
        shown.append(("preprocessing", fed))
    for name, repair in _table(evidence.get("repair")).items():
        kept = _table(repair).get("kept")
        told = ", ".join(map(str, kept if isinstance(kept, list) else ()))
        shown.append(("repaired", f"{name} keeps in float: {told}"))
    notes = _table(evidence.get("gates")).get("notes")
    return shown + [("note", note) for note in (notes if isinstance(notes, list) else ())]


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


PREPROCESSING = {
    "reference": "proven by the owner's answers",
    "floor": "the metric keeps to a floor on labelled clips",
    "unproven": "unproven: nothing shows that the model is fed as it was trained to be",
}
