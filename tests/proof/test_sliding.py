"""A window that moves on by one at each step is stored once, and read as it was."""

from __future__ import annotations

import io

import numpy as np
import pytest

from edgevid.proof.golden import Golden, Trajectory, overlaps, slid


def windows(axis: int, shape=(2, 3, 4), width=5, count=7) -> tuple[np.ndarray, np.ndarray]:
    sizes = list(shape)
    sizes[axis - 1] = width + count - 1
    passing = np.random.default_rng(axis).normal(size=sizes).astype(np.float32)
    taken = [np.take(passing, range(k, k + width), axis - 1) for k in range(count)]
    return passing, np.stack(taken)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_what_passes_by_is_found_and_read_back(axis):
    passing, values = windows(axis)
    found = overlaps(values)
    assert found is not None
    assert found[0] == axis
    np.testing.assert_array_equal(found[1], passing)
    np.testing.assert_array_equal(slid(found[1], axis, 5), values)


def test_what_does_not_move_stays_as_it_is():
    assert overlaps(np.random.default_rng(0).normal(size=(4, 3, 3))) is None


def test_a_bundle_holds_a_window_of_frames_once():
    _, values = windows(2, (1, 9, 40, 40, 3), 9, 12)
    trajectory = Trajectory(
        {"frame": np.zeros((11, 1))}, {"y": np.zeros((11, 1))}, {"clip": values}
    )
    members = Golden((trajectory,)).to_members()
    name = "0/source/state_clip.sliding-2-9.npy"
    assert name in members
    stored = np.load(io.BytesIO(members[name]))
    assert stored.size * 5 < values.size
    np.testing.assert_array_equal(slid(stored, 2, 9), values)
