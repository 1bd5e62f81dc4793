"""``edgevid run``."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid import registry
from edgevid.cli.console import common, emit, say
from edgevid.errors import BadInput

if TYPE_CHECKING:
    from edgevid.runner.config import RunConfig
    from edgevid.runner.service import Service


@click.command(name="run")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("--artifact", help="Execute this one; see: edgevid inspect.")
@click.option(
    "--runtime",
    help=f"Execute in this runtime: {', '.join(registry.builtin('runtime'))}, or a plug-in's.",
)
@click.option("--accelerator", help="Execute on this, for instance cpu; see: edgevid doctor.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write answers here, as JSON lines."
)
@click.option("--rate", help="Steps a second, or: all. Default: the model's own rate.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the engine. Default: 1.")
@click.option("--gate", is_flag=True, help="Do not step while the scene stands still.")
@click.option(
    "--latency-ms",
    type=click.FloatRange(0, min_open=True),
    help="Drop frames that cannot be answered so soon after they came.",
)
@click.option("--transport", type=click.Choice(["tcp", "udp"]), default="tcp", help="Of RTSP.")
@click.option(
    "--stall-s",
    type=click.FloatRange(0, min_open=True),
    help="A camera silent for so long has stalled. Default: learnt from its own pace.",
)
@click.option("--decoder", default="software", help="software, auto, or a device such as vaapi.")
@click.option("--skip-loop-filter", is_flag=True, help="Decode faster, with coarser pictures.")
@click.option(
    "--status",
    type=click.Path(path_type=Path),
    help="Tell how it goes in this folder: status.json and status.sock.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Many cameras and bundles, in TOML; instead of everything above.",
)
@click.option("--check", is_flag=True, help="Check --config, and run nothing.")
@common
def command(
    bundle: Path | None,
    sources: tuple[str, ...],
    config: Path | None,
    check: bool,
    output: Path | None,
    as_json: bool,
    **wishes: Any,
) -> int:
    """Answer video files and cameras, step by step; one JSON line a step.

    A SOURCE is a file, rtsp://..., http://..., /dev/video0, picamera: or synthetic:. Files are
    answered whole, one after another; cameras until Ctrl-C or SIGTERM, the newest frames first.
    Answers go to --output (at the end of it, for cameras), or to stdout where neither --output nor
    --json is given. A frozen, lost or absent camera is tried again for ever; an accelerator that
    fails is replaced by the CPU.

    \b
    Example:  edgevid run motion.edgevid video.mp4 --output answers.jsonl
              edgevid run motion.edgevid rtsp://10.0.0.5/stream --status /run/edgevid
              edgevid run --config site.toml
    """
    if config is not None:
        _only(config, check, bundle, output, wishes)
        return _check(config, as_json) if check else _configured(config, as_json)
    if check:
        raise BadInput("--check needs a configuration; give --config FILE")
    if bundle is None or not sources:
        raise BadInput("give a bundle and its sources, or --config FILE; see: edgevid run --help")
    return _plain(_from_options(bundle, sources, wishes), output, as_json)


def _only(
    config: Path, check: bool, bundle: Path | None, output: Path | None, wishes: dict[str, Any]
) -> None:
    """Refuse what stands beside --config: it would be silently without effect."""
    defaults = {"transport": "tcp", "decoder": "software"}
    given = [n for n, v in wishes.items() if v not in (None, False, defaults.get(n))]
    given += ["output"] if output is not None else []
    if bundle is not None:
        raise BadInput(f"{bundle} stands beside --config; name bundles and sources in {config}")
    if given:
        option = given[0].replace("_", "-")
        raise BadInput(f"--{option} stands beside --config; set it in {config}")


def _check(path: Path, as_json: bool) -> int:
    from dataclasses import asdict

    from edgevid.runner.check import check
    from edgevid.runner.config import read_config

    findings = check(read_config(path))
    failed = any(finding.state == "fail" for finding in findings)
    document = {"config": str(path), "ok": not failed, "findings": [asdict(f) for f in findings]}
    lines = [f"{f.state}  {f.where}: {f.text}" for f in findings]
    emit(document, as_json, "\n".join([*lines, f"{path} {'cannot' if failed else 'can'} be run"]))
    return 2 if failed else 0


def _from_options(bundle: Path, sources: tuple[str, ...], wishes: dict[str, Any]) -> RunConfig:
    from edgevid.runner.config import BundleUse, CameraUse, RunConfig

    of_bundle = ("artifact", "runtime", "accelerator", "threads", "rate")
    of_camera = ("gate", "latency_ms", "transport", "stall_s", "decoder", "skip_loop_filter")
    use = BundleUse(bundle.stem, bundle, **{name: wishes[name] for name in of_bundle})
    shared = {name: wishes[name] for name in of_camera}
    cameras = tuple(CameraUse("", source, **shared) for source in sources)
    return RunConfig((use,), cameras, status=wishes["status"])


def _plain(config: RunConfig, output: Path | None, as_json: bool) -> int:
    """Run what the command line says."""
    from dataclasses import replace

    from edgevid.files import writing
    from edgevid.media.sources import always_ends
    from edgevid.runner.jsonl import JsonLines
    from edgevid.runner.service import Service

    live = any(not always_ends(camera.source) for camera in config.cameras)
    with ExitStack() as stack:
        sinks: list[JsonLines] = []
        if output is not None and live:
            config = replace(config, output=output)
        elif output is not None:
            part = stack.enter_context(writing(output))
            sinks.append(JsonLines(stack.enter_context(part.open("w", encoding="utf-8"))))
        elif not as_json:
            sinks.append(JsonLines(sys.stdout, each=live))
        service = Service(config, sinks, in_turn=True, say=say)
        stopped = _stop_in_order(service) if live else []
        summary = service.run()
    if output is not None or as_json:
        emit(summary, as_json, text(summary))
    if summary["truncated"]:
        say("edgevid: the video is truncated: what could be decoded was answered; copy it again")
        return 2
    return _exit_code(stopped)


def _configured(path: Path, as_json: bool) -> int:
    """Run a configuration file."""
    import os
    from dataclasses import replace

    from edgevid.runner.config import read_config
    from edgevid.runner.jsonl import JsonLines
    from edgevid.runner.service import Service

    def reread() -> RunConfig:
        config = read_config(path)
        folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        if folder and not config.status:
            config = replace(config, status=Path(folder))
        state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        if state and "EDGEVID_RELEASE" in os.environ and not config.output:
            config = replace(config, output=Path(state) / "answers.jsonl")  # as it was flashed
        return config

    config = reread()
    sinks = [] if config.output is not None or as_json else [JsonLines(sys.stdout, each=True)]
    service = Service(config, sinks, say=say)
    stopped = _stop_in_order(service)
    signal.signal(signal.SIGHUP, lambda *_: service.reload(reread))
    summary = service.run()
    if config.output is not None or as_json:
        emit(summary, as_json, text(summary))
    return _exit_code(stopped)


def _stop_in_order(service: Service) -> list[int]:
    """Let SIGTERM and Ctrl-C end a live run in order; gives the list of those that came."""
    came: list[int] = []

    def stop(number: int, _: Any) -> None:
        came.append(number)
        service.stop()
        if service.is_starting:  # a proof takes minutes where an engine hangs
            sys.exit(_exit_code(came))

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return came


def _exit_code(stopped: list[int]) -> int:
    return 130 if stopped[:1] == [signal.SIGINT] else 0


def text(summary: dict[str, Any]) -> str:
    """Say a run's summary in a few lines."""
    frames = ", ".join(f"{count} {name}" for name, count in summary["frames"].items() if count)
    latency = ", ".join(f"{name} {value:.3g}" for name, value in summary["latency_ms"].items())
    return "\n".join(
        [
            frames,
            f"{summary['fps']:.1f} frames/s, latency ms: {latency}",
            *map(_engine, summary["engines"]),
        ]
    )


def _engine(engine: dict[str, Any]) -> str:
    serving = engine["serving"]
    said = f"{serving['artifact']} in {serving['runtime']} on {serving['accelerator']}"
    return f"{said}; degraded: {engine['reason']}" if engine["degraded"] else said
