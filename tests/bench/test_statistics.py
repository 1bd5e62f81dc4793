"""Against MLPerf LoadGen's own answers, SciPy's, and truths known beforehand."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgevid.bench import statistics
from edgevid.bench.statistics import Estimate, Insufficient

# What LoadGen (mlcommons-loadgen 6.0.17, SingleStream, PerformanceOnly) printed after so many
# queries: "Need to process at least ... queries", "Would discard ... highest latency queries".
LOADGEN_NEEDS = {50: 11, 80: 31, 90: 64, 95: 130, 97: 219, 99: 662, 99.9: 6636}
LOADGEN_DISCARDS = {
    50: {11: 0, 63: 20, 64: 21, 100: 36, 700: 317, 1000: 461, 5000: 2416, 24576: 12104},
    80: {63: 4, 100: 9, 219: 29, 500: 78, 1024: 173, 2000: 357, 10000: 1905, 24576: 4768},
    90: {64: 0, 100: 2, 130: 4, 220: 10, 700: 50, 1500: 122, 6636: 605, 24576: 2347},
    95: {130: 0, 219: 2, 500: 12, 662: 19, 700: 20, 1024: 34, 5000: 213, 24576: 1148},
    97: {219: 0, 500: 5, 700: 9, 1024: 17, 2000: 41, 6637: 165, 10000: 259, 24576: 674},
    99: {662: 0, 700: 0, 1000: 1, 1024: 2, 1500: 5, 2000: 8, 10000: 76, 24576: 208},
    99.9: {6636: 0, 6637: 0, 10000: 1, 24576: 12},
}


@pytest.mark.parametrize(("p", "needs"), LOADGEN_NEEDS.items())
def test_as_many_samples_are_needed_as_loadgen_needs(p, needs):
    assert statistics.needed(p) == needs
    assert statistics.percentile([1.0] * (needs - 1), p) == Insufficient(needs)
    assert isinstance(statistics.percentile([1.0] * needs, p), Estimate)
    assert statistics.early_stopping([1.0] * (needs - 1), p) is None


@pytest.mark.parametrize("p", LOADGEN_DISCARDS)
def test_early_stopping_discards_what_loadgen_discards(p):
    for count, discards in LOADGEN_DISCARDS[p].items():
        samples = random.Random(0).sample(range(count), count)
        assert statistics.early_stopping(samples, p) == count - 1 - discards


@given(st.integers(1, 10**5), st.floats(0.001, 0.999), st.data())
def test_binomial_shares_are_those_of_scipy(n, share, data):
    middle, spread = n * share, math.sqrt(n * share * (1 - share))
    k = round(middle + data.draw(st.floats(-6, 6)) * spread)
    assert statistics.binomial_cdf(k, n, share) == pytest.approx(
        stats.binom.cdf(k, n, share), rel=1e-6, abs=1e-9
    )


def test_student_t_is_that_of_scipy():
    for freedom in (1, 2, 9, 19, 500):
        for confidence in (0.9, 0.95, 0.99):
            expected = stats.t.ppf((1 + confidence) / 2, freedom)
            assert statistics.student_t(freedom, confidence) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=64, max_size=300), st.sampled_from([10, 50, 90]))
def test_a_percentile_is_a_sample_and_so_are_its_ends(samples, p):
    found = statistics.percentile(samples, p)
    assert found.value == sorted(samples)[math.ceil(len(samples) * p / 100) - 1]
    assert found.low <= found.value <= found.high
    assert {found.low, found.high} <= set(samples)


def truth_is_inside(correlation, p, trials=200, count=2000):
    """How often the interval holds the true percentile of noise that depends on itself."""
    rng, hits = random.Random(1), 0
    truth = stats.norm.ppf(p / 100)
    for _ in range(trials):
        level, samples = rng.gauss(0, 1), []
        for _ in range(count):
            level = correlation * level + math.sqrt(1 - correlation**2) * rng.gauss(0, 1)
            samples.append(level)
        found = statistics.percentile(samples, p)
        hits += found.low <= truth <= found.high
    return hits / trials


@pytest.mark.parametrize("p", [50, 99])
def test_the_interval_holds_the_truth_as_often_as_it_claims(p):
    assert truth_is_inside(0, p) >= 0.93


def test_the_interval_knows_that_frames_are_like_their_neighbours():
    # Taken for independent 0.4, and 0.92 without caution about so few pieces.
    assert truth_is_inside(0.9, 50, count=4000) >= 0.945


def test_samples_that_depend_on_each_other_count_for_fewer():
    rng = random.Random(2)
    free = [rng.gauss(0, 1) for _ in range(4000)]
    level, bound = 0.0, []
    for one in free:
        level = 0.9 * level + one
        bound.append(level)
    assert statistics.independent(free) > 1500
    assert 50 < statistics.independent(bound) < 600  # in theory 4000 * 0.1 / 1.9 = 210
    assert statistics.independent([1.0] * 100) == 100
    assert statistics.independent([1.0, 2.0]) == 2


def test_the_mean_is_that_of_all_samples_though_batches_leave_some_out():
    samples = [5.0] * 9 + [1.0] * 10  # ten batches of one
    assert statistics.summary(samples)["mean"].value == round(1000 * 55 / 19, 4)


def test_the_mean_is_students():
    rounds = [2.0, 2.1, 1.9, 2.05]
    low, high = stats.t.interval(0.95, 3, loc=2.0125, scale=stats.sem(rounds))
    found = statistics.mean(rounds)
    assert (found.value, found.low, found.high) == pytest.approx((2.0125, low, high))
    assert statistics.mean([2.0]) == Insufficient(2)


def test_a_summary_marks_what_has_too_few_samples():
    found = statistics.summary([0.002 + 0.000001 * (at % 7) for at in range(100)])
    assert list(found) == ["p50", "p90", "p95", "p99", "p99.9", "mean"]
    assert found["p50"].value == 2.003
    assert found["p95"] == Insufficient(130)
    assert found["p99"] == Insufficient(662)
    assert found["mean"].low <= 2.003 <= found["mean"].high
    assert statistics.summary([], [50]) == {"p50": Insufficient(11), "mean": Insufficient(2)}


@pytest.mark.parametrize("p", [0, 100, -1, 250])
def test_a_value_that_is_no_percentile_is_rejected(p):
    with pytest.raises(ValueError, match="between 0 and 100"):
        statistics.percentile([1.0] * 1000, p)
