"""``edgevid convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevid.cli.console import Bar, common, emit, table


@click.command(name="convert")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-f", "--format", "formats", multiple=True, help="tflite, openvino. Default: both.")
@click.option("--quantize", multiple=True, help="float32, int8; may be repeated. Default: both.")
@click.option(
    "--calibrate", type=click.Path(path_type=Path), help="Clips. Default: the run's training split."
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
    contract: Path | None,
    init: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Lower a model to TFLite and OpenVINO, prove each artifact, and write one bundle.

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
    wishes = {"formats": formats, "quantize": quantize}
    result = convert(
        model,
        calibrate=calibrate,
        contract=contract,
        out=out,
        progress=Bar(),
        **{name: wish for name, wish in wishes.items() if wish},
    )
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
    )
    return f"{table(rows, head)}\n{result['bundle']}"
