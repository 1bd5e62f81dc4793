"""``edgevid bench``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from edgevid.cli import bench_compare, bench_report, bench_tune
from edgevid.cli.bench_options import choices_of, jobs_of, measuring
from edgevid.cli.bench_report import reporting
from edgevid.cli.console import Bar, common, emit, on_host, say, table

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
INVALID = 3


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds of ``90s``, ``30m`` or ``2h``; a number alone is seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)
    if found is None or not float(found[1]):
        raise click.BadParameter(f"{value!r} is no time; give one such as 90s, 30m or 2h")
    return float(found[1]) * UNITS_S[found[2] or "s"]


@click.command(name="bench", cls=bench_compare.WithWords)
@click.argument("bundle", type=click.Path(path_type=Path))
@measuring
@click.option(
    "--sustained",
    callback=_seconds,
    metavar="TIME",
    help="Measure each job for so long, such as 30m, in one go.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the whole result here, JSON.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="Compare with this result, or with this bundle, measured beside; worse is exit code 1.",
)
@reporting
@click.option(
    "--target",
    "words",
    multiple=True,
    metavar="T",
    help="Measure there instead: a device or a tag of the inventory, or user@host:port; may be "
    "repeated.",
)
@bench_tune.tuning
@click.option(
    "--pause-service", is_flag=True, help="With --target: nothing serves there meanwhile."
)
@click.option("--keep-runner", is_flag=True, help="With --target: leave a throw-away runner there.")
@click.option("--end-other", is_flag=True, help="With --target: end another bench that runs there.")
@click.option(
    "--wheel",
    "wheels",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --target: the wheel of a plug-in that the bundle needs; may be repeated.",
)
@click.option("--trust-new", is_flag=True, help="Trust a host key that is not known here yet.")
@click.option("--kind", metavar="NAME", help="The kind of device; see: edgevid targets.")
@click.option("--root", metavar="DIR", help="edgevid's folder on the device.")
@common
def command(
    bundle: Path,
    source: Path | None,
    out: Path | None,
    words: tuple[str, ...],
    page: Path | None,
    markdown: Path | None,
    as_json: bool,
    **wishes: Any,
) -> int:
    """Measure every artifact of a bundle, here or there, and say whether it is worth anything.

    \b
    step     the engine alone
    single   one stream, closed loop: stages whose sum is the wall time
    offline  throughput of the pipeline that serves
    paced    one camera, open loop: latency from the scheduled time, deadlines missed, frames lost
    multi    how many cameras hold their rate within --latency-ms

    Rounds of all jobs are interleaved, the machine is watched, and where the operators ran is read
    from the runtime's own profiler. A figure with too few samples is told as such. Where something
    disturbed the machine, or an accelerator left work to the CPU, the result is INVALID, and the
    exit code 3.

    With --target the same happens on the device, with the runner that flash put there or a
    throw-away one. It goes on there when the link is lost; the same command finds it again. Of
    several devices each has a file of its own in the folder --out.

    \b
    Example:  edgevid bench motion.edgevid --source video.mp4
              edgevid bench motion.edgevid --target gates --pause-service --out results
              edgevid bench motion.edgevid --scenario paced --sustained 30m --out result.json
              edgevid bench motion.edgevid --out result.json --page result.html
              edgevid bench motion.edgevid --baseline before.json
    \b
    What was measured:  edgevid bench compare before.json after.json
                        edgevid bench report pi-4.json pi-5.json --page bench.html
    """
    from edgevid.bench.synthetic_video import synthetic_video
    from edgevid.bundle import Bundle
    from edgevid.files import write_json

    reports = bench_report.Reports.wanted(page, markdown, as_json)
    if words:
        Bundle.open(bundle)
        return _there(source or synthetic_video(Bar()), as_json, reports)
    before, paired = None, False
    if wishes["tune"]:
        result = bench_tune.tuned(bundle, source, wishes)
    else:
        bench_tune.refuse_without_tune(wishes)
        before, result, paired = _measured(bundle, source, wishes)
    if out is not None:
        write_json(out, result)
        say(f"written: {out}")
    code = 0 if result["valid"] else INVALID
    result, said, code = bench_compare.judged(before, result, text(result), code, paired=paired)
    emit(result, as_json, reports.give([result], said))
    return code


def _measured(
    path: Path, source: Path | None, wishes: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any], bool]:
    """The baseline's result, this one's, and whether they were measured side by side."""
    from edgevid import bench
    from edgevid.bench.synthetic_video import synthetic_video
    from edgevid.bundle import Bundle
    from edgevid.errors import BadInput

    baseline: Path | None = wishes["baseline"]
    if baseline is not None and bench_compare.is_bundle(baseline):
        if wishes["sustained"]:
            raise BadInput("--sustained measures one bundle; give --baseline a result")
        old, new = bench_compare.side_by_side(baseline, path, {**wishes, "source": source})
        return old, new, True
    before = bench_compare.read(baseline) if baseline else None
    plan = bench.BenchPlan(
        rounds=wishes["rounds"], samples=wishes["samples"], sustained_s=wishes["sustained"]
    )
    opened = Bundle.open(path)
    jobs = jobs_of(opened, choices_of(opened, wishes), wishes)
    video = source or synthetic_video(Bar())
    return before, bench.bench(opened, jobs, video, plan=plan, progress=Bar()), False


def _there(video: Path, as_json: bool, reports: bench_report.Reports) -> int:
    devices = on_host(
        "edgevid.cli.host.bench_devices", "--target is not for a device; run it on a computer"
    )
    code: int = devices.measure(click.get_current_context(), video, as_json, text, reports)
    return code


def text(document: Mapping[str, Any]) -> str:
    """Set a result document as tables, and its verdict."""
    if document.get("tuned"):
        return bench_tune.text(document, _tables)
    return _tables(document)


def _tables(document: Mapping[str, Any]) -> str:
    results = document["results"]
    parts = [
        _speeds(results),
        _stages([one for one in results if one.get("stages_ms")]),
        _deadlines([one for one in results if one.get("deadlines")]),
        _streams([one for one in results if one.get("streams")]),
        _sustained([one for one in results if one.get("sustained")]),
        _starts(results),
        _verdict(document),
    ]
    return "\n\n".join(filter(None, parts))


def _name(result: Mapping[str, Any]) -> tuple[str, str]:
    job = result["job"]
    return job["artifact"], f"{job['runtime']}/{job['accelerator']}"


def _figure(estimate: Mapping[str, Any] | None, short: bool = False) -> str | float | None:
    """A figure; with too few samples, how many it needs."""
    if estimate is None:
        return None
    if "insufficient" in estimate:
        return f"needs {estimate['insufficient']}"
    value = float(estimate["value"])
    return value if short else f"{value:.4g} ({estimate['low']:.4g}-{estimate['high']:.4g})"


def _speeds(results: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for one in results:
        times = one.get("latency_ms") or one["step_ms"]
        rest = (_figure(times[p], short=True) for p in ("p90", "p95", "p99", "p99.9"))
        fps = _figure(one.get("fps"), short=True)
        row = (one["job"]["scenario"], *_name(one), one["precision"], fps, _figure(times["p50"]))
        rows.append((*row, *rest))
    head = ("scenario", "artifact", "engine", "precision", "a second", "p50 ms (95 %)")
    return table(rows, (*head, "p90 ms", "p95 ms", "p99 ms", "p99.9 ms"))


def _stages(results: list[Mapping[str, Any]]) -> str:
    from edgevid.bench.figures import STAGES

    rows = [
        (one["job"]["scenario"], *_name(one), *(one["stages_ms"].get(s) for s in STAGES))
        for one in results
    ]
    return table(rows, ("mean ms a frame", "artifact", "engine", *STAGES)) if rows else ""


def _deadlines(results: list[Mapping[str, Any]]) -> str:
    names = ("bound_ms", "of", "missed", "late", "unanswered")
    rows = [
        (*_name(one), one["job"]["rate_fps"], *(one["deadlines"][name] for name in names))
        for one in results
    ]
    head = ("paced", "engine", "frames/s", "within ms", "frames", "missed", "late", "unanswered")
    return table(rows, head) if rows else ""


def _streams(results: list[Mapping[str, Any]]) -> str:
    rows = [
        (*_name(one), *(one["streams"][name] for name in ("bound_ms", "value", "low", "high")))
        for one in results
    ]
    return table(rows, ("multi", "engine", "within ms", "streams", "low", "high")) if rows else ""


def _sustained(results: list[Mapping[str, Any]]) -> str:
    rows = [
        (one["job"]["scenario"], *_name(one), *list(one["sustained"].values())[:3])
        for one in results
    ]
    head = ("sustained", "artifact", "engine", "first p50 ms", "last p50 ms", "ratio")
    return table(rows, head) if rows else ""


def _starts(results: Iterable[Mapping[str, Any]]) -> str:
    engines = {_name(one): one for one in results}
    rows = []
    for name, one in engines.items():
        seen = one["operators"] or {}
        where = [seen.get("accelerated"), seen.get("on_cpu")]
        if one["job"]["accelerator"] == "cpu":
            where[0] = None
        timed = [sorted(one[key]) for key in ("ready_s", "first_answer_s")]
        firsts = [ages[len(ages) // 2] if ages else None for ages in timed]
        rows.append((*name, *firsts, one["peak_rss_mb"], *where))
    head = ("artifact", "engine", "ready s", "first answer s", "peak MB")
    return table(rows, (*head, "operators accelerated", "on the CPU"))


def _verdict(document: Mapping[str, Any]) -> str:
    harness = document["harness"]["overhead_us"]["p50"]
    told = f"The harness itself takes {harness:.3g} us a step."
    if document["valid"]:
        return f"{told}\nVALID"
    return "\n".join([told, "INVALID:", *(f"  {reason}" for reason in document["reasons"])])
