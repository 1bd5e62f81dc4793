"""Every ONNX operator that is lowered, on random attributes and inputs, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from converters.onnx_cases import CASES, Case, Const, Draw
from converters.onnx_move_cases import MOVES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevid_converters.importers.onnx_operators import TABLE

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("tensorflow")

LIKE = {"CastLike": "Cast", "Acos": "Abs", "Asin": "Abs", "Tan": "Abs", "Not": "Abs"}
"""Operators with a test of their own below."""
ALL = CASES | MOVES


def model_of(kind: str, case: Case):
    """A model of one node, and the values of its inputs."""
    names, values, weights = [], {}, []
    for index, one in enumerate(case.inputs):
        name = f"in_{index}" if one is not None else ""
        names.append(name)
        if isinstance(one, Const):
            weights.append(onnx.numpy_helper.from_array(np.asarray(one.array), name))
        elif one is not None:
            values[name] = np.ascontiguousarray(one)
    while not names[-1]:  # ONNX Runtime crashes on a LayerNormalization that ends so
        names.pop()
    outputs = [f"out_{index}" for index in range(case.outputs)]
    node = onnx.helper.make_node(kind, names, outputs, "it", **case.attributes)
    infos = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in values.items()
    ]
    empty = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = onnx.helper.make_graph([node], "one", infos, empty, weights)
    sets = [onnx.helper.make_opsetid("", case.opset)]
    return onnx.helper.make_model(graph, opset_imports=sets, ir_version=10), values


def expected_of(model, values):
    """The outputs by ONNX Runtime, or ONNX's own reference for what it lacks."""
    try:
        session = runtime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run(None, values)
    except Exception:  # noqa: BLE001 - its errors have no common class
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(model).run(None, values)


def lowered(model, values, orders):
    """The outputs of the lowered model; each input is stored in the given order."""
    import tensorflow as tf

    from edgevid_converters.importers.onnx_lowering import OnnxGraph
    from edgevid_converters.importers.onnx_operators.value import Value, narrow

    inputs = {}
    for name, value in values.items():
        order = tuple(int(one) for one in orders.permutation(value.ndim))
        inputs[name] = Value(tf.constant(narrow(value).transpose(order)), order)
    return {name: one.stored().numpy() for name, one in OnnxGraph(model)(inputs).items()}


def compare(kind: str, case: Case, orders) -> None:
    model, values = model_of(kind, case)
    found = lowered(model, values, orders)
    for index, wanted in enumerate(expected_of(model, values)):
        given = found[f"out_{index}"]
        assert given.shape == wanted.shape, (kind, case.attributes)
        scale = max(1.0, float(np.nanmax(np.abs(wanted.astype(np.float64)), initial=0)))
        scale = scale if np.isfinite(scale) else 1.0
        np.testing.assert_allclose(
            given.astype(np.float64), wanted.astype(np.float64), atol=2e-5 * scale, rtol=2e-5
        )


def test_every_operator_has_a_case():
    assert set(ALL) | set(LIKE) == set(TABLE)


@pytest.mark.parametrize("kind", sorted(ALL))
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_it_computes_what_onnx_runtime_computes(kind, data):
    draw = Draw(data)
    compare(kind, ALL[kind](draw), draw.rng)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("Acos", np.float32([-1, -0.3, 0, 0.7, 1])),
        ("Asin", np.float32([-1, -0.3, 0, 0.7, 1])),
        ("Tan", np.float32([-1, 0, 0.5])),
        ("Not", np.array([True, False])),
    ],
)
def test_functions_of_a_narrow_range(kind, values):
    compare(kind, Case((values,)), np.random.default_rng(0))


def test_a_cast_like_another_tensor():
    inputs = (np.float32([1.7, -1.7]), Const(np.int32([0])))
    compare("CastLike", Case(inputs), np.random.default_rng(0))
