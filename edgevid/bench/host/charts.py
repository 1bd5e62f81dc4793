"""The charts of a bench result, from its raw samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from edgevid.bench.figures import STAGES
from edgevid.bench.interference.record import MonitorLook
from edgevid.bench.result import BenchResult, JobResult, OperatorKind, OperatorProfile, RoundResult
from edgevid.bench.samples import unpack, unpack_steady
from edgevid.bench.statistics import Estimate
from edgevid.bench.tables import full
from edgevid.report import plots
from edgevid.report.svg import Chart
from edgevid.runtimes import CPU
from edgevid.tasks.evidence import metric_name, recorded_value

POINTS = 150
"""Points of a timeline, however long it is."""
KINDS = 8
"""So many kinds of operators are shown."""
SCATTER_SCENARIOS = ("single", "step")
"""The scenario whose latency is compared with the metric: the first of these that was measured."""


def label(result: JobResult) -> str:
    """Return the artifact and the engine."""
    return ", ".join(result.engine)


def steady(result: JobResult) -> list[float]:
    """Return the milliseconds of all rounds without the warm-up."""
    packed = [one.samples[result.series] for one in result.rounds]
    warm_up = 0 if result.warm_up is None else result.warm_up.samples
    return [1000 * sample for kept in unpack_steady(packed, warm_up) for sample in kept]


def distribution(result: JobResult) -> Chart:
    """Return the histogram and percentiles of a job."""
    marks: list[tuple[str, Sequence[float], str]] = []
    for name, found in result.percentiles.items():
        if name.startswith("p"):
            known = isinstance(found, Estimate)
            ends = [found.value, found.low, found.high] if isinstance(found, Estimate) else []
            marks.append((name, ends if known else (), str(full(found))))
    figure = plots.distribution(steady(result), marks)
    return Chart(figure, f"{result.series} of {label(result)}", label(result), _alarms(result))


def _alarms(result: JobResult) -> tuple[str, ...]:
    return tuple(f"INVALID: {reason}" for reason in result.reasons)


def stages(results: Sequence[JobResult]) -> Chart:
    """Return a bar for each job: the mean milliseconds of its stages."""
    rows = []
    for one in results:
        known = one.stages_ms or {}
        mean = one.percentiles["mean"].value
        parts = [(name, known[name]) for name in STAGES if name in known]
        rows.append((label(one), parts, "" if mean is None else f"{mean:.4g} ms"))
    return Chart(plots.stacked_bars(rows, STAGES), "stages of a frame", "Mean of a frame.")


def operators(result: JobResult, profile: OperatorProfile) -> Chart:
    """Return the slowest kinds of operators; those left to the CPU stand out."""
    accelerated = result.job.accelerator != CPU
    rows = [
        (
            f"{kind.count} × {kind.kind}",
            kind.ms or 0.0,
            f"{kind.ms or 0:.4g} ms on {kind.place}",
            accelerated and kind.place == CPU,
        )
        for kind in slowest(profile)
    ]
    caption = (
        f"{label(result)}: {profile.accelerated} on an accelerator, {profile.on_cpu} on the CPU; "
        "mean of a step, the slowest first."
    )
    return Chart(plots.bars(rows), f"operators of {label(result)}", caption)


def slowest(profile: OperatorProfile) -> Sequence[OperatorKind]:
    """Return the kinds of operators that took longest."""
    return profile.kinds[:KINDS]


Scored = tuple[BenchResult, JobResult, float, float]
"""A result, one of its jobs, its p50 in milliseconds, and its metric."""


def scored(results: Iterable[BenchResult]) -> list[Scored]:
    """Return the jobs of all artifacts with a known latency and a recorded metric."""
    found = []
    for result in results:
        metrics = {one.name: recorded_value(one.metric) for one in result.bundle.artifacts}
        for job in _one_scenario(result.results):
            value, middle = metrics.get(job.job.artifact), job.percentiles["p50"].value
            if value is not None and middle is not None:
                found.append((result, job, middle, value))
    return found


def metric_of(results: Iterable[BenchResult]) -> str:
    """Return the name of the task's metric in these results."""
    return metric_name([one.metric for result in results for one in result.bundle.artifacts])


