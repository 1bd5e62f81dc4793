"""Clips, grey pictures, quantised files and Keras 2: equal numbers in every form and format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevid_converters.importers.keras import unrolled_loops
from rigs import imported_models as models
from rigs.processes import write_in_child

ROUNDING = 0.06
"""What int8 may change in these models' scores."""


@pytest.fixture(scope="session")
def brought(made_once) -> dict[str, np.ndarray]:
    """What `rigs.imported_models` answers."""

    def make(folder: Path) -> None:
        write_in_child("rigs.imported_models", folder)

    with np.load(made_once("imported-models", make) / "answers.npz") as answers:
        return dict(answers)


@pytest.mark.parametrize("name", (*models.CLIPS, *models.GREY, *models.KERAS_2))
def test_every_format_gives_the_models_own_answers(brought, name):
    wanted = brought[name]
    assert np.ptp(wanted, 0).max() > 1e-4
    made = {key: value for key, value in brought.items() if key.startswith(f"{name}/saved_model")}
    made |= {
        key: brought[key] for key in brought if key.startswith(f"{name}/") and "whole" not in key
    }
    assert made
    for key, given in made.items():
        np.testing.assert_allclose(given, wanted, atol=2e-5, err_msg=key)


@pytest.mark.parametrize("name", (*models.CLIPS, "two_lstm.h5", "two_conv.h5"))
def test_a_streamed_clip_is_the_whole_clip(brought, name):
    whole = brought[f"{name}/whole"]
    assert len(whole) == models.STEPS - models.LENGTH + 1
    np.testing.assert_allclose(brought[name][models.LENGTH - 1 :], whole, atol=1e-5)


def test_grey_is_what_opencv_makes_of_colours(brought):
    cv2 = pytest.importorskip("cv2")
    kernel, last = models.grey_weights()
    for row, frame in enumerate(models.frames()):
        grey = cv2.cvtColor(frame[0].astype(np.float32), cv2.COLOR_RGB2GRAY).astype(np.float64)
        values = (grey / 255 - 0.5) / 0.25
        patches = np.lib.stride_tricks.sliding_window_view(values, (3, 3))
        maps = np.maximum(np.einsum("hwij,ijc->hwc", patches, kernel[:, :, 0]), 0)
        logits = maps.mean((0, 1)) @ last
        wanted = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        for name in models.GREY:
            np.testing.assert_allclose(brought[name][row], wanted, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", models.QUANTISED)
def test_quantised_files_give_probabilities_near_those_of_the_float_model(brought, name):
    wanted = brought["float.keras"]
    found = {key: value for key, value in brought.items() if key.split("/")[0] == name}
    assert len(found) == 3  # its own runtime, and two formats
    for key, given in found.items():
        assert given.dtype == np.float32
        np.testing.assert_allclose(given.sum(1), 1, atol=0.02, err_msg=key)
        np.testing.assert_allclose(given, wanted, atol=ROUNDING, err_msg=key)


def test_loops_of_keras_2_are_unrolled_in_layers_that_cannot_do_it_themselves():
    """TensorFlow's quantiser crashes on loops; a fixed batch makes TimeDistributed loop."""
    tf, tf_keras = pytest.importorskip("tensorflow"), pytest.importorskip("tf_keras")
    layers = tf_keras.layers
    given = layers.Input((models.LENGTH, 8, 8, 3), batch_size=1)
    x = layers.TimeDistributed(layers.Conv2D(2, 3))(given)
    model = tf_keras.Model(given, layers.ConvLSTM2D(2, 3)(x))
    clip = np.random.default_rng(0).normal(size=given.shape).astype(np.float32)

    def loops(trace) -> list[str]:
        made = tf.function(lambda x: model(x, training=False)).get_concrete_function(trace)
        return [one.type for one in made.graph.get_operations() if "While" in one.type]

    assert loops(tf.constant(clip))
    with unrolled_loops():
        assert not loops(tf.constant(clip))
        unrolled = model(clip, training=False).numpy()
    np.testing.assert_allclose(unrolled, model(clip, training=False).numpy(), atol=1e-6)
    assert loops(tf.constant(clip))
