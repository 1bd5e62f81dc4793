"""edgevid's conformance suites over the plug-ins of this package, as any package can run them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from edgevid_toy.brightness_host import MeanAbsoluteError

from edgevid.bundle import Artifact
from edgevid.contract import Contract, FrameInput, Output
from edgevid.testing.converter import ConverterSuite, ModelStep
from edgevid.testing.runtime import RuntimeSuite, record_bundle
from edgevid.testing.source import SourceSuite
from edgevid.testing.task import TaskSuite

CONTRACT = Contract(
    task="toy-brightness",
    inputs=(FrameInput("frame", 16, 24),),
    outputs=(Output("brightness", (1, 1)),),
    labels=(),
    rate_fps=10.0,
)
WEIGHTS, BIAS = [0.2, 0.5, 0.3], 0.05


class TestTask(TaskSuite):
    name = "toy-brightness"

    @pytest.fixture
    def contract(self):
        return CONTRACT

    def truth(self, prediction):
        return prediction.value


class TestRuntime(RuntimeSuite):
    name = "toy-numpy"

    @pytest.fixture
    def bundle(self, tmp_path):
        files = {"toy": json.dumps({"weights": WEIGHTS, "bias": BIAS}).encode()}
        artifact = Artifact("toy-float32", "toy", "float32")
        return record_bundle(tmp_path / "toy.edgevid", CONTRACT, artifact, files)


class TestRuntimeApart(TestRuntime):
    apart = True


class TestConverter(ConverterSuite):
    name = "toy"

    @pytest.fixture
    def step(self, tmp_path):
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        nodes = [
            helper.make_node("Cast", ["frame"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["values"], ["means"], axes=[1, 2], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], ["weighted"]),
            helper.make_node("Add", ["weighted", "bias"], ["brightness"]),
        ]
        weights = np.array(WEIGHTS, np.float32).reshape(3, 1) / 255
        graph = helper.make_graph(
            nodes,
            "step",
            [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 16, 24, 3])],
            [helper.make_tensor_value_info("brightness", TensorProto.FLOAT, [1, 1])],
            [
                numpy_helper.from_array(weights.astype(np.float32), "weights"),
                numpy_helper.from_array(np.float32([BIAS]), "bias"),
            ],
        )
        opsets = [helper.make_opsetid("", 17)]
        path = tmp_path / "step.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)

        def compute(inputs, state):
            value = inputs["frame"].mean((1, 2)) @ np.array(WEIGHTS) / 255 + BIAS
            return {"brightness": value.reshape(1, 1).astype(np.float32)}, {}

        return ModelStep(CONTRACT, path, "onnx", compute)


class TestSource(SourceSuite):
    scheme = "toy-ramp"

    @pytest.fixture
    def name(self):
        return "toy-ramp:64x48?frames=40"


def test_the_metric_is_the_mean_error():
    assert np.isnan(MeanAbsoluteError().value([], []))
