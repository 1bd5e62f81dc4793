from dataclasses import replace

import numpy as np
import pytest

from edgevid.contract import StateTensor
from edgevid.errors import EngineFailed
from edgevid.runner.stream import Stream
from edgevid.runtimes.null.cpu import Arithmetic, NullEngine

BRIGHT, DARK = ({"frame": np.full((1, 16, 24, 3), level, np.uint8)} for level in (250, 5))


@pytest.fixture
def engine(contract):
    return Arithmetic({"decay": 0.5}, contract)


def scores(answer):
    return answer["scores"][0].tolist()


def test_what_was_seen_before_counts_until_it_is_forgotten(contract, engine):
    fresh, stream = Stream(contract), Stream(contract)
    for _ in range(5):
        stream.step(engine, BRIGHT)
    after_light = scores(stream.step(engine, DARK))
    assert after_light != scores(fresh.step(engine, DARK))
    stream.reset()
    fresh.reset()
    assert scores(stream.step(engine, DARK)) == scores(fresh.step(engine, DARK))


def test_streams_on_one_engine_do_not_mix(contract, engine):
    alone, one, other = Stream(contract), Stream(contract), Stream(contract)
    for frame in (BRIGHT, DARK, BRIGHT, DARK):
        expected = scores(alone.step(engine, frame))
        other.step(engine, BRIGHT)
        assert scores(one.step(engine, frame)) == expected


def test_a_failed_step_can_be_taken_again_by_another_engine_with_nothing_lost(contract, engine):
    failing = NullEngine(engine, {"faults": [{"at": 2, "kind": "error"}]})
    clean, faulted = Stream(contract), Stream(contract)
    for number, frame in enumerate((BRIGHT, DARK, BRIGHT, DARK)):
        expected = scores(clean.step(engine, frame))
        if number == 2:
            with pytest.raises(EngineFailed):
                faulted.step(failing, frame)
            assert scores(faulted.step(engine, frame)) == expected
        else:
            assert scores(faulted.step(failing, frame)) == expected


def test_a_window_is_warm_when_it_is_full(contract, engine):
    window = replace(contract, temporal="window", states=(StateTensor("window", (1, 3, 2)),))
    stream = Stream(window)
    warm = []
    for _ in range(6):
        stream.step(engine, DARK)
        warm.append(stream.warm)
    assert warm == [False, False, False, True, True, True]
    stream.reset()
    assert not stream.warm


def gaps(stream, times):
    return [stream.is_gap(time_s) for time_s in times]


def test_a_short_gap_is_bridged_and_a_long_one_is_not(contract):
    """A window of 8 at 16 steps a second spans half a second; half of that is bridged."""
    window = replace(
        contract, temporal="window", frames=8, states=(StateTensor("window", (1, 7, 2)),)
    )
    steady = [0, 1 / 16, 2 / 16, 3 / 16]
    assert gaps(Stream(window), [*steady, 3 / 16 + 0.24]) == [False] * 5
    assert gaps(Stream(window), [*steady, 3 / 16 + 0.26, 3 / 16 + 0.26 + 1 / 16]) == [
        *[False] * 4,
        True,
        False,
    ]


def test_a_carried_memory_bridges_a_second(contract):
    assert gaps(Stream(contract), [0, 0.1, 1.0, 1.1, 2.2]) == [False, False, False, False, True]


def test_a_camera_that_slows_down_loses_its_memory_once_and_not_at_every_frame(contract):
    times = [0, 0.1, 0.2, 5.2, 10.2, 15.2, 20.2, 20.3, 20.4, 25.4]
    assert gaps(Stream(contract), times) == [
        *[False] * 3,
        True,
        *[False] * 5,
        True,
    ]


def test_a_model_without_memory_has_no_gaps(contract):
    still = replace(contract, temporal="none", states=())
    assert gaps(Stream(still), [0, 0.1, 100, 200]) == [False] * 4


def test_a_memory_goes_back_to_where_it_was_saved(contract, engine):
    stream = Stream(contract)
    stream.step(engine, BRIGHT)
    saved = stream.save()
    once = scores(stream.step(engine, DARK))
    stream.step(engine, BRIGHT)
    stream.restore(saved)
    assert scores(stream.step(engine, DARK)) == once
