"""Percentiles and means of latency samples with confidence intervals.

This module runs on devices, so it needs nothing but the standard library; its results are tested
against scipy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from edgevid.documents import named

WHICH = (50, 90, 95, 99, 99.9)
BATCHES = 10
"""Pieces of a trace; the variance between them measures how dependent its samples are."""


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval, in the unit of the samples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Insufficient:
    """Too few samples for an estimate.

    Attributes:
        needs: How many samples it needs.
    """

    needs: int = named("insufficient")

    @property
    def value(self) -> None:
        """There is none."""


@lru_cache
def needed(percentile: float, confidence: float = 0.99) -> int:
    """How many samples a percentile needs: 64 for p90, 662 for p99.

    MLPerf LoadGen's early-stopping rule without tolerance: with ``confidence``, the second largest
    of that many samples lies above the percentile.
    """
    beyond = _beyond(percentile)
    return _first(lambda n: n > 1 and binomial_cdf(1, n, beyond) <= 1 - confidence)


def percentile(
    samples: Sequence[float], p: float, confidence: float = 0.95
) -> Estimate | Insufficient:
    """Estimate a percentile by its nearest rank.

    The interval's ends are samples too (order statistics, binomial distribution). Consecutive
    frames are dependent, so the interval is that of the effective number of independent samples,
    see `independent`. If those are too few for an upper end, it is the largest sample.

    Args:
        samples: In the order they were taken; any unit.
        p: The percentile, between 0 and 100.
        confidence: Of the two-sided interval.

    Raises:
        ValueError: If ``p`` is not between 0 and 100.
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
    """MLPerf LoadGen's early-stopping estimate for a single stream.

    With 99 % confidence the percentile ``p`` is not above it. Like LoadGen, it assumes independent
    samples.

    Returns:
        The estimate, or None for fewer samples than `needed`.
    """
    count = len(samples)
    if count < needed(p):
        return None
    beyond = _beyond(p)
    over = _first(lambda t: t >= count or binomial_cdf(t, count, beyond) > 0.01) - 1
    return sorted(samples)[count - over]


def mean(rounds: Sequence[float], confidence: float = 0.95) -> Estimate | Insufficient:
    """Estimate the mean of independent values, such as one a round (Student's t)."""
    count = len(rounds)
    if count < 2:
        return Insufficient(2)
    value = math.fsum(rounds) / count
    variance = math.fsum((one - value) ** 2 for one in rounds) / (count - 1)
    margin = student_t(count - 1, confidence) * math.sqrt(variance / count)
    return Estimate(value, value - margin, value + margin)


def _mean_of_all(samples: Sequence[float]) -> Estimate | Insufficient:
    """The mean of dependent samples; the interval comes from their batch means."""
    found = mean(_batch_means(samples))
    if isinstance(found, Insufficient):
        return found
    # The batches leave out a remainder; the value itself is the mean of all samples.
    shift = math.fsum(samples) / len(samples) - found.value
    return Estimate(found.value + shift, found.low + shift, found.high + shift)


def summary(
    samples_s: Sequence[float], which: Iterable[float] = WHICH
) -> dict[str, Estimate | Insufficient]:
    """Estimate percentiles and the mean, in milliseconds.

    Args:
        samples_s: Seconds, in the order they were taken, one round after another.
        which: The percentiles.

    Returns:
        ``p50``, ..., ``mean``, rounded to four digits after the point.
    """
    found = {f"p{p:g}": rounded(percentile(samples_s, p), 1000) for p in which}
    return {**found, "mean": rounded(_mean_of_all(samples_s), 1000)}


def rounded(found: Estimate | Insufficient, scale: float = 1.0) -> Estimate | Insufficient:
    """Multiply an estimate by ``scale`` and round it to four digits after the point."""
    if isinstance(found, Insufficient):
        return found
    value, low, high = (round(end * scale, 4) for end in (found.value, found.low, found.high))
    return replace(found, value=value, low=low, high=high)


def independent(samples: Sequence[float]) -> int:
    """The effective number of independent samples, at most ``len(samples)``.

    Batch means: the means of ten pieces of independent samples have a known variance. Ten pieces
    estimate it only roughly, so the result is reduced by the ratio of Student's t to the normal
    distribution, about a third.
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
    """The share above a percentile, or below it if it is less than the median."""
    if not 0 < percentile < 100:
        raise ValueError(f"a percentile lies between 0 and 100, and {percentile:g} does not")
    return min(percentile, 100 - percentile) / 100


def _rank(count: int, p: float) -> int:
    return max(1, math.ceil(round(count * p / 100, 6)))


def _batch_means(samples: Sequence[float]) -> list[float]:
    """The means of `BATCHES` pieces of equal length, or the samples if they are fewer."""
    size = len(samples) // BATCHES
    if size == 0:
        return list(samples)
    start = len(samples) - BATCHES * size
    pieces = (samples[at : at + size] for at in range(start, len(samples), size))
    return [math.fsum(piece) / size for piece in pieces]


def _ranks(count: int, share: float, outside: float) -> tuple[int, int]:
    """Ranks of order statistics that enclose a quantile, each missing it with ``outside``."""
    low = _first(lambda k: k > count or binomial_cdf(k - 1, count, share) > outside) - 1
    return low, _first(lambda k: k > count or binomial_cdf(k - 1, count, share) >= 1 - outside)


def _first(holds: Callable[[int], bool]) -> int:
    """The smallest number above 0 for which the monotonic ``holds`` is true."""
    high = 1
    while not holds(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def binomial_cdf(k: int, n: int, share: float) -> float:
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
