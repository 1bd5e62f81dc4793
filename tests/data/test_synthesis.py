"""Synthetic clips: reproducible, resumable, and distinguishable only over time."""

from __future__ import annotations

import numpy as np
import pytest

from edgevid.contract import FrameInput
from edgevid.data import synthesis
from edgevid.data.folders import find
from edgevid.data.motion import MOTIONS, STEADY, poses
from edgevid.errors import BadInput
from edgevid.media.video import read_clip


def _bytes(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.mp4"))}


def test_the_same_seed_gives_the_same_files_whatever_the_workers(tmp_path):
    counts = {"frames": 4, "train": 2, "val": 1, "test": 1}
    synthesis.synth_motion(tmp_path / "a", workers=1, **counts)
    synthesis.synth_motion(tmp_path / "b", workers=2, **counts)
    synthesis.synth_motion(tmp_path / "c", workers=1, seed=1, **counts)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    assert _bytes(tmp_path / "a") != _bytes(tmp_path / "c")
    tree = find(tmp_path / "a")
    assert tree.classes == tuple(sorted(MOTIONS)) and len(tree.files) == 4 * len(MOTIONS)
    assert (
        read_clip(tmp_path / "a" / tree.files[0].path, FrameInput("frame", 64, 64), 15).shape[0]
        == 4
    )


def test_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    made = []
    encode = synthesis.encode

    def stop_at_five(path, images, fps):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(path.name)
        encode(path, images, fps)

    counts = {"frames": 2, "train": 1, "val": 0, "test": 0, "workers": 1}
    monkeypatch.setattr(synthesis, "encode", stop_at_five)
    with pytest.raises(KeyboardInterrupt):
        synthesis.synth_motion(tmp_path / "out", **counts)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(synthesis, "encode", lambda *a: (made.append(1), encode(*a)))
    synthesis.synth_motion(tmp_path / "out", **counts)
    assert len(made) == len(MOTIONS) and len(_bytes(tmp_path / "out")) == len(MOTIONS)
    synthesis.synth_motion(tmp_path / "out", **counts)
    assert len(made) == len(MOTIONS), "a finished folder is left as it is"


def test_values_that_cannot_be_rendered_are_one_line(tmp_path):
    for change in ({"seconds_each": 0.0}, {"seconds_each": -1.0}, {"size": 33}, {"fps": 0}):
        with pytest.raises(BadInput, match="cannot render"):
            synthesis.synth_video(tmp_path / "video.mp4", **change)
    assert not list(tmp_path.iterdir())


def test_refuses_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(BadInput, match="already holds something else"):
        synthesis.synth_motion(tmp_path)
    with pytest.raises(BadInput, match="even size"):
        synthesis.synth_motion(tmp_path / "out", size=33)


@pytest.mark.parametrize("t", [0, 5, 11])
def test_one_frame_does_not_give_the_motion_away(t):
    """Who knew the pose in one frame exactly could still not name the motion."""
    rng = np.random.default_rng(0)
    one = {m: np.stack([poses(m, 12, rng)[t] for _ in range(1500)]) for m in MOTIONS}
    for motion in STEADY:
        for axis in (0, 1):
            places = np.histogram(one[motion][:, axis] % 1, 8, (0, 1))[0] / 1500
            assert abs(places - 1 / 8).max() < 0.04
    cells = [
        np.histogram2d(p[:, 2], np.log(p[:, 3]), 6, ((-100, 100), (-1.9, -0.77)))[0] / 1500
        for p in one.values()
    ]
    best = np.max(cells, axis=0).sum() / len(MOTIONS)
    assert best < 0.3, "the best guess from tilt and size"


def test_a_steady_motion_in_disorder_is_background():
    """No background path runs as steadily as any steady motion does."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        steps = np.diff(poses("background", 12, rng), axis=0)
        alike = np.abs(np.sign(steps[:, :3]).sum(axis=0))
        assert (alike < 11).all()


def test_a_video_of_motions_has_a_known_time_line(tmp_path):
    line = synthesis.synth_video(
        tmp_path / "v.mp4", ["left", "grow"], seconds_each=0.4, size=64, fps=10
    )
    assert [(s["label"], s["start_frame"], s["end_frame"]) for s in line] == [
        ("left", 0, 4),
        ("grow", 4, 8),
    ]
    assert len(read_clip(tmp_path / "v.mp4", FrameInput("frame", 64, 64), 10)) == 8
    with pytest.raises(BadInput, match="did you mean left"):
        synthesis.synth_video(tmp_path / "w.mp4", ["lefft"])
    assert not (tmp_path / "w.mp4").exists()
