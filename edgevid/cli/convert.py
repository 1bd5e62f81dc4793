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
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Bundle to write."
)
@common
def command(
    model: Path,
    formats: tuple[str, ...],
    quantize: tuple[str, ...],
    calibrate: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Lower a run's model to TFLite and OpenVINO, prove each artifact, and write one bundle.

    Exit code 1, and no bundle, where an artifact does not do what the model does.

    Example:  edgevid convert run -f tflite -f openvino --quantize int8 -o motion.edgevid
    """
    from edgevid import registry

    convert = registry.load("tool", "convert")
    wishes = {"formats": formats, "quantize": quantize}
    result = convert(
        model,
        calibrate=calibrate,
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
