"""What samples of a latency say, and how surely; and when they are too few to say it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

WHICH = (50, 90, 95, 99, 99.9)
BATCHES = 10
"""Pieces of a trace whose differences tell how much its samples depend on each other."""


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


@lru_cache
def needed(percentile: float, confidence: float = 0.99) -> int:
    """How many samples a percentile needs: 64 for p90, 662 for p99.

    MLPerf LoadGen's early-stopping rule without tolerance: so many that the second largest lies
    above the percentile with ``confidence``.
    """
    beyond = _beyond(percentile)
    return _first(lambda n: n > 1 and _at_most(1, n, beyond) <= 1 - confidence)


def percentile(
    samples: Sequence[float], p: float, confidence: float = 0.95
) -> Estimate | Insufficient:
    """The nearest-rank percentile ``p`` (0 to 100) of samples in the order they were taken.

    The ends of the interval are samples too (order statistics, binomial). Frames are like their
    neighbours, so the interval is that of as many samples as would be independent: see
    `independent`. Where those are too few for an upper end, it is the largest sample.
    """
    count = len(samples)
    if count < needed(p):
        return Insufficient(needed(p))
    ordered = sorted(samples)
    value = ordered[_rank(count, p) - 1]
    alike = independent([sample <= value for sample in samples])
    low, high = _ranks(alike, p / 100, (1 - confidence) / 2)
    # From ranks among the independent to ranks among all, each end to the outside.
    lower = max(1, math.floor(low * count / alike))
    upper = min(count, math.ceil(high * count / alike))
    return Estimate(value, ordered[lower - 1], ordered[upper - 1])


def early_stopping(samples: Sequence[float], p: float) -> float | None:
    """MLPerf LoadGen's own estimate for a single stream; None with fewer than `needed`.

    With 99 % confidence the percentile ``p`` is not above it. Like LoadGen, it takes the samples
    for independent.
    """
    count = len(samples)
    if count < needed(p):
        return None
    beyond = _beyond(p)
    over = _first(lambda t: t >= count or _at_most(t, count, beyond) > 0.01) - 1
    return sorted(samples)[count - over]


def mean(rounds: Sequence[float], confidence: float = 0.95) -> Estimate | Insufficient:
    """The mean of independent values, such as one a round (Student's t); two are needed."""
    count = len(rounds)
    if count < 2:
        return Insufficient(2)
    value = math.fsum(rounds) / count
    variance = math.fsum((one - value) ** 2 for one in rounds) / (count - 1)
    margin = student_t(count - 1, confidence) * math.sqrt(variance / count)
    return Estimate(value, value - margin, value + margin)


def _mean_of_all(samples: Sequence[float]) -> Estimate | Insufficient:
    """The mean of samples that depend on those before them; its width is of their batch means."""
    found = mean(_batch_means(samples))
    if isinstance(found, Insufficient):
        return found
    # Batches leave out what does not fill one: the value itself is that of all.
    shift = math.fsum(samples) / len(samples) - found.value
    return Estimate(found.value + shift, found.low + shift, found.high + shift)


def summary(samples_s: Sequence[float], which: Iterable[float] = WHICH) -> dict[str, Any]:
    """``{"p50": {"value", "low", "high"} or {"insufficient": needs}, ..., "mean": ...}`` in ms.

    ``samples_s`` are seconds, in the order they were taken, the rounds one after another.
    """
    found = {f"p{p:g}": as_json(percentile(samples_s, p), 1000) for p in which}
    return {**found, "mean": as_json(_mean_of_all(samples_s), 1000)}


def as_json(found: Estimate | Insufficient, scale: float = 1.0) -> dict[str, float]:
    """``{"value", "low", "high"}`` times ``scale``, or ``{"insufficient": needs}``."""
    if isinstance(found, Insufficient):
        return {"insufficient": found.needs}
    ends = {"value": found.value, "low": found.low, "high": found.high}
    return {name: round(end * scale, 4) for name, end in ends.items()}


def independent(samples: Sequence[float]) -> int:
    """How many independent samples would tell as much of the mean as these do; at most as many.

    By batch means: were they independent, the means of ten pieces would vary by a tenth of what
    the samples do. Ten pieces tell that only roughly, so it is taken a third too ill, as Student's
    t is wider than the normal distribution.
    """
    count = len(samples)
    means = _batch_means(samples)
    if len(means) < BATCHES:
        return count
    value = math.fsum(samples) / count
    spread = math.fsum((one - value) ** 2 for one in samples) / count
    between = math.fsum((one - value) ** 2 for one in means) / (BATCHES - 1)
    if not spread or not between:
        return count
    caution = (student_t(BATCHES - 1, 0.95) / student_t(10**6, 0.95)) ** 2
    return max(2, min(count, round(BATCHES * spread / between / caution)))


@lru_cache
def student_t(freedom: int, confidence: float) -> float:
    """The two-sided quantile of Student's t distribution: 2.262 for 9 degrees and 0.95."""
    low, high = 0.0, 1e7
    for _ in range(100):
        middle = (low + high) / 2
        outside = _incomplete_beta(freedom / (freedom + middle * middle), freedom / 2, 0.5)
        low, high = (middle, high) if outside > 1 - confidence else (low, middle)
    return high


def _beyond(percentile: float) -> float:
    """The share beyond a percentile; for those below the median, the share below it."""
    if not 0 < percentile < 100:
        raise ValueError(f"a percentile lies between 0 and 100, and {percentile:g} does not")
    return min(percentile, 100 - percentile) / 100


def _rank(count: int, p: float) -> int:
    return max(1, math.ceil(round(count * p / 100, 6)))


def _batch_means(samples: Sequence[float]) -> list[float]:
    """The means of `BATCHES` pieces of equal length, or the samples where they are fewer."""
    size = len(samples) // BATCHES
    if size == 0:
        return list(samples)
    start = len(samples) - BATCHES * size
    pieces = (samples[at : at + size] for at in range(start, len(samples), size))
    return [math.fsum(piece) / size for piece in pieces]


def _ranks(count: int, share: float, outside: float) -> tuple[int, int]:
    """Order statistics that lie below and above a quantile but for ``outside``; from 0 to n + 1."""
    low = _first(lambda k: k > count or _at_most(k - 1, count, share) > outside) - 1
    return low, _first(lambda k: k > count or _at_most(k - 1, count, share) >= 1 - outside)


def _first(holds: Callable[[int], bool]) -> int:
    """The smallest number from 1 on from which ``holds`` is true."""
    high = 1
    while not holds(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _at_most(k: int, n: int, share: float) -> float:
    """P(X <= k) of a binomial distribution."""
    if k >= n:
        return 1.0
    return _incomplete_beta(1 - share, n - k, k + 1) if k >= 0 else 0.0


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x > 0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side only
        return 1 - _incomplete_beta(1 - x, b, a)
    size = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    size += a * math.log(x) + b * math.log1p(-x)
    # From its tail to its head: about the square root of max(a, b) terms are enough.
    fraction = 1.0
    for m in range(30 + int(3 * math.sqrt(max(a, b))), 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    return math.exp(size - math.log(fraction)) / a
