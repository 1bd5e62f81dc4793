"""Graphs whose exact numbers a library's kernels or replacements would lose."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from edgevid_converters.lowering.openvino.front_end import read  # noqa: E402
from edgevid_converters.lowering.tflite.integers import calibrated, quantize_int8  # noqa: E402

SIXTH_IN_HALF = float(np.float16(1 / 6))


@pytest.mark.parametrize("factor", [SIXTH_IN_HALF, 1 / 6, 0.17])
@pytest.mark.parametrize("swish", [False, True])
def test_openvino_keeps_the_factor_of_a_hard_sigmoid(tmp_path, factor, swish):
    import openvino

    @tf.function(input_signature=[tf.TensorSpec((1, 4, 4, 8), tf.float32, name="x")])
    def call(x):
        gate = tf.nn.relu6(x + 3.0) * factor
        return {"y": x * gate if swish else gate}

    module = tf.Module()
    module.call = call
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=call.get_concrete_function())
    compiled = openvino.compile_model(
        read(tmp_path / "m", "saved_model"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    x = np.linspace(-5, 5, 128, dtype=np.float32).reshape(1, 4, 4, 8)
    want = np.clip(x.astype(np.float64) + 3, 0, 6) * np.float32(factor) * (x if swish else 1)
    assert np.abs(next(iter(compiled(x).values())) - want).max() < 3e-6


DEAD = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(sys.argv[1])
runner = interpreter.get_signature_runner()
values = runner(x=np.load(sys.argv[2]))["y"]
np.save(sys.argv[3], values)
"""


@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_a_dead_layer_in_int8_runs_on_the_fast_kernels(tmp_path, kind):
    """One channel has large weights and the layer gives nothing but zeros."""
    rng = np.random.default_rng(0)
    weights = np.full((1, 1, 8, 8), 1e-4, np.float32)
    weights[..., 6 if kind != "depthwise" else slice(None)] = 0.01
    bias = np.full(8, -1.0, np.float32)
    last = rng.normal(size=(1, 1, 8, 4)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec((1, 4, 4, 8), tf.float32, name="x")])
    def call(x):
        given = tf.nn.conv2d(x, np.eye(8, dtype=np.float32)[None, None] * 2, 1, "VALID")
        if kind == "conv":
            made = tf.nn.conv2d(given, weights, 1, "VALID")
        elif kind == "depthwise":
            made = tf.nn.depthwise_conv2d(given, weights[:, :, :, :1], (1, 1, 1, 1), "VALID")
        else:
            made = tf.matmul(tf.reshape(given, (16, 8)), weights[0, 0])
            made = tf.reshape(made, (1, 4, 4, 8))
        dead = tf.nn.relu(made + bias)
        return {"y": tf.nn.conv2d(dead, last, 1, "VALID") + given[..., :4]}

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [call.get_concrete_function()], tf.Module()
    )
    steps = [{"x": rng.uniform(0, 6, size=(1, 4, 4, 8)).astype(np.float32)} for _ in range(8)]
    ranges = calibrated(converter.convert(), lambda: iter(steps))
    (tmp_path / "m.tflite").write_bytes(quantize_int8(ranges))
    np.save(tmp_path / "x.npy", steps[0]["x"])
    files = [str(tmp_path / name) for name in ("m.tflite", "x.npy", "y.npy")]
    subprocess.run([sys.executable, "-c", DEAD, *files], check=True)  # a crash would end us too
    assert np.abs(np.load(files[2]) - 2 * steps[0]["x"][..., :4]).max() < 0.1
