"""``edgevid inspect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli.console import OUTPUT_FILE, PATH, common, emit, outputs, save, table
from edgevid.text import printable

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.contract import Input

CLAIMS = (
    "Claims of the bundle's author; edgevid verify checks that the artifacts give the recorded "
    "outputs here:"
)
"""Heading for facts that the bundle itself cannot prove."""


@click.command(name="inspect")
@click.argument("bundle", type=PATH)
@click.option(
    "--page",
    type=OUTPUT_FILE,
    help="Write the evidence, with graphs, as an HTML page.",
)
@common
def command(bundle: Path, page: Path | None, as_json: bool) -> None:
    """Show the inputs, outputs, artifacts and evidence of a bundle.

    Example:  edgevid inspect motion.edgevid --page motion.html
    """
    from dataclasses import asdict

    from edgevid import registry
    from edgevid.bundle import Bundle
    from edgevid.files import text_bytes

    written = outputs(as_json, page=page)
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
    if "page" in written:
        content = text_bytes(registry.load("tool", "page")(opened))
        if save(written["page"], content):
            result["page"] = str(page)
    emit(result, as_json, text)


def _text(opened: Bundle) -> str:
    from edgevid.tasks.evidence import recorded_agreement

    contract = opened.contract
    state = {
        "none": "none, each step on its own",
        "window": f"the last {contract.frames} frames",
        "carry": "carried from step to step",
    }
    facts: list[tuple[str, Any]] = [
        ("task", contract.task),
        *([("labels", ", ".join(contract.labels))] if contract.labels else []),
        *(("input", _input(one)) for one in contract.inputs),
        *([] if contract.is_video else [("video", "no source feeds these inputs; verify only")]),
        ("steps/s", f"{contract.rate_fps:g}"),
        ("state", state[contract.temporal]),
        ("sha256", opened.sha256),
    ]
    rows = [
        (
            a.name,
            a.bytes,
            a.metric.get("artifact"),
            a.metric.get("source"),
            a.parity.get("max_abs"),
            *recorded_agreement(a.metric, a.parity),
            len(a.float_ops),
        )
        for a in opened.artifacts
    ]
    named = (a.metric["name"] for a in opened.artifacts if a.metric.get("name"))
    metric = next(named, "metric")
    head = (
        "artifact",
        "bytes",
        metric,
        "source model",
        "max abs",
        "agreement",
        "of frames",
        "float operators",
    )
    claims = _lines(evidence_facts(opened.evidence))
    return f"{_lines(facts)}\n\n{CLAIMS}\n{claims}\n{table(rows, head)}"


def _lines(facts: Sequence[tuple[str, Any]]) -> str:
    """One line for each fact."""
    return "".join(printable(f"{name:<15} {value}") + "\n" for name, value in facts)


def _input(one: Input) -> str:
    """Describe one input of a contract in a line."""
    if one.kind == "frame":
        return f"{one.name}: {one.width}x{one.height} {one.colour}, {one.fit}, {one.resize}"
    if one.kind == "audio":
        return f"{one.name}: audio, {one.samples} samples at {one.sample_rate_hz} Hz"
    return f"{one.name}: vector {one.shape}"


def evidence_facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Summarise the evidence of a bundle: preprocessing, repairs and notes.

    Args:
        data: The evidence as the bundle has it; that of an unknown bundle may be anything.
    """
    from edgevid.errors import BadInput
    from edgevid.evidence import Evidence, preprocessing_text

    try:
        evidence = Evidence.from_json(data)
    except BadInput as error:
        return [("evidence", str(error))]
    facts = []
    if (proof := evidence.preprocessing) and proof != "own":
        reference = evidence.gates.reference if evidence.gates else None
        facts.append(("preprocessing", preprocessing_text(proof, reference)))
    facts += [
        ("repaired", f"{name}; kept in float32: {', '.join(evidence.kept(name))}")
        for name in evidence.repair
    ]
    facts += [("refused", f"{name}: {why}") for name, why in (evidence.refused or {}).items()]
    facts += [
        ("sensitivity", f"{name} moves by {one.max_abs:.2g} for 1 ulp; allowed {one.allowed:g}")
        for name, one in evidence.sensitivity.get("float32", {}).items()
        if one.allowed > min(known.allowed for known in evidence.sensitivity["float32"].values())
    ]
    facts += [
        ("in float32", f"{name}: {', '.join(left.operators)}{_share(left.share)}")
        for name, left in evidence.float_remainder.items()
    ]
    return facts + [("note", note) for note in (evidence.gates.notes if evidence.gates else ())]


def _share(share: float | None) -> str:
    return "" if share is None else f", {share:.2g} of its arithmetic"
