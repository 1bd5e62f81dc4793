"""From the raw rounds of a job to its statistics."""

from __future__ import annotations

import statistics as plain
from collections.abc import Mapping, Sequence

from edgevid.bench.result import Deadlines, HeldStreams, JobFigures, RoundResult, WarmUpPeriod
from edgevid.bench.samples import unpack
from edgevid.bench.statistics import mean, rounded, summary
from edgevid.bench.warmup import WarmUp, warm_up

STAGES = ("decode", "geometry", "step", "task", "sink", "rest")


def figures_of(scenario: str, rounds: Sequence[RoundResult], bound_ms: float | None) -> JobFigures:
    """Compute all statistics of one job.

    Args:
        scenario: Its name.
        rounds: At least one.
        bound_ms: The latency bound, for a scenario that has one.
    """
    series = {name: _joined(rounds, name) for name in rounds[0].samples}
    if scenario == "multi":
        streams = _streams(rounds, bound_ms)
        return JobFigures(streams=streams, latency_ms=summary(series["latency"]))
    main = "latency" if "latency" in series else "step"
    warm = warm_up(series[main])
    steady = {name: values[warm.samples :] for name, values in series.items()}
    stages = {
        name: round(1000 * plain.fmean(steady[name]), 5) for name in STAGES if steady.get(name)
    }
    return JobFigures(
        warm_up=_warm_up(warm, rounds, series[main], main),
        latency_ms=summary(steady["latency"]) if "latency" in steady else None,
        step_ms=summary(steady["step"]) if "step" in steady else None,
        stages_ms=stages if main == "latency" else None,
        runner_ms=summary(_runner(steady)) if "rest" in steady else None,
        fps=rounded(mean([_fps(one) for one in rounds])),
        deadlines=None if bound_ms is None else _deadlines(steady["latency"], rounds, bound_ms),
    )


def _runner(steady: Mapping[str, Sequence[float]]) -> list[float]:
    """What the runner adds to each frame: everything but decoding, geometry and the step."""
    return [
        sum(parts) for parts in zip(*(steady[n] for n in ("task", "sink", "rest")), strict=True)
    ]


def _joined(rounds: Sequence[RoundResult], name: str) -> list[float]:
    return [value for one in rounds for value in unpack(one.samples[name])]


def _warm_up(
    warm: WarmUp, rounds: Sequence[RoundResult], series: Sequence[float], main: str
) -> WarmUpPeriod:
    """In samples as they were taken, including those that were not kept, and in seconds."""
    left, taken = warm.samples, 0
    for one in rounds:
        packed = one.samples[main]
        here = min(left, packed.count)
        left -= here
        taken += here * packed.every
    seconds = sum(series[: warm.samples]) * taken / max(warm.samples, 1)
    return WarmUpPeriod(taken, round(seconds, 4), warm.found)


def _fps(one: RoundResult) -> float:
    return float(one.frames["answered"] / one.elapsed_s)


def _deadlines(
    latencies: Sequence[float], rounds: Sequence[RoundResult], bound_ms: float
) -> Deadlines:
    """Frames that a camera would have seen answered late, or not at all."""
    late = sum(value * 1000 > bound_ms for value in latencies)
    lost = ("dropped", "failed", "in_flight")
    unanswered = sum(one.frames[name] for one in rounds for name in lost)
    of = len(latencies) + unanswered
    missed = late + unanswered
    share = round(missed / of, 6) if of else None
    return Deadlines(bound_ms, of, missed, late, unanswered, share)


def _streams(rounds: Sequence[RoundResult], bound_ms: float | None) -> HeldStreams:
    found = tuple(one.streams or 0 for one in rounds)
    return HeldStreams(plain.median_low(found), min(found), max(found), found, bound_ms)
