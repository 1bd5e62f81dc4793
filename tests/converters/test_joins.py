"""Parts of an output that differ in size, joined in one tensor, in int8."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from edgevid_converters.lowering.tflite.integers import calibrated, quantize_int8  # noqa: E402
from edgevid_converters.lowering.tflite.joins import unequal_joins  # noqa: E402


def head(boxes: float):
    """A convolution, and boxes of a size and scores of it, joined and turned."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(1, 1, 3, 4)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec((1, 4, 4, 3), tf.float32, name="x")])
    def call(x):
        found = tf.nn.conv2d(x, weights, 1, "VALID")
        joined = tf.concat([tf.nn.relu6(found) * boxes, tf.sigmoid(found)], -1)
        return {"y": tf.transpose(tf.reshape(joined, [1, 16, 8]), [0, 2, 1])}

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [call.get_concrete_function()], tf.Module()
    )
    content = converter.convert()
    steps = [{"x": rng.normal(size=(1, 4, 4, 3)).astype(np.float32)} for _ in range(8)]
    return calibrated(content, lambda: iter(steps)), content, steps


def outputs(content, steps):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content).get_signature_runner()
    return np.concatenate([runner(**one)["y"] for one in steps])


def test_scores_next_to_boxes_in_pixels_keep_their_scale():
    ranges, content, steps = head(60.0)
    assert len(unequal_joins(ranges)) >= 2
    wanted, given = outputs(content, steps), outputs(quantize_int8(ranges), steps)
    assert np.abs(given - wanted)[:, 4:].max() < 0.03


def test_equal_parts_stay_in_integers():
    ranges, _, _ = head(0.3)
    assert not unequal_joins(ranges)
