"""Every model of the project in int8, within the default budget: as it is, or repaired."""

from __future__ import annotations

import numpy as np
import pytest

from edgevid_converters import convert
from rigs.command import call_edgevid
from rigs.videos import write_video

COLOURS = ("red", "green", "blue")
SHAPE = ("--image-size", 32, "--epochs", 6, "--batch", 8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Noise with a cast of one colour, with enough clips to measure on."""
    root = tmp_path_factory.mktemp("own") / "data"
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 4), ("test", 60)):
        for place, label in enumerate(COLOURS):
            for number in range(count):
                noisy = rng.integers(0, 160, (6, 32, 32, 3))
                noisy[..., place] += 40
                write_video(root / split / label / f"{number:02}.mp4", noisy.astype(np.uint8))
    return root


@pytest.mark.soak
@pytest.mark.parametrize(
    "model",
    [
        ("--model", "cnn"),
        ("--model", "cnn", "--size", "article"),
        ("--model", "cnn-lstm", "--frames", 4),
        ("--model", "cnn-lstm", "--frames", 4, "--temporal", "carry"),
    ],
    ids=["cnn", "article", "window", "carry"],
)
def test_int8_passes_on_held_out_clips_or_is_repaired_to_pass(data, tmp_path, model):
    done = call_edgevid("train", data, "--out", tmp_path / "run", *SHAPE, *model)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "x.edgevid"
    result = convert(tmp_path / "run", quantize=["int8"], out=out, max_drop=0.01).to_json()
    assert [one["name"] for one in result["artifacts"]] == ["openvino-int8", "tflite-int8"]
    for artifact in result["artifacts"]:
        metric = artifact["metric"]
        assert metric["n"] == 180 and metric["source"] > 0.8
        assert metric["artifact"] >= metric["source"] - 0.01
    for repair in result["repairs"].values():
        assert repair["kept"] and repair["rungs"][0]["ok"] is False
