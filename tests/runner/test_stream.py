from dataclasses import replace

import numpy as np
import pytest

from edgevid.contract import StateTensor
from edgevid.errors import EngineFailed
from edgevid.runner.stream import Stream
from edgevid.runtimes.null import Arithmetic, NullEngine

BRIGHT, DARK = (np.full((1, 16, 24, 3), level, np.uint8) for level in (250, 5))


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
