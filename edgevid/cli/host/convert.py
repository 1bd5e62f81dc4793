"""``edgevid convert``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from edgevid import registry
from edgevid.cli.console import FLOAT, OUTPUT_FILE, PATH, Bar, common, emit, outputs, say, table


@click.command(name="convert")
@click.argument("model", type=PATH)
@click.option(
    "-f",
    "--format",
    "formats",
    multiple=True,
    help=f"{', '.join(registry.builtin('converter'))}, edgetpu or a plug-in's; repeatable. "
    "Default: what --target needs, or the first two.",
)
@click.option(
    "--quantize",
    multiple=True,
    help="float32, float16, dynamic, int8, int16x8; repeatable. Default: float32 and int8.",
)
@click.option("--target", help="Build what the engines of this target prefer; see edgevid targets.")
@click.option(
    "--calibrate",
    type=PATH,
    help="Clips to calibrate on. Default: the run's training split.",
)
@click.option(
    "--data",
    type=PATH,
    help="Labelled clips to measure on. Default: the run's test split.",
)
@click.option(
    "--max-drop",
    type=FLOAT,
    help="Largest drop of the metric from model to artifact. Default: 0.01.",
)
@click.option("--min-metric", type=FLOAT, help="Minimum of the metric, for model and artifact.")
@click.option(
    "--reference",
    type=PATH,
    help="The model owner's outputs: an .npz with frames, or next to a video; or a folder of them.",
)
@click.option(
    "--repair/--no-repair",
    "repair",
    default=True,
    help="Repair an int8 artifact that exceeds the budget: keep as few layers as possible in "
    "float32.",
)
@click.option(
    "--keep-going",
    is_flag=True,
    help="Exit 0 although some artifacts did not pass, if the bundle has one of every format.",
)
@click.option(
    "--cache/--no-cache",
    "cache",
    default=True,
    help="Reuse what earlier conversions computed from the same inputs.",
)
@click.option(
    "--trust-model",
    is_flag=True,
    help="Accept code in the model, which is executed when it is loaded; for models whose author "
    "you trust.",
)
@click.option("--allow-float", is_flag=True, help="Accept float operators in int8 artifacts.")
@click.option("--time-limit", type=FLOAT, help="Seconds that one converter may run. Default: 1200.")
@click.option(
    "--memory-limit",
    type=int,
    help="MB that one converter may use. Default: most of the free memory.",
)
@click.option(
    "--contract",
    type=PATH,
    help="Contract: what the model file does not record. Default: MODEL.contract.toml next to it.",
)
@click.option("--init", is_flag=True, help="Write a draft of the contract and stop.")
@click.option("-o", "--out", type=OUTPUT_FILE, help="Bundle to write.")
@common
def command(
    model: Path,
    formats: tuple[str, ...],
    quantize: tuple[str, ...],
    calibrate: Path | None,
    data: Path | None,
    max_drop: float | None,
    min_metric: float | None,
    reference: Path | None,
    repair: bool,
    keep_going: bool,
    cache: bool,
    target: str | None,
    trust_model: bool,
    allow_float: bool,
    time_limit: float | None,
    memory_limit: int | None,
    contract: Path | None,
    init: bool,
    out: Path | None,
    as_json: bool,
) -> int:
    """Convert a model to TFLite and OpenVINO artifacts, check each one, and write one bundle.

    A page of the evidence is written next to it: motion.html for motion.edgevid.

    MODEL is a run folder, a SavedModel, .keras, .h5, .onnx, .tflite, or OpenVINO's .xml. Every
    model but a run needs a contract file; --init writes a draft.

    The bundle has the artifacts that reproduce the model. Exit code 1 if any does not; no bundle
    if none does.

    Example:  edgevid convert run -f tflite -f openvino --quantize int8 -o motion.edgevid
    """
    if init:
        if out is not None:
            outputs(as_json, out=out)
        draft = registry.load("tool", "contract")(model, out, trust_model=trust_model)
        emit(draft, as_json, f"{draft['contract']}: {_to_do(draft)}, then convert")
        return 0
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    output = outputs(as_json, out=out)["out"]
    convert = registry.load("tool", "convert")
    given = {
        "formats": formats or None,
        "quantize": quantize or None,
        "max_drop": max_drop,
        "min_metric": min_metric,
        "time_limit_s": time_limit,
        "memory_limit_mb": memory_limit,
    }
    with ExitStack() as stack:
        place = out if output.is_regular else stack.enter_context(output.file())
        conversion = convert(
            model,
            calibrate=calibrate,
            contract=contract,
            out=place,
            progress=Bar(),
            data=data,
            reference=reference,
            repair=repair,
            cache=cache,
            target=target,
            allow_float=allow_float,
            trust_model=trust_model,
            **{name: value for name, value in given.items() if value is not None},
        )
    result = conversion.to_json()
    if not output.is_regular:  # the bundle was written into a pipe, without its page
        result |= {"bundle": str(out), "page": ""}
    emit(result, as_json, text(result))
    for name, reason in result["refused"].items():
        say(f"edgevid: not written: {name}: {reason}")
    return 0 if not result["refused"] or (keep_going and conversion.covers_formats) else 1


def _to_do(draft: Mapping[str, Any]) -> str:
    """What is left to do in a draft, with the number of lines marked for it."""
    steps = ((draft["open"], "fill in", "TODO"), (draft["guesses"], "check", "a guess"))
    todo = [
        f"{verb} the {count} lines marked {mark!r}"
        if count > 1
        else f"{verb} the line with {mark!r}"
        for count, verb, mark in steps
        if count
    ]
    return " and ".join(todo) or "check it"


def text(result: dict[str, Any]) -> str:
    """Format the artifacts as a table, with repairs and notes."""
    from edgevid.tasks.evidence import recorded_agreement

    rows = [
        (
            a["name"],
            a["bytes"],
            a["metric"]["source"],
            a["metric"]["artifact"],
            *recorded_agreement(a["metric"], a["parity"]),
            a["parity"]["max_abs"],
            len(a["float_ops"]),
            a["latency_ms"],
        )
        for a in result["artifacts"]
    ]
    name = next((a["metric"]["name"] for a in result["artifacts"] if a["metric"]["name"]), "metric")
    head = (
        "artifact",
        "bytes",
        f"source {name}",
        name,
        "agreement",
        "of frames",
        "max abs",
        "float operators",
        "ms/step here",
    )
    repairs = [text_of_repair(name, one) for name, one in result["repairs"].items()]
    lines = [table(rows, head), *repairs, *(f"note: {note}" for note in result["notes"])]
    if result["preprocessing"] == "unproven":
        lines.append(UNPROVEN)
    if result["preprocessing"] == "reference":
        lines.append(f"preprocessing: {result['preprocessing_text']}")
    return "\n".join([*lines, *filter(None, (result["page"], result["bundle"]))])


UNPROVEN = (
    "preprocessing: unproven; nothing shows that the model gets the input that it was trained on: "
    "give the model owner's outputs with --reference, or labelled clips with --data and "
    "--min-metric"
)


def text_of_repair(name: str, repair: dict[str, Any]) -> str:
    """Format the attempts of a repair as a table below its reason."""
    from edgevid.evidence import repair_choice

    rows = [
        (
            "kept" if rung["kept"] == repair["kept"] else "",
            len(rung["kept"]),
            rung["metric"],
            rung["max_abs"],
            rung["bytes"],
            latency_ms,
        )
        for rung, latency_ms in zip(repair["rungs"], repair["latencies_ms"], strict=True)
    ]
    head = ("", "layers in float32", "metric", "max abs", "bytes", "ms/step here")
    kept = ", ".join(repair["kept"])
    why = repair_choice(repair["rungs"], repair["kept"])
    lines = f"{name} {repair['reason']}\nrepaired; kept in float32: {kept}\n{table(rows, head)}"
    return f"{lines}\n{why}"
