import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgevid.media.decode import Arrivals
from edgevid.runner.meters import FrameCounters, Samples, percentiles_ms, total

durations = st.lists(st.floats(0, 10), min_size=1, max_size=300)


@given(durations)
def test_percentiles_are_samples_that_occurred(seconds):
    found = percentiles_ms(seconds)
    want = np.percentile(np.array(seconds) * 1000, [50, 90, 99], method="inverted_cdf")
    assert np.allclose(list(found.values()), want, atol=1e-3)


def test_no_samples_give_no_percentiles():
    assert percentiles_ms([]) == {}


@given(durations, st.integers(1, 20))
def test_a_ring_keeps_the_newest(seconds, capacity):
    samples = Samples(capacity)
    for one in seconds:
        samples.add(one)
    assert sorted(samples.seconds()) == sorted(seconds[-capacity:])
    assert samples.count == len(seconds)


def test_what_is_not_decided_is_in_flight():
    counters = FrameCounters(answered=3, sampled_out=2, failed=1)
    counters.arrivals += [Arrivals(captured=10), Arrivals(captured=5, skipped=2, lost=1)]
    assert counters.to_json() == {
        "captured": 15,
        "answered": 3,
        "sampled_out": 4,
        "gated": 0,
        "dropped": 0,
        "failed": 2,
        "in_flight": 6,
    }
    assert total([counters, counters])["captured"] == 30
