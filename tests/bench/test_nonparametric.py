"""Against SciPy, and by counting every arrangement."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgevid.bench.host import nonparametric

values = st.lists(st.floats(-100, 100), min_size=1, max_size=14, unique=True)
few = st.lists(st.integers(0, 3), min_size=2, max_size=5)


@settings(deadline=None)  # scipy permutes
@given(values, values)
def test_without_ties_mann_whitney_is_scipys_exact_one(a, b):
    if set(a) & set(b):
        return
    expected = stats.mannwhitneyu(a, b, method="exact")
    assert nonparametric.mann_whitney(a, b) == pytest.approx((expected.statistic, expected.pvalue))


@settings(deadline=None)  # scipy permutes
@given(few, few)
def test_with_ties_mann_whitney_counts_every_arrangement(a, b):
    u, p = nonparametric.mann_whitney(a, b)
    assert u == pytest.approx(stats.mannwhitneyu(a, b).statistic)
    pooled = stats.rankdata([*a, *b])
    sums = [sum(chosen) for chosen in combinations(pooled, len(a))]
    reported = sum(pooled[: len(a)])
    below = sum(one <= reported for one in sums) / len(sums)
    above = sum(one >= reported for one in sums) / len(sums)
    assert p == pytest.approx(min(1, 2 * min(below, above)))


@settings(deadline=None)  # scipy permutes
@given(st.integers(0, 10**6), st.booleans())
def test_many_values_are_scipys_normal_approximation(seed, tied):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=40), rng.normal(0.4, size=30)
    if tied:
        a, b = a.round(), b.round()
    expected = stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    assert nonparametric.mann_whitney(a.tolist(), b.tolist())[1] == pytest.approx(expected)
    d = rng.normal(0.2, size=70)
    expected = stats.wilcoxon(d, method="asymptotic", correction=True).pvalue
    assert nonparametric.signed_rank(d.tolist()) == pytest.approx(expected)


@settings(deadline=None)  # scipy permutes
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_signed_ranks_count_every_sign(differences):
    reported = [one for one in differences if one]
    sizes = stats.rankdata(np.abs(reported)) if reported else []
    total = sum(size for size, one in zip(sizes, reported, strict=True) if one > 0)
    sums = [sum(np.multiply(signs, sizes)) for signs in product([0, 1], repeat=len(reported))]
    below = sum(one <= total for one in sums) / len(sums)
    above = sum(one >= total for one in sums) / len(sums)
    assert nonparametric.signed_rank(differences) == pytest.approx(min(1, 2 * min(below, above)))


@pytest.mark.parametrize("count", [6, 10, 60])
def test_intervals_hold_the_shift_as_often_as_they_claim(count):
    rng, hits, paired_hits, trials = np.random.default_rng(0), 0, 0, 300
    for _ in range(trials):
        a, b = rng.normal(size=count), rng.normal(0.7, size=count)
        _, low, high = nonparametric.shift(a.tolist(), b.tolist(), 0.1)
        hits += low <= 0.7 <= high
        _, low, high = nonparametric.paired_shift((b - a).tolist(), 0.1)
        paired_hits += low <= 0.7 <= high
    assert 0.86 <= hits / trials <= 0.97
    assert 0.86 <= paired_hits / trials <= 0.97


def test_too_few_have_no_interval():
    assert nonparametric.shift([1, 2], [3, 4], 0.1) is None
    assert nonparametric.shift([1, 2, 3], [4, 5, 6], 0.1) == (3, 1, 5)
    assert nonparametric.paired_shift([1, 2, 3, 4], 0.1) is None
    assert nonparametric.paired_shift([1, 2, 3, 4, 5], 0.1) == (3, 1, 5)
