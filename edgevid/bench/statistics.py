"""What samples of a latency say, and how surely; and when they are too few to say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

WHICH = (50, 90, 95, 99, 99.9)


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its confidence interval, in the unit of what was given."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Insufficient:
    """Too little was measured to say anything; from ``needs`` on it can be said."""

    needs: int


def needed(percentile: float, confidence: float = 0.99) -> int:
    """How many samples a percentile needs: 64 for p90, 662 for p99 (MLPerf LoadGen's rule)."""
    raise NotImplementedError


def percentile(
    samples: Sequence[float], p: float, confidence: float = 0.95
) -> Estimate | Insufficient:
    """The nearest-rank percentile ``p`` (0 to 100) of samples in the order they were taken."""
    raise NotImplementedError


def early_stopping(samples: Sequence[float], p: float) -> float | None:
    """MLPerf LoadGen's own estimate for a single stream; None with fewer than `needed`."""
    raise NotImplementedError


def mean(rounds: Sequence[float], confidence: float = 0.95) -> Estimate | Insufficient:
    """The mean of independent values, such as one a round; two are needed."""
    raise NotImplementedError


def summary(samples_s: Sequence[float], which: Iterable[float] = WHICH) -> dict[str, Any]:
    """``{"p50": {"value", "low", "high"} or {"insufficient": needs}, ..., "mean": ...}`` in ms."""
    raise NotImplementedError


def as_json(found: Estimate | Insufficient, scale: float = 1.0) -> dict[str, float]:
    """``{"value", "low", "high"}`` times ``scale``, or ``{"insufficient": needs}``."""
    raise NotImplementedError
