"""Recorded streams: real memory, in order, from an empty start."""

from __future__ import annotations

import numpy as np
import pytest

from edgevid.contract import Contract, FrameInput, Output, StateTensor
from edgevid_converters.calibration import trajectories as t

CONTRACT = Contract(
    task="classification",
    inputs=(FrameInput("frame", 2, 2),),
    rate_fps=10.0,
    outputs=(Output("scores", (1, 2)),),
    labels=("a", "b"),
    temporal="carry",
    frames=3,
    states=(StateTensor("sum", (1, 1)),),
)


class Adder:
    """Adds up brightness."""

    def last_outputs(self, clips):
        return None

    def step(self, inputs):
        total = inputs["state_sum"] + np.float32(inputs["frame"].mean())
        return {"scores": np.concatenate([total, -total], axis=1), "next_sum": total}


def clip(*levels: int) -> dict[str, np.ndarray]:
    return {"frame": np.stack([np.full((2, 2, 3), level, np.uint8) for level in levels])}


def test_calibration_records_the_states_of_a_stream():
    recorded = t.calibration(Adder(), CONTRACT, [clip(1, 2, 3), clip(10, 20)])
    assert recorded["frame"].shape == (5, 1, 2, 2, 3)
    assert recorded["state_sum"].ravel().tolist() == [0, 1, 3, 0, 10]


def test_calibration_is_thinned_evenly_from_first_to_last():
    recorded = t.calibration(Adder(), CONTRACT, [clip(*range(100))], limit=5)
    assert recorded["frame"][:, 0, 0, 0, 0].tolist() == [0, 25, 50, 74, 99]


def test_golden_trajectories_are_long_enough_and_hold_states_before_and_after():
    golden = t.golden(Adder(), CONTRACT, [clip(1, 2), clip(5), clip(3, 4)])
    assert len(golden) == 2
    for one in golden:
        assert one.inputs["frame"].shape == (7, 1, 2, 2, 3)
        assert one.states["sum"].shape == (8, 1, 1)
        assert one.states["sum"][0] == 0
        levels = one.inputs["frame"][:, 0, 0, 0, 0].astype(float)
        np.testing.assert_allclose(one.states["sum"][1:].ravel(), levels.cumsum())
        np.testing.assert_array_equal(one.outputs["scores"][:, 0, 0], one.states["sum"][1:, 0, 0])
    assert golden[0].inputs["frame"][:, 0, 0, 0, 0].tolist() == [1, 2, 3, 4, 1, 2, 3]
    assert golden[1].inputs["frame"][:, 0, 0, 0, 0].tolist() == [5] * 7


def test_annotated_outputs_start_each_clip_anew():
    clips = [clip(1, 2), clip(5)]
    found = t.annotated_outputs(Adder(), CONTRACT, clips, [(1,), (0,)])
    assert found["scores"][:, 0, 0].tolist() == [3, 5]
    found = t.annotated_outputs(Adder(), CONTRACT, [clip(1, 2, 4), clip(5)], [(0, 2), ()])
    assert found["scores"][:, 0, 0].tolist() == [1, 7]
    found = t.annotated_outputs(Adder(), CONTRACT, clips, [(), ()])
    assert found["scores"].shape == (0, 1, 2)


def test_clips_of_any_length_can_be_read_back(tmp_path):
    clips = [clip(*range(n)) for n in (3, 1, 12)]
    t.write_clips(tmp_path / "c.npz", clips)
    again = list(t.read_clips(tmp_path / "c.npz"))
    assert len(again) == 3
    for one, other in zip(clips, again, strict=True):
        assert other.keys() == {"frame"}
        np.testing.assert_array_equal(one["frame"], other["frame"])


@pytest.mark.parametrize("count", [1, 2])
def test_arrays_can_be_read_back(tmp_path, count):
    arrays = {f"a{n}": np.arange(n + 2) for n in range(count)}
    paths = t.write_arrays(tmp_path / "x", arrays)
    assert sorted(paths) == sorted(arrays)
    again = t.read_arrays(tmp_path / "x")
    assert {k: v.tolist() for k, v in again.items()} == {k: v.tolist() for k, v in arrays.items()}
