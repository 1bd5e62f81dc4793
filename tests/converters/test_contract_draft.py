"""Drafts of contract files: what is guessed, what is asked, and that both can be followed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edgevid.errors import BadInput
from edgevid_converters.importers.contract_draft import GUESS, MARK, draft
from edgevid_converters.importers.contract_resolver import ContractResolver
from edgevid_converters.importers.tensors import Levels, TensorInfo

SCORES = (TensorInfo("scores", (1, 3), "float32"),)


def followed(text: str) -> str:
    """The draft with its lines to fill in taken as they are proposed."""
    return re.sub(rf"^# (.*){MARK}.*$", r"\1", text, flags=re.M)


def resolved(tmp_path, text: str, inputs, outputs) -> ContractResolver:
    file = tmp_path / "m.contract.toml"
    file.write_text(followed(text))
    return ContractResolver(file, inputs, outputs)


def test_sound_is_not_taken_for_memory(tmp_path):
    inputs = (
        TensorInfo("input", (None, None), "float32"),
        TensorInfo("state", (2, None, 128), "float32"),
        TensorInfo("sr", (), "int64"),
    )
    outputs = (
        TensorInfo("output", (None, 1), "float32"),
        TensorInfo("stateN", (2, None, 128), "float32"),
    )
    text = draft("vad.onnx", inputs, outputs)
    assert 'kind = "audio"' in text
    assert text.count("[[state]]") == 1
    assert 'input = "state"' in text
    assert 'output = "stateN"' in text
    found = resolved(tmp_path, text, inputs, outputs)
    assert found.shapes["input"] == (1, 512)


def test_something_stays_new_at_every_step():
    inputs = (TensorInfo("x", (1, 8), "float32"), TensorInfo("h", (1, 8), "float32"))
    outputs = (TensorInfo("y", (1, 8), "float32"), TensorInfo("hn", (1, 8), "float32"))
    text = draft("m.onnx", inputs, outputs)
    assert text.count("[[state]]") == 1
    assert 'input = "h"\noutput = "hn"' in text


@pytest.mark.parametrize(
    ("shape", "layout", "state"),
    [
        ((1, 16, 8, 10, 3), "nthwc", (1, 15, 8, 10, 3)),
        ((None, 3, 16, 8, 10), "ncthw", (1, 3, 15, 8, 10)),
        ((1, 16, 3, 8, 10), "ntchw", (1, 15, 3, 8, 10)),
        ((16, 8, 10, 3), "thwc", (1, 15, 8, 10, 3)),
        ((None, None, 8, 10, 3), "nthwc", (1, 15, 8, 10, 3)),
    ],
)
def test_a_clip_is_a_frame_with_a_window(tmp_path, shape, layout, state):
    inputs = (TensorInfo("video", shape, "float32"),)
    text = draft("clip.onnx", inputs, SCORES)
    assert f'layout = "{layout}"' in text
    assert "# rate_fps = 15  # TODO" in text
    contract, _ = resolved(tmp_path, text, inputs, SCORES).resolve(
        [{"scores": np.float32([[0.2, 0.3, 0.5]])}]
    )
    assert (contract.temporal, contract.frames, contract.warm_after) == ("window", 16, 16)
    assert [(one.name, one.shape) for one in contract.states] == [("clip", state)]
    assert contract.frame.shape == (1, 8, 10, 3)
    assert contract.is_video


def test_a_clip_without_its_rate_is_asked_for_it(tmp_path):
    inputs = (TensorInfo("video", (1, 16, 8, 10, 3), "float32"),)
    file = tmp_path / "m.contract.toml"
    file.write_text(draft("clip.onnx", inputs, SCORES))
    with pytest.raises(BadInput, match="lacks the key 'rate_fps'; add it"):
        ContractResolver(file, inputs, SCORES)


def test_an_open_number_of_frames_is_asked_for(tmp_path):
    inputs = (TensorInfo("video", (None, None, 8, 10, 3), "float32"),)
    text = draft("clip.onnx", inputs, SCORES).replace("# frames = 16", "# and")
    with pytest.raises(BadInput, match=r"number of frames of its input .* open; add, for example"):
        resolved(tmp_path, re.sub("^# and.*$", "", text, flags=re.M), inputs, SCORES)


def test_grey_is_grey(tmp_path):
    inputs = (TensorInfo("picture", (1, 28, 28, 1), "float32"),)
    text = draft("digits.onnx", inputs, SCORES)
    assert 'colour = "grey"' in text
    assert f'kind = "frame"  # or vector{GUESS}' in text
    assert resolved(tmp_path, text, inputs, SCORES).shapes["picture"] == (1, 28, 28, 1)


@pytest.mark.parametrize(
    ("levels", "mean"), [(Levels("uint8", 0.5, 3), 1.5), (Levels("int8", 0.5, -125), 1.5)]
)
def test_pixels_are_the_levels_of_a_quantised_input_unless_told_otherwise(tmp_path, levels, mean):
    inputs = (TensorInfo("image", (1, 8, 8, 3), "float32", levels),)
    text = draft("m.tflite", inputs, SCORES)
    assert "Pixels go in as they are" in text
    given, _ = resolved(tmp_path, text, inputs, SCORES), None
    _, preprocessing = given.resolve([{"scores": np.float32([[0.2, 0.3, 0.5]])}])
    image = preprocessing.images[0]
    assert (image.scale, image.mean) == (2, (mean,))
    pixels = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    stored = levels.quantise(image.apply(pixels)).astype(int)
    np.testing.assert_array_equal(stored - levels.lowest, pixels)


def test_values_that_a_quantised_input_cannot_store_are_refused(tmp_path):
    inputs = (TensorInfo("image", (1, 8, 8, 3), "float32", Levels("uint8", 1.0, 0)),)
    text = draft("m.tflite", inputs, SCORES).replace('fit = "stretch"', 'scale = 255\nfit = "crop"')
    with pytest.raises(BadInput, match=r"turn pixels into 0 to 1, but input .* stores 0 to 255"):
        resolved(tmp_path, text, inputs, SCORES)


def test_every_guess_has_its_mark():
    inputs = (TensorInfo("image", (1, 8, 8, 3), "float32"),)
    lines = draft("m.onnx", inputs, SCORES).splitlines()
    for key in ("task", "labels", "rate_fps", "fit", "resize", "colour", "scale", "mean", "std"):
        line = next(one for one in lines if one.startswith(f"{key} ="))
        assert GUESS in line
