"""``edgevid run``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid import registry
from edgevid.cli.console import OUTPUT, OUTPUT_FILE, PATH, FiniteRange, common, emit, outputs, say
from edgevid.errors import BadInput

if TYPE_CHECKING:
    from edgevid.runner.config import RunConfig
    from edgevid.runner.plugin_tables import SinkUse
    from edgevid.runner.service import Service
    from edgevid.runner.status_document import EngineStatus
    from edgevid.runner.summary import RunSummary


@click.command(name="run")
@click.argument("bundle", type=PATH, required=False)
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("--artifact", help="Run this artifact; see: edgevid inspect.")
@click.option("--runtime", help=f"Use this runtime: {', '.join(registry.builtin('runtime'))}, ...")
@click.option("--accelerator", help="Run on this accelerator, such as cpu; see: edgevid doctor.")
@click.option("--output", type=OUTPUT_FILE, help="Write results here as JSON lines.")
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="NAME[:KEY=VALUE,...]",
    help="Also send results to this sink; repeatable.",
)
@click.option("--rate", help="Steps per second, or all. Default: the model's own rate.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the engine. Default: 1.")
@click.option("--gate", is_flag=True, help="Skip steps while the scene is still.")
@click.option(
    "--latency-ms",
    type=FiniteRange(0, min_open=True),
    help="Drop frames that would exceed this latency.",
)
@click.option(
    "--transport", type=click.Choice(["tcp", "udp"]), default="tcp", help="Transport of RTSP."
)
@click.option(
    "--stall-s",
    type=FiniteRange(0, min_open=True),
    help="Reconnect after this many silent seconds. Default: learned from the stream.",
)
@click.option(
    "--source-fps",
    type=FiniteRange(0, 1000, min_open=True),
    help="The true rate of the files. Default: their time stamps, or the rate in their bitstream.",
)
@click.option(
    "--tls-ca",
    type=PATH,
    help="Trust this certificate, of an https or rtsps camera or of its issuer.",
)
@click.option("--tls-insecure", is_flag=True, help="Trust any certificate.")
@click.option("--decoder", default="software", help="software, auto, or a device such as vaapi.")
@click.option("--skip-loop-filter", is_flag=True, help="Decode faster, with coarser images.")
@click.option(
    "--status",
    type=OUTPUT,
    help="Directory for status.json and status.sock.",
)
@click.option(
    "--config",
    type=PATH,
    help="Service configuration in TOML: cameras, models and sinks; replaces all options above.",
)
@click.option("--check", is_flag=True, help="Check --config without running it.")
@common
def command(
    bundle: Path | None,
    sources: tuple[str, ...],
    config: Path | None,
    check: bool,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Run a model on video files and cameras; one JSON line per result.

    A SOURCE is a file, rtsp://..., http://..., /dev/video0, picamera: or synthetic:. Files are
    processed completely, one after another; cameras until Ctrl-C or SIGTERM, newest frames first.
    Results go to --output (for cameras they are appended), or to stdout without --output and
    --json. Of raw outputs they have the first values ("omitted" counts the others); for all of
    them add --sink jsonl:path=FILE,full=true. Lost and frozen cameras are retried forever; if an
    accelerator fails, the CPU takes over.

    \b
    Example:  edgevid run motion.edgevid video.mp4 --output results.jsonl
              edgevid run motion.edgevid rtsp://10.0.0.5/stream --status /run/edgevid
              edgevid run --config site.toml
    """
    if config is not None:
        _reject_options(config, bundle, output, options)
        return _check(config, as_json) if check else _run_service(config, as_json)
    if check:
        raise BadInput("--check needs a configuration; give --config FILE")
    if bundle is None or not sources:
        raise BadInput("give a bundle and its sources, or --config FILE; see: edgevid run --help")
    return _run_sources(_from_options(bundle, sources, options), output, as_json)


