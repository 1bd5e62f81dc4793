"""How long a camera may be silent, when it is tried again, and what its time stamps are worth."""

import pytest

from edgevid.media.timing import AnswerTimes, Backoff, StallDetector
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
    wrong = dict.fromkeys((Reason.CERTIFICATE, Reason.CODEC, Reason.NOT_FOUND), 15)
    most = {Reason.AUTH: 60, **wrong}.get(reason, 1.5)
    assert max(delays) <= most and max(delays[10:]) > most / 2
    assert len(set(delays[10:])) > 20


def test_a_wrong_password_is_tried_a_few_times_an_hour_at_most():
    backoff = Backoff()
    tries, spent = 0, 0.0
    while spent < 3600:
        spent += backoff.delay_s(Reason.AUTH, tries)
        tries += 1
    assert tries < 130


def test_a_peer_that_never_answered_is_waited_for_longer_each_time():
    answers, limits = AnswerTimes(), []
    for _ in range(6):
        limits.append(answers.limit_s(20.0))
        answers.missed()
    assert limits == [1.5, 3, 6, 12, 20, 20]


def test_a_peer_that_answers_fast_is_soon_found_again_and_a_slow_one_in_time():
    answers = AnswerTimes()
    answers.came(0.05)
    limits = []
    for _ in range(12):
        limits.append(answers.limit_s(20.0))
        answers.missed()
    assert limits == [1.5, 1.5, 1.5, 3, 1.5, 1.5, 1.5, 6, 1.5, 1.5, 1.5, 12]
    answers.came(11.0)
    assert answers.limit_s(60.0) == 22 and answers.limit_s(5.0) == 5
