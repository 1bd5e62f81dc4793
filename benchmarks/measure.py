"""Shared by the benchmarks: run a command, and summarise ratios of interleaved runs."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
from collections.abc import Sequence
from typing import Any


def run_json(*args: object, **options: Any) -> Any:
    """Run a command and parse the JSON document that it prints on stdout."""
    command = [str(arg) for arg in args]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options)
    return json.loads(done.stdout)


def median_interval(values: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of the median (Efron 1979)."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws)]


def summary(ratios: Sequence[float]) -> dict[str, Any]:
    """Median and 95 % interval of the ratios of interleaved runs."""
    return {
        "pairs": len(ratios),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_95": [round(bound, 4) for bound in median_interval(ratios)],
    }