def _reject_options(
    config: Path, bundle: Path | None, output: Path | None, options: dict[str, Any]
) -> None:
    """Reject what --config would silently override."""
    defaults = {"transport": "tcp", "decoder": "software"}
    given = [n for n, v in options.items() if v not in (None, False, (), defaults.get(n))]
    given += ["output"] if output is not None else []
    if bundle is not None:
        raise BadInput(
            f"{bundle} cannot be combined with --config; name bundles and sources in {config}"
        )
    if given:
        option = given[0].removesuffix("s" if given[0] == "sinks" else "").replace("_", "-")
        raise BadInput(f"--{option} cannot be combined with --config; set it in {config}")


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


def _from_options(bundle: Path, sources: tuple[str, ...], options: dict[str, Any]) -> RunConfig:
    from edgevid.runner.config import OUTPUT, BundleUse, CameraUse, RunConfig

    of_bundle = ("artifact", "runtime", "accelerator", "threads", "rate")
    of_camera = (
        "gate",
        "latency_ms",
        "transport",
        "stall_s",
        "source_fps",
        "decoder",
        "skip_loop_filter",
        "tls_ca",
    )
    use = BundleUse(bundle.stem, bundle, **{name: options[name] for name in of_bundle})
    shared = {name: options[name] for name in of_camera}
    if options["tls_insecure"]:
        shared["tls"] = "insecure"
    cameras = tuple(CameraUse("", source, **shared) for source in sources)
    sinks = _parse_sinks(options["sinks"], taken=(OUTPUT,)) if options["sinks"] else ()
    return RunConfig((use,), cameras, status=options["status"], sinks=sinks)


def _parse_sinks(texts: Sequence[str], taken: Sequence[str]) -> tuple[SinkUse, ...]:
    from edgevid.runner.plugin_tables import parse_sinks  # costs a few milliseconds

    return parse_sinks(texts, taken)


def _run_sources(config: RunConfig, output: Path | None, as_json: bool) -> int:
    """Run what the command line names."""
    from dataclasses import replace

    from edgevid.output import STDOUT, try_file
    from edgevid.runner.assembly import GivenSink
    from edgevid.runner.config import OUTPUT
    from edgevid.runner.plugin_tables import check_files
    from edgevid.runner.service import Service
    from edgevid.sinks.jsonl import JsonLines, JsonLinesOptions

    check_files(replace(config, output=output))
    to_stdout = _stdout_sinks(config, as_json)
    # like the stdout that is used by default, it ends the run when its reader goes
    config = replace(config, sinks=tuple(use for use in config.sinks if use not in to_stdout))
    if output is not None:
        try_file(output)
    service = Service(config, in_turn=True, report=say)
    may_be_live = service.open_sources()  # a file over HTTP is known by its first answer
    with ExitStack() as stack:
        stack.callback(service.close_sources)
        sinks = [GivenSink(one.name, one.kind, JsonLines(one.options)) for one in to_stdout]
        appended = output if may_be_live and output != STDOUT else None
        if output is not None and appended is None:
            file = stack.enter_context(outputs(as_json, output=output)["output"].stream())
            sinks.append(GivenSink(OUTPUT, "jsonl", JsonLines.to(file)))
        elif output is None and not as_json and not to_stdout:
            sinks.append(GivenSink("stdout", "jsonl", JsonLines(JsonLinesOptions(STDOUT))))
        service.write_to(appended, sinks)
        stopped = _stop_in_order(service) if may_be_live else []
        summary = _run(service)
    if (output is not None or as_json) and output != STDOUT:
        _print(summary, as_json, aside=bool(to_stdout))
    if summary.truncated:
        say("edgevid: the video is truncated: results cover what could be decoded; copy it again")
        return 2
    lost = _losses(summary, finite=not may_be_live)
    return _exit_code(stopped) if stopped else lost


