"""How long a camera may be silent, when it is tried again, and what its time stamps are worth."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid.media.timing import Backoff, StallDetector, StreamClock
from edgevid.media.unavailable import Reason


def after(intervals: list[float], stall_s: float | None = None) -> float:
    stalls = StallDetector(Backoff(), stall_s)
    stalls.begin()
    now = 0.0
    stalls.packet(now)
    for interval in intervals:
        now += interval
        stalls.packet(now)
    return stalls.limit_s


@pytest.mark.parametrize("fps", [2, 5, 10, 25, 60])
def test_a_usual_camera_that_freezes_is_noticed_within_3_s(fps):
    assert 1.4 < after([1 / fps] * 100) < 3


@pytest.mark.parametrize("fps", [0.05, 0.2, 0.5, 1])
def test_a_slow_camera_may_be_late_by_more_than_its_interval(fps):
    assert after([1 / fps] * 3) > 2 / fps


def test_it_is_patient_until_two_packets_showed_the_rhythm():
    stalls = StallDetector(Backoff(), None)
    stalls.begin()
    assert stalls.limit_s >= 20
    stalls.declare(0.1)
    assert stalls.limit_s >= 40
    stalls.packet(0.0)
    assert stalls.limit_s >= 40
    stalls.packet(0.04)
    assert stalls.limit_s < 3


def test_a_camera_that_is_known_is_given_less_time_to_reopen():
    stalls = StallDetector(Backoff(), None)
    stalls.begin()
    stalls.packet(0.0)
    stalls.packet(0.04)
    stalls.begin()
    assert stalls.limit_s == Backoff().reopen_s
    stalls.packet(9.0)
    assert stalls.limit_s < 3


def test_connections_that_freeze_before_any_rhythm_make_it_more_patient():
    stalls = StallDetector(Backoff(), None)
    limits = []
    for _ in range(4):
        stalls.begin()
        limits.append(stalls.limit_s)
        stalls.stalled()
    assert limits == [20, 40, 80, 120]


def test_a_given_silence_is_kept_to():
    assert after([0.04] * 10, stall_s=7.0) == 7.0


def test_ffmpegs_own_time_limit_is_behind_ours():
    stalls = StallDetector(Backoff(), None)
    assert float(stalls) > stalls.limit_s


@pytest.mark.parametrize("reason", Reason)
def test_it_is_tried_again_soon_but_never_as_one_herd(reason):
    backoff = Backoff()
    delays = [backoff.delay_s(reason, n) for n in range(40)]
    most = {Reason.AUTH: 60, Reason.CODEC: 15, Reason.NOT_FOUND: 15}.get(reason, 1.5)
    assert max(delays) <= most and max(delays[10:]) > most / 2
    assert len(set(delays[10:])) > 20


def test_a_wrong_password_is_tried_a_few_times_an_hour_at_most():
    backoff = Backoff()
    tries, spent = 0, 0.0
    while spent < 3600:
        spent += backoff.delay_s(Reason.AUTH, tries)
        tries += 1
    assert tries < 130


@given(
    st.lists(
        st.tuples(st.none() | st.floats(-1e6, 1e6), st.floats(0, 10)), min_size=2, max_size=60
    ),
    st.sets(st.integers(0, 59)),
)
def test_a_streams_time_never_goes_back_whatever_the_stamps_say(frames, restarts):
    clock, arrived, times = StreamClock(), 0.0, []
    for n, (raw, waited) in enumerate(frames):
        arrived += waited
        if n in restarts:
            clock.restart()
        before = times[-1] if times else 0.0
        pts_s, jumped = clock.advance(raw, arrived)
        assert not (jumped and n == 0)
        assert pts_s - before <= max(waited, StreamClock.MIN_STEP_S) + StreamClock.JUMP_S + 1e-6
        times.append(pts_s)
    assert all(b > a for a, b in pairwise(times))


def test_stamps_are_followed_while_they_make_sense():
    clock = StreamClock()
    times = [clock.advance(100 + n / 25, 7 + n / 25 + (n % 3) / 50) for n in range(50)]
    assert [t for t, _ in times] == [pytest.approx(n / 25) for n in range(50)]
    assert not any(jumped for _, jumped in times)


@pytest.mark.parametrize("jump_s", [-50.0, -0.5, 5.0, 1e6])
def test_a_jump_is_told_and_bridged_by_the_clock_of_arrival(jump_s):
    clock = StreamClock()
    clock.advance(100.0, 7.0)
    assert clock.advance(100.04 + jump_s, 7.05) == (pytest.approx(0.05), True)
    assert clock.advance(100.08 + jump_s, 7.10) == (pytest.approx(0.09), False)
