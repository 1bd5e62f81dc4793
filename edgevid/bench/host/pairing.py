"""Two bench results side by side: what must be equal, and which figures are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgevid.bench.result import BenchResult, JobResult
from edgevid.bench.samples import unpack_steady
from edgevid.documents import to_json
from edgevid.errors import BadInput

MACHINE = (
    "board",
    "architecture",
    "bits",
    "virtual_machine",
    "container",
    "cpu",
    "clock",
    "cgroup_cpu_limit",
)
"""The fields of a machine that must be equal. Versions may differ: their effect is a question that
a comparison can answer."""

SOURCE = ("sha256", "rate_fps", "codec")
MAY_DIFFER = ("artifact", "runtime")
"""The fields of a job that may differ, so that one artifact can be compared with another."""

TAILS = ("latency p95", "step p95")
TAIL_NEEDS = 40
"""Samples of a round for its p95, so that two samples lie beyond it."""


@dataclass(frozen=True)
class JobSeries:
    """One job's figures, a value a round, in seconds or frames per prediction: less is better."""

    label: str
    figures: dict[str, list[float]]
    valid: bool
    reasons: tuple[str, ...]


def pairs(old: BenchResult, new: BenchResult) -> Iterator[tuple[JobSeries, JobSeries]]:
    """Yield the figures of each job in both results.

    Raises:
        BadInput: If the results cannot be compared; the message names the field that differs.
    """
    for part, names in (("machine", MACHINE), ("source", SOURCE)):
        before, after = to_json(getattr(old, part)), to_json(getattr(new, part))
        for name in names:
            _equal(before.get(name), after.get(name), f"{part}.{name}")
    for one, other in _matched(old.results, new.results):
        check_jobs(one.job.to_json(), other.job.to_json())
        yield _series(one), _series(other)


def check_jobs(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Check that two jobs can be compared.

    Raises:
        BadInput: If not; the message names the field that differs.
    """
    for name in sorted({*old, *new} - {*MAY_DIFFER}):
        _equal(old.get(name), new.get(name), f"job.{name}")


def _equal(old: Any, new: Any, field: str) -> None:
    """Raise with the innermost field that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            _equal(old.get(name), new.get(name), f"{field}.{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, (before, after) in enumerate(zip(old, new, strict=True)):
            _equal(before, after, f"{field}[{at}]")
    elif old != new:
        raise BadInput(
            f"the results differ in {field}, old {_short(old)} and new {_short(new)}; "
            "measure both under the same conditions"
        )


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _matched(
    old: Sequence[JobResult], new: Sequence[JobResult]
) -> Iterator[tuple[JobResult, JobResult]]:
    """Pair results of the same job; in a scenario with one left on each side, those two."""
    left = list(old)
    alone = []
    for after in new:
        before = next((one for one in left if _key(one) == _key(after)), None)
        if before is None:
            alone.append(after)
        else:
            left.remove(before)
            yield before, after
    for scenario in sorted({one.job.scenario for one in [*left, *alone]}):
        ours, theirs = (
            [one for one in side if one.job.scenario == scenario] for side in (left, alone)
        )
        if len(ours) != 1 or len(theirs) != 1:
            names = ", ".join(_label(one) for one in [*ours, *theirs])
            raise BadInput(
                "the results differ in scenario or artifact; these jobs have no counterpart, or "
                f"more than one: {names}; measure both under the same conditions"
            )
        yield ours[0], theirs[0]


def _key(result: JobResult) -> tuple[Any, ...]:
    job = result.job
    return job.scenario, job.artifact, job.runtime, job.accelerator, job.threads


def _label(result: JobResult) -> str:
    job = result.job
    return f"{job.artifact} in {job.runtime} on {job.accelerator}, {job.scenario}"


def _series(result: JobResult) -> JobSeries:
    return JobSeries(_label(result), _figures(result), result.valid, result.reasons)


def _figures(result: JobResult) -> dict[str, list[float]]:
    """The figures that describe the quality of a scenario, a value a round."""
    scenario, rounds = result.job.scenario, result.rounds
    if scenario == "offline":
        return {"time a frame": [one.elapsed_s / max(one.frames["answered"], 1) for one in rounds]}
    if scenario == "multi":
        return {"engines a stream": [1 / max(one.streams or 0, 0.5) for one in rounds]}
    name = result.series
    steady = _steady(result)
    figures = {f"{name} p50": [_rank(samples, 50) for samples in steady]}
    if min(len(samples) for samples in steady) >= TAIL_NEEDS:
        figures[f"{name} p95"] = [_rank(samples, 95) for samples in steady]
    if scenario == "paced":
        figures["frames an answer"] = [_frames_per_answer(one.frames) for one in rounds]
    return figures


def _frames_per_answer(counts: Mapping[str, int]) -> float:
    """1 if nothing is lost; frames in flight at the end of a round are not lost."""
    answered = max(counts["answered"], 1)
    return (answered + counts["dropped"] + counts["failed"]) / answered


def _rank(samples: Sequence[float], p: int) -> float:
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * p // 100) - 1)]


def _steady(result: JobResult) -> list[Sequence[float]]:
    """Each round's samples without the warm-up, except rounds that lost half of them."""
    packed = [one.samples[result.series] for one in result.rounds]
    warm_up = 0 if result.warm_up is None else result.warm_up.samples
    found = zip(packed, unpack_steady(packed, warm_up), strict=True)
    rounds: list[Sequence[float]] = [kept for one, kept in found if 2 * len(kept) > one.count]
    if not rounds:
        raise BadInput("a result has no steady round; measure longer")
    return rounds
