"""``edgevid convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevid.cli.console import Bar, common, emit, table


@click.command(name="convert")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-f",
    "--format",
    "formats",
    multiple=True,
    help="tflite, openvino, edgetpu; may be repeated. Default: the first two.",
)
@click.option(
    "--quantize",
    multiple=True,
    help="float32, float16, dynamic, int8, int16x8; may be repeated. Default: float32 and int8.",
)
@click.option("--target", help="Make what this kind of device likes best: edgevid targets.")
@click.option(
    "--calibrate", type=click.Path(path_type=Path), help="Clips. Default: the run's training split."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Labelled clips to measure on. Default: the run's test split.",
)
@click.option(
    "--max-drop",
    type=float,
    help="Largest drop of the metric from model to artifact. Default: 0.01.",
)
@click.option("--min-metric", type=float, help="Floor of the metric, for model and artifact.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="The owner's answers: an .npz of inputs and outputs, or a folder of them.",
)
@click.option(
    "--repair/--no-repair",
    "repair",
    default=True,
    help="Keep the fewest layers of an int8 artifact in float that bring it into the budget.",
)
@click.option(
    "--allow-float", is_flag=True, help="Let int8 compute in float what cannot be quantised."
)
@click.option(
    "--time-limit", type=float, help="Seconds that one converter may take. Default: 1200."
)
@click.option(
    "--memory-limit", type=int, help="MB that one converter may take. Default: most that is free."
)
@click.option(
    "--contract",
    type=click.Path(path_type=Path),
    help="What the model's file does not say. Default: MODEL.contract.toml beside it.",
)
@click.option("--init", is_flag=True, help="Write that file, as far as the model tells, and stop.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Bundle to write.")
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
    target: str | None,
    allow_float: bool,
    time_limit: float | None,
    memory_limit: int | None,
    contract: Path | None,
    init: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Lower a model to TFLite and OpenVINO, prove each artifact, and write one bundle.

    A page of all that was shown is written beside it: motion.html for motion.edgevid.

    MODEL is a run folder, a SavedModel, .keras, .h5, .onnx, .tflite, or OpenVINO's .xml. What is
    not a run needs a contract file; --init writes its draft.

    Exit code 1, and no bundle, where an artifact does not do what the model does.

    Example:  edgevid convert run -f tflite -f openvino --quantize int8 -o motion.edgevid
    """
    from edgevid import registry

    if init:
        told = registry.load("tool", "contract")(model, out)
        left = f"{told['open']} lines in it" if told["open"] else "guesses in it"
        emit(told, as_json, f"{told['contract']}: check the {left}, then convert")
        return
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    convert = registry.load("tool", "convert")
    given = {
        "formats": formats or None,
        "quantize": quantize or None,
        "max_drop": max_drop,
        "min_metric": min_metric,
        "time_limit_s": time_limit,
        "memory_limit_mb": memory_limit,
    }
    result = convert(
        model,
        calibrate=calibrate,
        contract=contract,
        out=out,
        progress=Bar(),
        data=data,
        reference=reference,
        repair=repair,
        target=target,
        allow_float=allow_float,
        **{name: value for name, value in given.items() if value is not None},
    ).to_json()
    emit(result, as_json, text(result))


def text(result: dict[str, Any]) -> str:
    """Set the artifacts as a table."""
    rows = [
        (
            a["name"],
            a["bytes"],
            a["metric"]["source"],
            a["metric"]["artifact"],
            a["metric"].get("agreement"),
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
        "same answer",
        "max abs",
        "float operators",
        "ms a step here",
    )
    repairs = [text_of_repair(name, one) for name, one in result["repairs"].items()]
    told = [table(rows, head), *repairs, *(f"note: {note}" for note in result["notes"])]
    if result["preprocessing"] == "unproven":
        told.append(UNPROVEN)
    return "\n".join([*told, result["page"], result["bundle"]])


UNPROVEN = (
    "preprocessing: unproven; nothing shows that the model is fed as it was trained to be: give "
    "its owner's answers with --reference, or labelled clips with --data and --min-metric"
)


def text_of_repair(name: str, repair: dict[str, Any]) -> str:
    """Set the ladder of a repair as a table below its reason."""
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
    head = ("", "layers in float", "metric", "max abs", "bytes", "ms a step here")
    kept = ", ".join(repair["kept"])
    return f"{name} {repair['reason']}\nrepaired: in float stays {kept}\n{table(rows, head)}"
