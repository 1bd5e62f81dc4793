"""Tests that look at ranks only: no outlier and no shape of a distribution misleads them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.float64]

EXACT = 50
"""Up to so many values every arrangement is counted; beyond, the normal distribution serves."""


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """U of ``a`` and the two-sided p; exact for small samples, with ties."""
    ranks = _double_ranks([*a, *b])
    total, count = sum(ranks[: len(a)]), len(ranks)
    u = total / 2 - len(a) * (len(a) + 1) / 2
    if count <= EXACT:
        return u, _two_sided(_sums(ranks, len(a))[-1], total)
    middle = sum(ranks) / count
    variance = sum((rank - middle) ** 2 for rank in ranks) / (count - 1)
    return u, _normal(total - len(a) * middle, len(a) * len(b) * variance / count)


def signed_rank(differences: Iterable[float]) -> float:
    """The two-sided p of Wilcoxon's signed-rank test; exact for small samples, with ties."""
    told = [one for one in differences if one]
    ranks = _double_ranks([abs(one) for one in told])
    total = sum(rank for rank, one in zip(ranks, told, strict=True) if one > 0)
    if len(told) <= EXACT:
        return _two_sided(_sums(ranks).sum(axis=0), total)
    return _normal(total - sum(ranks) / 2, sum(rank * rank for rank in ranks) / 4)


def shift(
    a: Sequence[float], b: Sequence[float], alpha: float
) -> tuple[float, float, float] | None:
    """How much more ``b`` is than ``a``, and its interval (Hodges and Lehmann); 1 - ``alpha``.

    None where they are too few for an interval.
    """
    count = len(a) + len(b)
    if count <= EXACT:
        cut = _tail(_sums(range(1, count + 1), len(a))[-1], alpha)
    else:
        cut = _normal_tail(len(a) * len(b) / 2, len(a) * len(b) * (count + 1) / 12, alpha)
    return _middle([after - before for before in a for after in b], cut)


def paired_shift(differences: Sequence[float], alpha: float) -> tuple[float, float, float] | None:
    """The middle of differences, and its interval (Hodges and Lehmann); 1 - ``alpha``.

    None where they are too few for an interval.
    """
    count = len(differences)
    if count <= EXACT:
        cut = _tail(_sums(range(1, count + 1)).sum(axis=0), alpha)
    else:
        square = count * (count + 1) * (2 * count + 1)
        cut = _normal_tail(count * (count + 1) / 4, square / 24, alpha)
    walsh = [(differences[i] + differences[j]) / 2 for i in range(count) for j in range(i + 1)]
    return _middle(walsh, cut)


def _middle(values: list[float], cut: int | None) -> tuple[float, float, float] | None:
    """The median, and what is left at the ends when ``cut`` values are taken off each."""
    if cut is None:
        return None
    values.sort()
    half = len(values) // 2
    return (values[half] + values[-1 - half]) / 2, values[cut], values[-1 - cut]


def _double_ranks(values: Sequence[float]) -> list[int]:
    """Twice the rank of each, from 2 on: whole numbers also where ties share their middle."""
    ordered = sorted(values)
    first: dict[float, int] = {}
    last: dict[float, int] = {}
    for rank, value in enumerate(ordered, 1):
        first.setdefault(value, rank)
        last[value] = rank
    return [first[value] + last[value] for value in values]


def _sums(ranks: Sequence[int], most: int | None = None) -> Counts:
    """How many subsets of each size (row, up to ``most``) have each sum (column)."""
    import numpy as np

    most = len(ranks) if most is None else most
    counts = np.zeros((most + 1, sum(ranks) + 1))
    counts[0, 0] = 1
    for rank in ranks:
        counts[1:, rank:] += counts[:-1, :-rank].copy()
    return counts


def _two_sided(counts: Counts, total: int) -> float:
    """Twice the share of the sums that are as far out as ``total``, on its side."""
    below, above = float(counts[: total + 1].sum()), float(counts[total:].sum())
    return min(1.0, 2 * min(below, above) / float(counts.sum()))


def _tail(counts: Counts, alpha: float) -> int | None:
    """How many of the lowest sums together are not more than half of ``alpha``, less one."""
    import numpy as np

    possible = counts[np.flatnonzero(counts)[0] :]
    below = np.cumsum(possible) / possible.sum()
    found = int(np.searchsorted(below, alpha / 2, side="right")) - 1
    return found if found >= 0 else None


def _normal(off: float, variance: float) -> float:
    if not variance:
        return 1.0
    # Doubled ranks move in steps of 2, or of 1 with ties: half a step is taken off.
    return min(1.0, 2 * NormalDist().cdf(-max(0.0, abs(off) - 1) / math.sqrt(variance)))


def _normal_tail(middle: float, variance: float, alpha: float) -> int:
    return max(0, math.floor(middle + NormalDist().inv_cdf(alpha / 2) * math.sqrt(variance)))
