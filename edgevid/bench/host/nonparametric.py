"""Rank tests and confidence intervals: robust to outliers, for any distribution.

The p-values are scipy's. The intervals of a shift (Hodges and Lehmann 1963) invert the same tests;
scipy has none.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from edgevid.registry import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT = 50
"""Up to so many values the null distribution is exact, beyond it is normal."""

RESAMPLES = 9999
"""With ties, so many arrangements at most; all of them where there are fewer."""


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Compare two independent samples by the Mann-Whitney U test.

    Args:
        a: Values of the first sample.
        b: Values of the second sample.

    Returns:
        U of ``a``, and the two-sided p-value.
    """
    stats = need("scipy.stats", "report")
    pooled, smallest = [*a, *b], min(len(a), len(b))
    found = stats.mannwhitneyu(a, b, method=_method(pooled, smallest, ties=_ties(pooled)))
    return float(found.statistic), float(found.pvalue)


def signed_rank(differences: Sequence[float]) -> float:
    """Test paired differences by Wilcoxon's signed-rank test.

    Args:
        differences: Of the pairs; zeros are left out.

    Returns:
        The two-sided p-value.
    """
    stats = need("scipy.stats", "report")
    found = [one for one in differences if one]
    if not found:
        return 1.0
    method = _method(found, len(found), ties=_ties([abs(one) for one in found]))
    return float(stats.wilcoxon(found, method=method, correction=len(found) > EXACT).pvalue)


def _ties(values: Sequence[Hashable]) -> bool:
    return len(set(values)) < len(values)


def _method(values: Sequence[float], smallest: int, *, ties: bool) -> Any:
    """Scipy's method for so many values; its exact distributions assume that there are no ties."""
    if len(values) > EXACT or (ties and smallest < 2):  # scipy permutes two values or more
        return "asymptotic"
    if not ties:
        return "exact"
    import numpy as np

    rng = np.random.default_rng(0)  # the same p-value every time
    return need("scipy.stats", "report").PermutationMethod(n_resamples=RESAMPLES, rng=rng)


def shift(
    a: Sequence[float], b: Sequence[float], alpha: float
) -> tuple[float, float, float] | None:
    """Estimate how much larger ``b`` is than ``a`` (Hodges and Lehmann).

    Args:
        a: Values of the first sample.
        b: Values of the second sample.
        alpha: 1 minus the confidence of the interval.

    Returns:
        The estimate and the ends of its interval, or None if there are too few values.
    """
    count = len(a) + len(b)
    if count <= EXACT:
        cut = _tail(_rank_sums(count, len(a))[-1], alpha)
    else:
        cut = _normal_tail(len(a) * len(b) / 2, len(a) * len(b) * (count + 1) / 12, alpha)
    return _median_interval([after - before for before in a for after in b], cut)


def paired_shift(differences: Sequence[float], alpha: float) -> tuple[float, float, float] | None:
    """Estimate the centre of paired differences (Hodges and Lehmann).

    Args:
        differences: Of the pairs.
        alpha: 1 minus the confidence of the interval.

    Returns:
        The estimate and the ends of its interval, or None if there are too few values.
    """
    count = len(differences)
    if count <= EXACT:
        cut = _tail(_rank_sums(count, count).sum(axis=0), alpha)
    else:
        square = count * (count + 1) * (2 * count + 1)
        cut = _normal_tail(count * (count + 1) / 4, square / 24, alpha)
    walsh = [(differences[i] + differences[j]) / 2 for i in range(count) for j in range(i + 1)]
    return _median_interval(walsh, cut)


def _median_interval(values: list[float], cut: int | None) -> tuple[float, float, float] | None:
    """The median, and the ends that remain when ``cut`` values are removed from each side."""
    if cut is None:
        return None
    values.sort()
    half = len(values) // 2
    return (values[half] + values[-1 - half]) / 2, values[cut], values[-1 - cut]


def _rank_sums(count: int, most: int) -> NDArray[np.float64]:
    """How many subsets of the ranks 1 to ``count`` have each size (row) and each sum (column)."""
    import numpy as np

    counts = np.zeros((most + 1, count * (count + 1) // 2 + 1))
    counts[0, 0] = 1
    for rank in range(1, count + 1):
        counts[1:, rank:] += counts[:-1, :-rank].copy()
    return counts


def _tail(counts: NDArray[np.float64], alpha: float) -> int | None:
    """The largest number of lowest sums with at most half of ``alpha`` together, less one."""
    import numpy as np

    possible = counts[np.flatnonzero(counts)[0] :]
    below = np.cumsum(possible) / possible.sum()
    found = int(np.searchsorted(below, alpha / 2, side="right")) - 1
    return found if found >= 0 else None


def _normal_tail(middle: float, variance: float, alpha: float) -> int:
    stats = need("scipy.stats", "report")
    return max(0, math.floor(middle + float(stats.norm.ppf(alpha / 2)) * math.sqrt(variance)))
