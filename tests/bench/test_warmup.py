"""On traces whose warm-up is known because it was made."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevid.bench.warmup import TOLERANCE, WarmUp, warm_up
from rigs import traces

LATENCY_S = 0.004
seeds = st.integers(0, 10**6)


def noisy(seed, samples, spread=0.02, correlation=0.3, spiked=True):
    rng = np.random.default_rng(seed)
    noise = traces.ar(rng, 1, samples, correlation, spread)[0]
    return LATENCY_S * noise * (traces.spikes(rng, 1, samples)[0] if spiked else 1)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    seed=seeds,
    kind=st.sampled_from(["step", "slope", "exponential"]),
    samples=st.integers(4000, 10_000),
    share=st.floats(0.05, 0.6),
    height=st.floats(0.3, 5),
    spiked=st.booleans(),
)
def test_a_knee_is_found_within_a_tenth(seed, kind, samples, share, height, spiked):
    knee = round(share * samples)
    shape = traces.warm_up(kind, samples, knee, height, TOLERANCE)
    found = warm_up(shape * noisy(seed, samples, spiked=spiked))
    assert found.found
    assert found.samples == pytest.approx(knee, rel=0.1)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(seed=seeds, share=st.floats(0.1, 0.5))
def test_it_may_start_fast_and_settle_slower(seed, share):
    knee = round(share * 3000)
    found = warm_up(traces.warm_up("step", 3000, knee, -0.3, TOLERANCE) * noisy(seed, 3000))
    assert found.found
    assert found.samples == pytest.approx(knee, rel=0.1)


def test_a_warm_up_may_have_stages():
    trace = noisy(1, 4000)
    trace[:200] *= 3  # the caches
    trace[200:1200] *= 0.8  # a turbo that does not last
    assert warm_up(trace).samples == pytest.approx(1200, rel=0.1)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(seed=seeds, samples=st.integers(300, 5000), correlation=st.sampled_from([0, 0.5, 0.9]))
def test_what_is_steady_from_the_start_loses_nothing(seed, samples, correlation):
    found = warm_up(noisy(seed, samples, spread=0.05, correlation=correlation))
    assert found.found
    assert found.samples <= 0.01 * samples


@pytest.mark.parametrize("every", [5, 10, 25, 100])
@pytest.mark.parametrize("samples", [300, 1000, 20_000])
def test_periodic_spikes_are_no_warm_up(every, samples):
    trace = noisy(2, samples, spiked=False)
    trace[::every] *= 4
    assert warm_up(trace).samples <= 1
    assert warm_up(trace).found


def test_frequent_high_spikes_are_no_warm_up_either():
    for seed in range(60):
        high = traces.spikes(np.random.default_rng(seed), 1, 900, 0.05, 5.0)[0]
        found = warm_up(high * noisy(seed, 900, spiked=False))
        assert found.found
        assert found.samples <= 9


@settings(derandomize=True, deadline=None, max_examples=50)
@given(seed=seeds, rise=st.floats(0.1, 2), falls=st.booleans())
def test_a_drift_that_does_not_end_is_never_steady(seed, rise, falls):
    shape = 1 + rise * np.linspace(0, 1, 2000)
    assert not warm_up((1 / shape if falls else shape) * noisy(seed, 2000)).found


def test_a_small_drift_is_let_pass():
    assert warm_up(np.linspace(1, 1.02, 2000) * noisy(3, 2000)) == WarmUp(0, True)
    quiet = noisy(3, 2000, spread=0.005, spiked=False)
    assert warm_up(np.linspace(1, 1.045, 2000) * quiet) == WarmUp(0, True)


def test_a_change_near_the_end_is_not_called_steady():
    trace = noisy(4, 2000)
    trace[1700:] *= 1.5
    assert not warm_up(trace).found


def test_slow_first_calls_are_left_out_one_by_one():
    trace = noisy(5, 1000, spiked=False)
    trace[:3] *= 20
    assert warm_up(trace) == WarmUp(3, True)


def test_enough_has_to_be_left():
    trace = noisy(6, 400, spiked=False)
    trace[:200] *= 2
    assert warm_up(trace) == WarmUp(200, True)
    assert not warm_up(trace, least_samples=250).found
    assert warm_up(trace, least_s=0.7).found
    assert not warm_up(trace, least_s=0.9).found  # 200 samples of 4 ms
    assert warm_up(trace[:49]) == WarmUp(49, False)
    assert warm_up([]) == WarmUp(0, False)


def test_samples_that_are_all_alike_are_steady():
    assert warm_up([LATENCY_S] * 1000) == WarmUp(0, True)
    assert warm_up([0.0] * 1000) == WarmUp(0, True)