def _one_scenario(results: Sequence[JobResult]) -> list[JobResult]:
    for name in SCATTER_SCENARIOS:
        if chosen := [one for one in results if one.job.scenario == name]:
            return chosen
    return []


def metric_and_latency(found: Sequence[Scored], metric: str) -> Chart:
    """Return the metric over latency; each device, or else each runtime, has a colour."""
    several = len({result.device_name for result, *_ in found}) > 1
    groups = [result.device_name if several else job.job.runtime for result, job, *_ in found]
    legend = list(dict.fromkeys(groups))
    points = [
        (ms, value, job.job.artifact, legend.index(group))
        for (_, job, ms, value), group in zip(found, groups, strict=True)
    ]
    figure = plots.scatter(points, legend, ("p50 in ms", metric))
    return Chart(figure, f"{metric} against latency", "Every artifact once.")


def timeline(result: JobResult, began_unix_s: float) -> Chart:
    """Return what was measured and the state of the machine over the job's own rounds.

    Args:
        result: The job.
        began_unix_s: ``created_unix_s`` of the whole result.
    """
    rounds = result.rounds
    starts = [0.0]
    for one in rounds:
        starts.append(starts[-1] + one.elapsed_s)
    looks = [*_looks(result, rounds, starts, began_unix_s)]
    tracks = [_latency(result, rounds, starts), *_machine(looks)]
    warm_up_s = 0.0 if result.warm_up is None else result.warm_up.seconds
    shades = [(0.0, warm_up_s, "warm"), *_throttled(looks)]
    figure = plots.timeline(tracks, shades, starts[1:-1], starts[-1])
    caption = f"{label(result)}, {result.job.scenario}"
    return Chart(figure, f"timeline of {label(result)}", caption, _alarms(result))


def _looks(
    result: JobResult, rounds: Sequence[RoundResult], starts: Sequence[float], began: float
) -> Iterator[tuple[float, MonitorLook]]:
    """The looks of the monitor, at the seconds of the job's own rounds."""
    for look in result.timeline:
        turn = look.label.partition(":")[2]
        if turn.isdigit() and int(turn) < len(rounds):
            one = rounds[int(turn)]
            within = look.t_s + began - one.started_unix_s
            yield starts[int(turn)] + min(max(within, 0.0), one.elapsed_s), look


def _latency(
    result: JobResult, rounds: Sequence[RoundResult], starts: Sequence[float]
) -> plots.Track:
    """The median and the maximum of as many neighbours as make one point."""
    name = result.series
    each = max(1, sum(one.samples[name].count for one in rounds) // POINTS)
    medians, slowest_ = [], []
    for one, start in zip(rounds, starts, strict=False):
        samples = unpack(one.samples[name])
        for first in range(0, len(samples), each):
            group = samples[first : first + each]
            at = start + one.elapsed_s * (first + len(group) / 2) / len(samples)
            medians.append((at, 1000 * median(group)))
            slowest_.append((at, 1000 * max(group)))
    return f"{name} ms: median and maximum of neighbours", [medians, slowest_]


def _machine(looks: Sequence[tuple[float, MonitorLook]]) -> Iterator[plots.Track]:
    for name, keys in (
        ("clock rate MHz, and the highest allowed", ("frequency_mhz", "limit_mhz")),
        ("°C, and the limit", ("temperature_c", "slows_at_c")),
        ("power W", ("power_w",)),
    ):
        lines = [
            [(at, float(v)) for at, look in looks if (v := getattr(look, key))] for key in keys
        ]
        if lines[0]:
            yield name, [line for line in lines if line]


def _throttled(looks: Sequence[tuple[float, MonitorLook]]) -> Iterator[tuple[float, float, str]]:
    """When the machine was too hot, or its clock rate was limited."""
    limits = [look.limit_mhz for _, look in looks if look.limit_mhz]
    highest = max(limits, default=0)
    for (at, look), (then, _) in zip(looks, [*looks[1:], *looks[-1:]], strict=False):
        hot = look.excess_c is not None and look.excess_c >= 0
        if hot or (look.limit_mhz or highest) < highest:
            yield at, max(then, at + 0.2), "alarm"
