"""``edgevid run``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli.console import common, emit, say

if TYPE_CHECKING:
    from edgevid.runner.pipeline import Sink


@click.command(name="run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--artifact", help="Execute this one; see: edgevid inspect.")
@click.option("--runtime", help="Execute in this library: tflite, openvino or null.")
@click.option("--accelerator", help="Execute on this, for instance cpu.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write answers here, as JSON lines."
)
@click.option("--rate", help="Steps a second, or: all. Default: the model's own rate.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the engine. Default: 1.")
@common
def command(
    bundle: Path,
    sources: tuple[str, ...],
    artifact: str | None,
    runtime: str | None,
    accelerator: str | None,
    output: Path | None,
    rate: str | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Answer video files, step by step; one JSON line a step.

    Answers go to --output, or to stdout where neither --output nor --json is given.

    Example:  edgevid run motion.edgevid video.mp4 --output answers.jsonl
    """
    from edgevid import targets
    from edgevid.bundle import Bundle
    from edgevid.files import writing
    from edgevid.runner import engines, serve
    from edgevid.runner.jsonl import JsonLines

    opened = Bundle.open(bundle)
    rate_fps = serve.rate_fps(rate, opened.contract)
    wanted = engines.choices(
        opened,
        targets.load("local"),
        artifact=artifact,
        runtime=runtime,
        accelerator=accelerator,
    )
    with ExitStack() as stack:
        sinks: list[Sink] = []
        if output is not None:
            part = stack.enter_context(writing(output))
            sinks.append(JsonLines(stack.enter_context(part.open("w", encoding="utf-8"))))
        elif not as_json:
            sinks.append(JsonLines(sys.stdout))
        summary = serve.serve(
            opened, wanted, list(sources), sinks, rate_fps=rate_fps, threads=threads, say=say
        )
    if output is not None or as_json:
        emit(summary, as_json, text(summary))
    if summary["truncated"]:
        say("edgevid: the video is truncated: what could be decoded was answered; copy it again")
        return 2
    return 0


def text(summary: dict[str, Any]) -> str:
    """Say a run's summary in a few lines."""
    frames = ", ".join(f"{count} {name}" for name, count in summary["frames"].items() if count)
    latency = ", ".join(f"{name} {value:.3g}" for name, value in summary["latency_ms"].items())
    return (
        f"{frames}\n"
        f"{summary['fps']:.1f} frames/s, latency ms: {latency}\n"
        f"{summary['artifact']} in {summary['runtime']} on {summary['accelerator']}"
    )
