"""What is said of clips that are no good to calibrate on."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from edgevid.errors import BadInput
from edgevid_converters.calibration import checks
from edgevid_converters.calibration.checks import check_outputs, check_states
from rigs.videos import moving_images

FRAMES = (SimpleNamespace(name="frame"),)
SOURCE = SimpleNamespace(contract=SimpleNamespace(frame_inputs=FRAMES, states=("memory",)))
NONE = SimpleNamespace(contract=SimpleNamespace(frame_inputs=FRAMES, states=()))


def check(made, source, held_out=()):
    return checks.check([{"frame": clip} for clip in made], source, held_out)


def clips(count: int = 4, frames: int = 16):
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 32)
    made = []
    for number in range(count):
        grey = np.stack([np.roll(ramp, 3 * step + number) for step in range(frames)])
        film = np.repeat(grey[:, None, :, None], 24, axis=1) + rng.normal(0, 3, (frames, 24, 32, 3))
        made.append(film.clip(0, 255).astype(np.uint8))
    return made


def test_ordinary_clips_pass_without_a_note():
    assert check(clips(), SOURCE) == []
    assert check([moving_images(40, 64, 96)], SOURCE) == []
    assert check(clips(), SOURCE, clips(2)) == []


def test_one_plain_colour_is_rejected():
    plain = [np.full((20, 8, 8, 3), 90, np.uint8)] * 4
    with pytest.raises(BadInput, match="4 calibration clips show one plain colour; give clips"):
        check(plain, NONE)


def test_values_of_0_and_1_instead_of_0_to_255_are_rejected():
    divided = [(clip / 255).round().astype(np.uint8) for clip in clips()]
    with pytest.raises(BadInput, match="values of 0 and 1 instead of 0 to 255"):
        check(divided, NONE)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: clips(1, 5), "only 5 frames of 1 clips"),
        (lambda: [clip // 5 + 100 for clip in clips()], "stay within 100 to 15[01] of 0 to 255"),
        (lambda: [np.repeat(clip[:1], 16, axis=0) for clip in clips()], "nothing moves"),
        (
            lambda: [np.random.default_rng(1).integers(0, 256, (40, 24, 32, 3), dtype=np.uint8)],
            "look like noise: neighbouring pixels hardly correlate",
        ),
    ],
)
def test_unusual_clips_get_a_note(made, message):
    (lines,) = check(made(), SOURCE)
    assert lines.startswith("calibration: ")
    assert re.search(message, lines), lines


def test_still_clips_matter_only_to_models_with_state():
    still = [np.repeat(clip[:1], 16, axis=0) for clip in clips()]
    assert check(still, NONE) == []


def test_swapped_red_and_blue_are_noticed_by_comparison_with_held_out_clips():
    reddish = [(clip * np.array([1.0, 0.7, 0.4])).astype(np.uint8) for clip in clips()]
    swapped = [clip[..., ::-1] for clip in reddish]
    assert check(reddish, NONE, reddish) == []
    (lines,) = check(swapped, NONE, reddish)
    assert "red and blue seem to be swapped" in lines
    assert check(swapped, NONE) == []  # nothing to hold it against


def test_a_constant_output_gets_a_note():
    rng = np.random.default_rng(0)
    result = check_outputs({"scores": np.tile([[0.0, 1.0]], (9, 1))})
    assert "gives the same scores for every image" in result[0]
    assert check_outputs({"scores": rng.random((9, 2))}) == []


def test_a_model_with_nan_outputs_is_rejected():
    with pytest.raises(BadInput, match="output scores is not a number: its weights are damaged"):
        check_outputs({"scores": np.array([[0.1, np.nan]])})


def test_a_state_that_is_always_zero_is_rejected():
    source = SimpleNamespace(
        contract=SimpleNamespace(states=(SimpleNamespace(input_name="state_h"),))
    )
    empty = {"frame": np.ones((5, 1, 2, 2, 3), np.uint8), "state_h": np.zeros((5, 1, 4))}
    with pytest.raises(BadInput, match="state stays zero"):
        check_states(empty, source)
    check_states({**empty, "state_h": np.ones((5, 1, 4))}, source)
    check_states({"frame": empty["frame"]}, SimpleNamespace(contract=SimpleNamespace(states=())))
