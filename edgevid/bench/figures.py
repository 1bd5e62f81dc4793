"""From raw rounds to what is reported of a job."""

from __future__ import annotations

import statistics as plain
from collections.abc import Mapping, Sequence
from typing import Any

from edgevid.bench.samples import unpack
from edgevid.bench.statistics import as_json, mean, summary
from edgevid.bench.warmup import WarmUp, warm_up

Round = Mapping[str, Any]

STAGES = ("decode", "geometry", "step", "task", "sink", "rest")


def figures_of(scenario: str, rounds: Sequence[Round], bound_ms: float | None) -> dict[str, Any]:
    """All figures of one job; ``bound_ms`` is the bound of latency where it is paced."""
    series = {name: _joined(rounds, name) for name in rounds[0]["samples"]}
    if scenario == "multi":
        return {"streams": _streams(rounds, bound_ms), "latency_ms": summary(series["latency"])}
    main = "latency" if "latency" in series else "step"
    warm = warm_up(series[main])
    steady = {name: values[warm.samples :] for name, values in series.items()}
    found: dict[str, Any] = {"warm_up": _warm(warm, rounds, series[main], main)}
    found |= {f"{name}_ms": summary(steady[name]) for name in ("latency", "step") if name in steady}
    if main == "latency":
        found["stages_ms"] = {
            name: round(1000 * plain.fmean(steady[name]), 5) for name in STAGES if steady.get(name)
        }
    if "rest" in steady:
        found["runner_ms"] = summary(_runner(steady))
    found["fps"] = as_json(mean([_fps(one) for one in rounds]))
    if bound_ms is not None:
        found["deadlines"] = _deadlines(steady["latency"], rounds, bound_ms)
    return found


def _runner(steady: Mapping[str, Sequence[float]]) -> list[float]:
    """What the runner adds to each frame: all but decoding, geometry and step."""
    return [
        sum(parts) for parts in zip(*(steady[n] for n in ("task", "sink", "rest")), strict=True)
    ]


def _joined(rounds: Sequence[Round], name: str) -> list[float]:
    return [value for one in rounds for value in unpack(one["samples"][name])]


def _warm(
    warm: WarmUp, rounds: Sequence[Round], series: Sequence[float], main: str
) -> dict[str, Any]:
    """In samples and seconds as they were taken, those that were not kept among them."""
    left, taken = warm.samples, 0
    for one in rounds:
        packed = one["samples"][main]
        here = min(left, packed["count"])
        left -= here
        taken += here * packed["every"]
    seconds = sum(series[: warm.samples]) * taken / max(warm.samples, 1)
    return {"samples": taken, "seconds": round(seconds, 4), "found": warm.found}


def _fps(one: Round) -> float:
    return float(one["frames"]["answered"] / one["elapsed_s"])


def _deadlines(
    latencies: Sequence[float], rounds: Sequence[Round], bound_ms: float
) -> dict[str, Any]:
    """What a camera would have felt: answers after the bound, and frames without any."""
    late = sum(value * 1000 > bound_ms for value in latencies)
    counters = [one["frames"] for one in rounds]
    unanswered = sum(one["dropped"] + one["failed"] + one["in_flight"] for one in counters)
    of = len(latencies) + unanswered
    missed = late + unanswered
    return {
        "bound_ms": bound_ms,
        "of": of,
        "missed": missed,
        "late": late,
        "unanswered": unanswered,
        "share": round(missed / of, 6) if of else None,
    }


def _streams(rounds: Sequence[Round], bound_ms: float | None) -> dict[str, Any]:
    found = [one["streams"] for one in rounds]
    middle = plain.median_low(found)
    return {
        "value": middle,
        "low": min(found),
        "high": max(found),
        "rounds": found,
        "bound_ms": bound_ms,
    }
