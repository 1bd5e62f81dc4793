"""ONNX operators written out as plain ones: ONNX Runtime must not see a difference."""

from __future__ import annotations

import numpy as np
import pytest

from edgevid_converters.importers.onnx_plain import plain
from rigs import models

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
HIDDEN, WIDTH = 5, 4


def recurrent(kind: str, *, batch=1, moments=1, bias=True, memory=True, opset=17, **attributes):
    """A model of one recurrent node."""
    rng = np.random.default_rng(0)
    rows = {"LSTM": 4, "GRU": 3}[kind] * HIDDEN
    shapes = {"W": (1, rows, WIDTH), "R": (1, rows, HIDDEN), "B": (1, 2 * rows)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    kept = ["h", "c"][: 2 if kind == "LSTM" else 1] if memory else []
    inputs = ["x", "W", "R", "B" if bias else "", "", *kept]
    given = {"y": (moments, 1, batch, HIDDEN), "hn": (1, batch, HIDDEN)}
    if kind == "LSTM":
        given["cn"] = (1, batch, HIDDEN)
    if not bias:
        weights.pop("B")
    node = onnx.helper.make_node(
        kind, inputs, list(given), "cell", hidden_size=HIDDEN, **attributes
    )
    takes = {"x": (moments, batch, WIDTH)} | dict.fromkeys(kept, (1, batch, HIDDEN))
    return models.onnx_model([node], takes, given, weights, opset=opset)


def answers(model) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    preprocessing = {
        one.name: rng.normal(size=[n.dim_value for n in one.type.tensor_type.shape.dim])
        for one in model.graph.input
    }
    session = runtime.InferenceSession(model.SerializeToString())
    return session.run(
        None, {name: value.astype(np.float32) for name, value in preprocessing.items()}
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {}),
        ("LSTM", {"batch": 3}),
        ("LSTM", {"bias": False, "memory": False}),
        ("LSTM", {"direction": "forward", "input_forget": 0}),
        ("GRU", {"batch": 2}),
        ("GRU", {"linear_before_reset": 1}),
        ("GRU", {"bias": False, "memory": False}),
    ],
)
def test_one_time_step_becomes_a_few_products(kind, options):
    model = recurrent(kind, **options)
    written = plain(model)
    onnx.checker.check_model(written, full_check=True)
    assert kind not in {node.op_type for node in written.graph.node}
    for wanted, given in zip(answers(model), answers(written), strict=True):
        np.testing.assert_allclose(given, wanted, atol=1e-6)
        assert np.ptp(wanted) > 0.1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"moments": 2}),
        ("LSTM", {"clip": 1.0}),
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}),
        ("GRU", {"direction": "reverse"}),
        ("GRU", {"opset": 9}),
    ],
)
def test_longer_or_unusual_cells_are_left_alone(kind, options):
    assert [node.op_type for node in plain(recurrent(kind, **options)).graph.node] == [kind]


def test_a_slice_along_several_axes_becomes_one_per_axis():
    bounds = {"starts": [0, 1, 5], "ends": [9, 4, 0], "axes": [0, 1, 2], "steps": [1, 2, -2]}
    node = onnx.helper.make_node("Slice", ["x", *bounds], ["y"], "cut")
    listed = {name: np.array(values, np.int64) for name, values in bounds.items()}
    model = models.onnx_model([node], {"x": [1, 4, 6]}, {"y": [1, 2, 3]}, listed)
    written = plain(model)
    onnx.checker.check_model(written, full_check=True)
    assert [node.op_type for node in written.graph.node] == ["Slice"] * 3
    np.testing.assert_array_equal(answers(written)[0], answers(model)[0])
