"""Models with several inputs of every kind: conversion, calibration, golden trajectory, proof."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.contract import AudioInput, FrameInput, VectorInput
from edgevid.errors import BadInput
from edgevid.runtimes import zero_state
from edgevid_converters import convert
from edgevid_converters.calibration.trajectories import read_recording
from edgevid_converters.importers.contract_draft import draft
from edgevid_converters.importers.tensors import TensorInfo
from rigs import models

STEPS = 12
CONTRACT = """task = "raw"
rate_fps = 10

[[input]]
kind = "frame"
name = "left"
input = "image_l"
scale = 255

[[input]]
kind = "frame"
name = "right"
input = "image_r"
colour = "bgr"
mean = 10
std = [1, 2, 4]

[[input]]
kind = "vector"
name = "speed"
input = "v"

[[input]]
kind = "audio"
name = "sound"
input = "pcm"
sample_rate_hz = 16000

[[input]]
kind = "constant"
input = "gain"
value = 2

[[state]]
name = "m"
input = "h"
output = "hn"
"""
INPUTS = (
    FrameInput("left", 6, 8),
    FrameInput("right", 4, 4),
    VectorInput("speed", (1, 3)),
    AudioInput("sound", 16000, 16),
)


def write_model(folder: Path) -> Path:
    """hn = tanh(h / 2 + mean of left) ; out = gain * right's channel means + speed + hn + pcm."""
    import onnx
    from onnx import helper

    node = helper.make_node
    nodes = [
        node("ReduceMean", ["image_l"], ["l"], "left", axes=[1, 2, 3], keepdims=0),
        node("Mul", ["h", "half"], ["k"], "keep"),
        node("Add", ["k", "l"], ["s"], "sum"),
        node("Tanh", ["s"], ["hn"], "squash"),
        node("ReduceMean", ["image_r"], ["r"], "right", axes=[2, 3], keepdims=0),
        node("Mul", ["r", "gain"], ["g"], "scale"),
        node("ReduceMean", ["pcm"], ["p"], "sound", axes=[1], keepdims=1),
        node("Add", ["g", "v"], ["a"], "add_v"),
        node("Add", ["a", "p"], ["b"], "add_p"),
        node("Add", ["b", "hn"], ["out"], "add_h"),
    ]
    shapes = {
        "image_l": [1, 6, 8, 3],
        "image_r": [1, 3, 4, 4],
        "v": [1, 3],
        "pcm": [1, 16],
        "gain": [1],
        "h": [1, 1],
    }
    model = models.onnx_model(
        nodes, shapes, {"out": [1, 3], "hn": [1, 1]}, {"half": np.float32([0.5])}
    )
    path = folder / "mixed.onnx"
    onnx.save(model, path)
    (folder / "mixed.contract.toml").write_text(CONTRACT)
    return path


def recording(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "left": rng.integers(0, 256, (STEPS, 6, 8, 3)).astype(np.uint8),
        "right": rng.integers(0, 256, (STEPS, 4, 4, 3)).astype(np.uint8),
        "speed": rng.normal(0, 1, (STEPS, 3)).astype(np.float32),
        "sound": rng.uniform(-1, 1, (STEPS, 16)).astype(np.float32),
    }


def expected(one: dict[str, np.ndarray]) -> list[np.ndarray]:
    state, found = 0.0, []
    for step in range(STEPS):
        state = np.tanh(0.5 * state + (one["left"][step] / 255).mean())
        channels = (one["right"][step][..., ::-1] - 10.0) / np.array([1, 2, 4])
        found.append(
            2 * channels.mean((0, 1)) + one["speed"][step] + one["sound"][step].mean() + state
        )
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("mixed")
    np.savez(folder / "clip.npz", **recording())
    reference = recording(1)
    np.savez(folder / "owner.npz", **reference, out=np.stack(expected(reference)))
    out = folder / "mixed.edgevid"
    model = write_model(folder)
    convert(
        model,
        formats=["openvino"],
        quantize=["float32"],
        calibrate=folder / "clip.npz",
        reference=folder / "owner.npz",
        out=out,
    )
    return Bundle.open(out)


def test_the_contract_has_every_input(bundle):
    assert bundle.contract.inputs == INPUTS
    assert bundle.contract.rate_fps == 10
    assert bundle.evidence["preprocessing"] == "reference"
    assert not bundle.contract.is_video


def test_the_artifact_computes_what_the_contract_says(bundle):
    engine = runtimes.get("openvino").load(bundle.files("openvino-float32"), bundle.contract)
    state, one = zero_state(bundle.contract), recording(2)
    for step, wanted in enumerate(expected(one)):
        inputs = {name: values[step : step + 1] for name, values in one.items()}
        outputs, state = engine.step(inputs, state)
        np.testing.assert_allclose(outputs["out"][0], wanted, rtol=1e-4, atol=1e-4)


def test_it_is_verified_and_shown(bundle, edgevid):
    report = json.loads(edgevid("verify", bundle.path, "--json").stdout)
    assert report["ok"]
    text = edgevid("inspect", bundle.path).stdout
    assert "right: 4x4 rgb, stretch" in text
    assert "sound: audio, 16 samples at 16000 Hz" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"speed": None}, r"needs an array 'speed' of the shape \(N, 3\)"),
        ({"left": np.zeros((STEPS, 6, 8, 3), np.float32)}, "needs a uint8 array 'left'"),
        ({"right": np.zeros((STEPS, 4, 5, 3), np.uint8)}, r"'right' of the shape \(N, 4, 4, 3\)"),
        ({"sound": np.zeros((3, 16), np.float32)}, "as many rows of each"),
    ],
)
def test_a_recording_needs_every_input_at_every_step(bundle, tmp_path, change, says):
    arrays = {n: v for n, v in (recording() | change).items() if v is not None}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(BadInput, match=says) as caught:
        read_recording(tmp_path / "x.npz", bundle.contract)
    assert "\n" not in str(caught.value)


def test_what_is_no_recording_is_told_the_arrays_to_give(bundle, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no zip")
    np.save(tmp_path / "one.npy", np.zeros((STEPS, 3)))
    for file in (tmp_path / "clip.mp4", tmp_path / "one.npy"):
        with pytest.raises(BadInput) as caught:
            read_recording(file, bundle.contract)
        text = str(caught.value)
        assert "is not a readable .npz file (File is not a zip file); give one with" in text
        assert "a uint8 array 'left' of the shape (N, 6, 8, 3) and" in text
        assert text.endswith("an array 'sound' of the shape (N, 16)")


def test_two_tables_of_one_name_are_one_line(tmp_path):
    model = write_model(tmp_path)
    file = tmp_path / "mixed.contract.toml"
    file.write_text(CONTRACT.replace('name = "right"', 'name = "left"'))
    np.savez(tmp_path / "clip.npz", **recording())
    with pytest.raises(BadInput, match=r"toml:10: two inputs are named 'left'; give one another"):
        convert(model, calibrate=tmp_path / "clip.npz", out=tmp_path / "x.edgevid")


def test_the_draft_names_two_frames():
    frames = [TensorInfo(name, (1, 3, 8, 8), "float32") for name in ("a", "b")]
    text = draft("two.onnx", frames, [TensorInfo("y", (1, 2), "float32")])
    assert text.count('kind = "frame"') == 2
    assert 'name = "frame_1"' in text
    assert 'name = "frame_2"' in text
    assert text.index("rate_fps") < text.index("[[input]]")
