"""False alarms and detections of benchmark comparisons. Prints one JSON document.

    python benchmarks/comparison.py [--trials 1000] [--record 60]

Alternating rounds of A and B are cut from synthetic traces of several kinds of machines and from
a trace recorded here: the times of a short step that keeps one core busy. A trace is compared
with itself (a false alarm is any verdict of worse or better) and with itself slowed down by 10 %
(a detection is a verdict of worse), by median and by p95, paired and unpaired. The end of the
warm-up is also located in traces where it is known, and in traces without one.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgevid.bench.host.compare import judge
from edgevid.bench.warmup import TOLERANCE, warm_up

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for the rigs
from rigs import traces

ROUNDS, LENGTH = 10, 70
KINDS = ("step", "slope", "exponential")
SLOWER = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--record", type=float, default=60.0, metavar="SECONDS")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    made = traces.machines(rng, options.trials, 2 * ROUNDS * LENGTH, LENGTH)
    began = time.process_time()
    recorded = record(options.record)
    had = (time.process_time() - began) / float(recorded.sum())
    result = {
        "rounds": ROUNDS,
        "samples_a_round": LENGTH,
        "made": {name: comparisons(factors) for name, factors in made.items()},
        "recorded": {
            "machine": platform.processor() or platform.machine(),
            "had_the_core": round(had, 3),  # less than 1: others ran in between
            "samples": len(recorded),
            "p50_us": round(1e6 * float(np.median(recorded)), 1),
            "p99_us": round(1e6 * float(np.quantile(recorded, 0.99)), 1),
            "one after another": comparisons(pieces(recorded)),
            "spread over all of it": comparisons(strewn(recorded)),
        },
        "warm_up": warm_ups(rng, options.trials // 5),
    }
    print(json.dumps(result, indent=1))


def comparisons(factors: Any) -> dict[str, Any]:
    """Shares of verdicts of A/A and A/B comparisons; ``factors`` is ``(trials, samples)``."""
    told: dict[str, Any] = {"trials": len(factors)}
    if not len(factors):
        return told
    for percentile in (50, 95):
        a, b = traces.interleaved(factors, LENGTH, percentile)
        for paired in (False, True):
            same = [judge(x, y, paired=paired).outcome for x, y in zip(a, b, strict=True)]
            slow = [judge(x, SLOWER * y, paired=paired).outcome for x, y in zip(a, b, strict=True)]
            told[f"p{percentile}, {'paired' if paired else 'unpaired'}"] = {
                "false_alarms": share(same, "worse", "better"),
                "no_worse": share(same, "no worse"),
                "caught": share(slow, "worse"),
                "missed": share(slow, "no worse", "better"),
            }
    return told


def share(outcomes: list[str], *which: str) -> float:
    return round(sum(outcomes.count(one) for one in which) / len(outcomes), 4)


def record(seconds: float) -> Any:
    """Times of a step of about 0.2 ms, float64 seconds: matrices that fit into the cache."""
    matrix = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    samples = []
    end = time.perf_counter() + seconds
    before = time.perf_counter()
    while before < end:
        for _ in range(12):
            np.tanh(matrix @ matrix)
        now = time.perf_counter()
        samples.append(now - before)
        before = now
    return np.array(samples)


def pieces(samples: Any) -> Any:
    """Comparisons of neighbouring rounds, as in an interleaved benchmark of A and B."""
    whole = 2 * ROUNDS * LENGTH
    return samples[: len(samples) // whole * whole].reshape(-1, whole)


def strewn(samples: Any) -> Any:
    """Comparisons of rounds far apart, as in a long benchmark with many jobs."""
    rounds = samples[: len(samples) // LENGTH * LENGTH].reshape(-1, LENGTH)
    trials = len(rounds) // (2 * ROUNDS)
    apart = rounds[: trials * 2 * ROUNDS].reshape(2 * ROUNDS, trials, LENGTH)
    return apart.transpose(1, 0, 2).reshape(trials, -1)


def warm_ups(rng: np.random.Generator, trials: int) -> dict[str, Any]:
    """Shares of warm-ups located within 10 %, steady traces left whole, drifts reported."""
    told: dict[str, Any] = {"trials": trials}
    for samples in (1000, 5000, 50_000):
        noise = traces.ar(rng, trials, samples, 0.3, 0.02) * traces.spikes(rng, trials, samples)
        knees: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        for at, trace in enumerate(noise):
            kind, knee = KINDS[at % 3], round(samples * rng.uniform(0.05, 0.6))
            shape = traces.warm_up(kind, samples, knee, rng.uniform(0.3, 5), TOLERANCE)
            found = warm_up(shape * trace)
            knees[kind].append(found.found and abs(found.samples / knee - 1) <= 0.1)
        steady = [warm_up(trace) for trace in noise]
        rising = np.linspace(1, 1.2, samples)
        told[f"{samples} samples"] = {
            **{kind: round(sum(hits) / len(hits), 4) for kind, hits in knees.items()},
            "steady": sum(one.found and one.samples <= samples / 100 for one in steady) / trials,
            "drift": sum(not warm_up(rising * trace).found for trace in noise) / trials,
        }
    long = np.tile(noise[0], 2)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        warm_up(long)
        times.append(time.perf_counter() - begun)
    told["ms for 100,000 samples"] = round(1000 * min(times), 1)
    return told


if __name__ == "__main__":
    main()
