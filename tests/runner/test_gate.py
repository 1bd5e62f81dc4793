"""Still scenes cost no steps, and no motion is lost."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevid.contract import StateTensor
from edgevid.runner.gate import REFRESH_S, Gate

SIZE, RATE = 64, 15.0


@pytest.fixture
def window(contract):
    frame = replace(contract.frame, height=SIZE, width=SIZE)
    states = (StateTensor("window", (1, 7, 2)),)
    return replace(contract, inputs=(frame,), temporal="window", frames=8, states=states)


def scene(seed=0):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(40, 200, (8, 8, 3)).repeat(8, 0).repeat(8, 1)
    return blocks.astype(np.float64)


def filmed(picture, rng, noise=2.0):
    """As a sensor gives it."""
    noisy = picture + rng.normal(0, noise, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8)[None]


def with_square(picture, left, side=4, contrast=60):
    out = picture.copy()
    out[30 : 30 + side, left : left + side] += contrast
    return out


def run(gate, frames, start=0):
    return [gate.opens(frame, (start + i) / RATE) for i, frame in enumerate(frames)]


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0, 15.0])
def test_a_still_scene_saves_over_nine_tenths_of_the_steps(window, noise):
    rng = np.random.default_rng(1)
    opened = run(Gate(window), [filmed(scene(), rng, noise) for _ in range(600)])
    assert sum(opened) < 60
    assert opened[0]


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0])
@pytest.mark.parametrize("at", [50, 51, 149, 200])
def test_the_first_frame_of_a_motion_is_stepped_and_all_that_follow(window, noise, at):
    rng = np.random.default_rng(at)
    still = [filmed(scene(), rng, noise) for _ in range(at)]
    moving = [filmed(with_square(scene(), 4 + 2 * i), rng, noise) for i in range(20)]
    opened = run(Gate(window), still + moving)
    assert not all(opened[20:at])
    assert all(opened[at:])


def test_slow_motion_adds_up_until_it_is_seen(window):
    """Each frame differs from the one before by less than what counts as motion."""
    gate = Gate(window)
    run(gate, [scene().astype(np.uint8)[None]] * 40)
    brighter = [(scene() + 0.5 * i).clip(0, 255).astype(np.uint8)[None] for i in range(40)]
    assert any(run(gate, brighter, start=40))


def test_after_a_motion_the_memory_fills_with_the_still_scene(window):
    rng = np.random.default_rng(0)
    gate = Gate(window)
    run(gate, [filmed(scene(), rng) for _ in range(40)])
    assert gate.opens(filmed(with_square(scene(), 20), rng), 40 / RATE)
    after = run(gate, [filmed(with_square(scene(), 20), rng) for _ in range(30)], start=41)
    assert after == [True] * window.warm_after + [False] * (30 - window.warm_after)


def test_a_still_scene_is_looked_at_now_and_then(window):
    frames = [scene().astype(np.uint8)[None]] * int(3 * REFRESH_S * RATE)
    opened = run(Gate(window), frames)
    late = [i / RATE for i, one in enumerate(opened) if one and i > 2 * window.warm_after]
    assert np.diff(late).tolist() == pytest.approx([REFRESH_S] * (len(late) - 1))
    assert len(late) >= 2


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_size_of_picture_will_do(contract, height, width):
    frame = replace(contract.frame, height=height, width=width)
    gate = Gate(replace(contract, inputs=(frame,)))
    dark, light = (np.full((1, height, width, 3), level, np.uint8) for level in (10, 200))
    assert run(gate, [dark] * 20)[-1] is False
    assert gate.opens(light, 2.0)
