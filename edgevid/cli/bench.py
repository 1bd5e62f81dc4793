"""``edgevid bench``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli import bench_tune
from edgevid.cli.bench_options import choices_of, jobs_of, measuring, reporting
from edgevid.cli.console import OUTPUT, PATH, Bar, common, emit, on_host, outputs, save, table

if TYPE_CHECKING:
    from edgevid.bench.result import BenchResult, ForgottenTuning
    from edgevid.output import Destination

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
INVALID = 3
ON_COMPUTER = "is not available on a device; run it on a computer"


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a duration such as ``90s``, ``30m`` or ``2h``; a number alone is seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)
    if found is None or not float(found[1]):
        raise click.BadParameter(f"{value!r} is not a duration; give one such as 90s, 30m or 2h")
    return float(found[1]) * UNITS_S[found[2] or "s"]


class BenchCommand(click.Command):
    """``bench BUNDLE``, ``bench compare``, ``bench report``; ``./compare`` is a bundle."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Return the context of the command that is meant."""
        if not args or args[0] not in ("compare", "report"):
            return super().make_context(info_name, args, parent, **extra)
        name = args[0]
        module = on_host(f"edgevid.cli.host.bench_{name}", f"bench {name} {ON_COMPUTER}")
        meant: click.Command = module.command
        return meant.make_context(f"{info_name} {name}", args[1:], parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command of the context."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


@click.command(name="bench", cls=BenchCommand)
@click.argument("bundle", type=PATH)
@measuring
@click.option(
    "--sustained",
    callback=_seconds,
    metavar="TIME",
    help="Measure each job without a break for this long, such as 30m.",
)
@click.option("--out", type=OUTPUT, help="Write the whole result to this file (JSON).")
@click.option(
    "--baseline",
    type=PATH,
    help="Compare with this result, or measure this bundle too and compare; exit code 1 if worse.",
)
@reporting
@click.option(
    "--target",
    "devices",
    multiple=True,
    metavar="T",
    help="Measure on this device: its name or tag in the inventory, or user@host:port. Repeatable.",
)
@bench_tune.tuning
@click.option(
    "--pause-service",
    is_flag=True,
    help="With --target: pause the device's service during the measurement.",
)
@click.option(
    "--keep-runner", is_flag=True, help="With --target: keep a temporary runner on the device."
)
@click.option(
    "--end-other", is_flag=True, help="With --target: stop another benchmark that is running there."
)
@click.option(
    "--wheel",
    "wheels",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="With --target: the wheel of a plug-in that the bundle needs. Repeatable.",
)
@click.option("--trust-new", is_flag=True, help="Accept an unknown host key.")
@click.option("--kind", metavar="NAME", help="The device's target; see: edgevid targets.")
@click.option("--root", metavar="DIR", help="edgevid's folder on the device.")
@common
def command(
    bundle: Path,
    source: Path | None,
    out: Path | None,
    devices: tuple[str, ...],
    page: Path | None,
    markdown: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure every artifact of a bundle, on this machine or on devices.

    \b
    step     the engine alone
    single   one stream, closed loop: stages that add up to the wall time
    offline  throughput of the serving pipeline
    paced    one camera, open loop: latency from the scheduled time, missed deadlines, lost frames
    multi    how many cameras keep their rate within --latency-ms

    The rounds of all jobs are interleaved, the machine is monitored, and the runtime's profiler
    reports where the operators ran. A figure with too few samples is marked. If something disturbed
    the machine, or an accelerator left operators to the CPU, the result is INVALID and the exit
    code 3.

    With --target all of this happens on the device, with its installed runner or a temporary one.
    It continues there if the connection is lost; the same command resumes it. The results of
    several devices are written to the directory --out, one file per device.

    \b
    Example:  edgevid bench motion.edgevid --source video.mp4
              edgevid bench motion.edgevid --target gates --pause-service --out results
              edgevid bench motion.edgevid --scenario paced --sustained 30m --out result.json
              edgevid bench motion.edgevid --out result.json --page result.html
              edgevid bench motion.edgevid --baseline before.json
    \b
    Results:  edgevid bench compare before.json after.json
              edgevid bench report pi-4.json pi-5.json --page bench.html
    """
    from edgevid.documents import to_json
    from edgevid.files import canonical_json

    here = None if devices else out  # for several devices it is a folder
    opened = outputs(as_json, out=here, page=page, markdown=markdown)
    reports = _reports(opened)
    if devices:
        return _on_devices(bundle, source, as_json, reports)
    before, paired = None, False
    result: BenchResult | ForgottenTuning
    if options["tune"]:
        result = bench_tune.tuned(bundle, source, options)
    else:
        bench_tune.check_options(options)
        before, result, paired = _measured(bundle, source, options)
    if "out" in opened:
        save(opened["out"], canonical_json(to_json(result)))
    code = 0 if result.valid else INVALID
    shown = text(result)
    if before is not None:
        compare = on_host("edgevid.cli.host.bench_compare", f"--baseline {ON_COMPUTER}")
        result, shown, code = compare.with_baseline(before, result, shown, code, paired=paired)
    if reports is not None:
        reports.write([result])
    emit(to_json(result), as_json, shown)
    return code


def _measured(
    path: Path, source: Path | None, options: Mapping[str, Any]
) -> tuple[BenchResult | None, BenchResult, bool]:
    """The baseline's result, this one's, and whether they were measured side by side."""
    from edgevid import bench
    from edgevid.bench.synthetic_video import synthetic_video
    from edgevid.bundle import Bundle
    from edgevid.errors import BadInput

    baseline: Path | None = options["baseline"]
    before = None
    if baseline is not None:
        compare = on_host("edgevid.cli.host.bench_compare", f"--baseline {ON_COMPUTER}")
        if compare.is_bundle(baseline):
            if options["sustained"]:
                raise BadInput("--sustained measures one bundle; give --baseline a result")
            old, new = compare.side_by_side(baseline, path, {**options, "source": source})
            return old, new, True
        before = compare.read(baseline)
    plan = bench.BenchPlan(
        rounds=options["rounds"], samples=options["samples"], sustained_s=options["sustained"]
    )
    opened = Bundle.open(path)
    jobs = jobs_of(opened, choices_of(opened, options), options)
    video = source or synthetic_video(Bar())
    return before, bench.bench(opened, jobs, video, plan=plan, progress=Bar()), False


def _reports(opened: Mapping[str, Destination]) -> Any:
    """The reports to write in addition; None for none, as always on a device."""
    if not {"page", "markdown"} & set(opened):
        return None
    message = (
        "pages and Markdown are not available on a device; run edgevid bench report on a "
        "computer, on the file that --out wrote"
    )
    module = on_host("edgevid.cli.host.bench_report", message)
    return module.Reports.checked(opened.get("page"), opened.get("markdown"))


def _on_devices(bundle: Path, source: Path | None, as_json: bool, reports: Any) -> int:
    from edgevid.bench.synthetic_video import synthetic_video
    from edgevid.bundle import Bundle

    module = on_host("edgevid.cli.host.bench_devices", f"--target {ON_COMPUTER}")
    Bundle.open(bundle)
    video = source or synthetic_video(Bar())
    code: int = module.measure(click.get_current_context(), video, as_json, text, reports)
    return code


def text(result: BenchResult | ForgottenTuning) -> str:
    """Render a result as tables for a terminal, with its verdict."""
    from edgevid.bench.result import BenchResult
    from edgevid.bench.tables import tables, verdict

    if not isinstance(result, BenchResult):
        return "The stored choice was removed; edgevid run chooses the engine itself again."
    parts = [table(one.formatted(compact=True), one.head) for one in tables(result)]
    parts.append("\n".join(verdict(result)))
    if result.tuned is not None:
        parts.append(bench_tune.text(result.tuned))
    return "\n\n".join(parts)