def _run_service(path: Path, as_json: bool) -> int:
    """Run a service configuration."""
    import os
    from dataclasses import replace

    from edgevid.output import STDOUT
    from edgevid.runner.assembly import GivenSink
    from edgevid.runner.config import read_config
    from edgevid.runner.service import Service
    from edgevid.sinks.jsonl import JsonLines, JsonLinesOptions

    def reread() -> RunConfig:
        config = read_config(path)
        folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        if folder and not config.status:
            config = replace(config, status=Path(folder))
        state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        if state and not config.state:
            config = replace(config, state=Path(state))
        if state and "EDGEVID_RELEASE" in os.environ and not config.output:
            config = replace(config, output=Path(state) / "answers.jsonl")  # on a flashed device
        return config

    config = reread()
    if os.geteuid() == 0:
        say("edgevid runs as root: a bug in a decoder could expose the machine; use another user")
    aside = bool(_stdout_sinks(config, as_json))
    to_stdout = not config.all_sinks() and not as_json
    stdout = GivenSink("stdout", "jsonl", JsonLines(JsonLinesOptions(STDOUT)))
    service = Service(config, [stdout] if to_stdout else [], report=say)
    stopped = _stop_in_order(service)
    signal.signal(signal.SIGHUP, lambda *_: service.reload(reread))
    summary = _run(service)
    if not to_stdout:
        _print(summary, as_json, aside=aside)
    lost = _losses(summary, finite=False)
    return _exit_code(stopped) if stopped else lost


def _run(service: Service) -> RunSummary:
    """Run to the end; a reader that closes our stdout ends it quietly, with exit code 0."""
    import os

    try:
        return service.run()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has no reader
        sys.exit(0)


def _stop_in_order(service: Service) -> list[int]:
    """Make SIGTERM and Ctrl-C end a live run in order; returns the list of those that arrive."""
    arrived: list[int] = []

    def stop(number: int, _: Any) -> None:
        arrived.append(number)
        service.stop()
        if service.is_starting:  # the proof of an engine that hangs takes minutes
            sys.exit(_exit_code(arrived))

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return arrived


def _exit_code(stopped: list[int]) -> int:
    return 130 if stopped[:1] == [signal.SIGINT] else 0


def _losses(summary: RunSummary, *, finite: bool) -> int:
    """Report sinks that lost results and event stages that raised; 4 if there are any.

    A live stream may drop results, a finite one may not.
    """
    code = 0
    for sink in summary.sinks:
        lost = sink.failed + (sink.dropped + sink.queued if finite else 0)
        if lost:
            reason = f": {sink.error}" if sink.error else ""
            say(f"edgevid: sink {sink.name}: {lost} results were not written{reason}")
            code = 4
    for stage in summary.events:
        if stage.failures:
            say(f"edgevid: event stage {stage.name}: raised {stage.failures} times: {stage.error}")
            code = 4
    return code


def _stdout_sinks(config: RunConfig, as_json: bool) -> list[SinkUse]:
    """The sinks that write their lines to stdout.

    Raises:
        BadInput: --json would write there too.
    """
    from edgevid.output import is_stdout

    files = [use for use in config.all_sinks() if use.kind == "jsonl"]
    found = [use for use in files if is_stdout(use.options.path)]
    if found and as_json:
        name = found[0].name
        raise BadInput(f"--json and sink {name!r} both write to stdout; give the sink a file")
    return found


def _print(summary: RunSummary, as_json: bool, *, aside: bool) -> None:
    """Print the summary, on stderr if the results are on stdout."""
    from edgevid.documents import to_json

    if aside:
        say(text(summary), lines=True)
        return
    emit(to_json(summary), as_json, text(summary))


def text(summary: RunSummary) -> str:
    """Render a run's summary in a few lines."""
    counts = vars(summary.frames).items()
    frames = ", ".join(f"{count} {name}" for name, count in counts if count)
    latency = ", ".join(f"{name} {value:.3g}" for name, value in summary.latency_ms.items())
    return "\n".join(
        [
            frames,
            f"{summary.fps:.1f} frames/s, latency ms: {latency}",
            *map(_engine, summary.engines),
        ]
    )


def _engine(engine: EngineStatus) -> str:
    serving = engine.serving
    line = f"{serving.artifact} in {serving.runtime} on {serving.accelerator}"
    return f"{line}; degraded: {engine.reason}" if engine.degraded else line
