"""``edgevid bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevid.cli.console import Bar, common, emit, table


@click.command(name="bench")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--source", type=click.Path(path_type=Path), help="Video to measure on. Default: a made one."
)
@click.option("--artifact", help="Only this one. Default: all.")
@click.option("--runtime", help="Only in this runtime.")
@click.option("--samples", type=click.IntRange(100), default=700, show_default=True)
@click.option("--target", default="local", show_default=True, help="Kind of device; local for now.")
@common
def command(
    bundle: Path,
    source: Path | None,
    artifact: str | None,
    runtime: str | None,
    samples: int,
    target: str,
    as_json: bool,
) -> None:
    """Measure every artifact of a bundle on this machine, from encoded video to answer.

    Every frame is answered, as fast as it goes; percentiles are of the time from a packet's
    arrival to its answer. Each artifact runs in a process of its own.

    Example:  edgevid bench motion.edgevid --source video.mp4
    """
    from edgevid import bench, targets
    from edgevid.bench.scene import scene
    from edgevid.bundle import Bundle
    from edgevid.errors import BadInput
    from edgevid.runner import engines

    device = targets.load(target)
    if device.name != "local":
        raise BadInput(f"--target {device.name}: only local can be measured; run bench there")
    opened = Bundle.open(bundle)
    wanted = engines.choices(opened, device, artifact=artifact, runtime=runtime)
    result = bench.bench(opened, wanted, source or scene(Bar()), samples=samples, progress=Bar())
    emit(result, as_json, text(result))


def text(result: dict[str, Any]) -> str:
    """Set the results as tables: the whole way, then its stages."""
    rows = [
        (
            r["artifact"],
            f"{r['runtime']}/{r['accelerator']}",
            r["precision"],
            r["fps"],
            *r["latency_ms"].values(),
            r["step_ms"]["p50"],
            r["peak_rss_mb"],
            r["first_answer_s"],
        )
        for r in result["results"]
    ]
    head = ("artifact", "engine", "precision", "frames/s", "p50 ms", "p90 ms", "p99 ms")
    whole = table(rows, (*head, "step p50 ms", "peak MB", "first answer s"))
    stages = table(
        [(r["artifact"], *r["stages_ms"].values()) for r in result["results"]],
        ("mean ms a frame", *result["results"][0]["stages_ms"]),
    )
    return f"{whole}\n\n{stages}"
