"""ONNX models made plain and lowered as a whole, in both ways."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgevid.errors import BadInput
from edgevid.isolation.child_task import ChildOutcome
from edgevid_converters import child_process, importers
from rigs import models

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("tensorflow")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgevid_converters.importers import onnx_by_onnx2tf, onnx_to_tflite  # noqa: E402
from edgevid_converters.importers.onnx_folding import folded  # noqa: E402
from edgevid_converters.importers.onnx_lowering import NotLowered, OnnxGraph  # noqa: E402
from edgevid_converters.importers.onnx_operators.shapes import reshaped  # noqa: E402
from edgevid_converters.importers.onnx_operators.value import Value, narrow  # noqa: E402
from edgevid_converters.importers.onnx_patterns import fused  # noqa: E402


def node(kind, inputs, outputs, name="", **attributes):
    return helper.make_node(kind, inputs, outputs, name or outputs[0], **attributes)


def info(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def weight(name, values, kind=np.float32):
    return numpy_helper.from_array(np.array(values, kind), name)


def inputs_of(model):
    rng = np.random.default_rng(0)
    return {
        one.name: rng.normal(size=[n.dim_value for n in one.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for one in model.graph.input
    }


def by_runtime(model, inputs):
    return runtime.InferenceSession(model.SerializeToString()).run(None, inputs)


def by_operators(model, inputs):
    import tensorflow as tf

    given = {name: Value.natural(tf.constant(narrow(value))) for name, value in inputs.items()}
    return [one.stored().numpy() for one in OnnxGraph(model)(given).values()]


def check(model):
    """Folded and lowered, it computes what it computed; returns the operators after folding."""
    inputs = inputs_of(model)
    wanted, plain = by_runtime(model, inputs), folded(model)
    for found in (
        by_runtime(plain, inputs),
        by_operators(plain, inputs),
        by_operators(model, inputs),
    ):
        for one, other in zip(wanted, found, strict=True):
            np.testing.assert_allclose(other, one, atol=1e-5)
    return [one.op_type for one in plain.graph.node]


# ---------------------------------------------------------------- folding


def test_arithmetic_on_shapes_is_computed():
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["batch"]),
        node("Concat", ["batch", "rest"], ["wanted"], axis=0),
        node("Reshape", ["x", "wanted"], ["y"]),
    ]
    weights = {"first": np.array([0]), "rest": np.array([-1])}
    model = models.onnx_model(nodes, {"x": [1, 3, 4]}, {"y": ["n", "m"]}, weights)
    assert check(model) == ["Reshape"]


def branches(condition):
    """A model with an If; both branches use a name of the other and of the graph around them."""
    small = helper.make_graph(
        [node("Mul", ["x", "two"], ["t"]), node("Neg", ["t"], ["a"])], "yes", [], [info("a", 1, 3)]
    )
    large = helper.make_graph(
        [node("Add", ["x", "w"], ["t"]), node("Abs", ["t"], ["a"])],
        "no",
        [],
        [info("a", 1, 3)],
        [weight("w", [5.0])],
    )
    nodes = [*condition, node("If", ["test"], ["y"], then_branch=small, else_branch=large)]
    weights = {"two": np.float32([2]), "rate": np.array(16000), "other": np.array(8000)}
    return models.onnx_model(nodes, {"x": [1, 3]}, {"y": [1, 3]}, weights)


@pytest.mark.parametrize(
    ("against", "kinds"), [("rate", {"Mul", "Neg"}), ("other", {"Add", "Abs"})]
)
def test_a_branch_that_a_constant_decides_takes_its_place(against, kinds):
    model = branches([node("Equal", ["rate", against], ["test"])])
    assert set(check(model)) - {"Identity"} == kinds


def test_of_a_branch_that_the_input_decides_both_are_computed():
    decided = [
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("Greater", ["most", "two"], ["test"]),
    ]
    assert "If" in check(branches(decided))


def test_nested_branches_and_functions_of_the_model():
    inner = branches([node("Equal", ["rate", "other"], ["test"])])
    graph = helper.make_graph(
        list(inner.graph.node), "inner", [], [info("y", 1, 3)], inner.graph.initializer
    )
    empty = helper.make_graph([node("Identity", ["x"], ["z"])], "no", [], [info("z", 1, 3)])
    nodes = [
        node("Twice", ["x"], ["doubled"], domain="of.mine"),
        node("If", ["yes"], ["part"], then_branch=graph, else_branch=empty),
        node("Add", ["doubled", "part"], ["out"]),
    ]
    model = models.onnx_model(nodes, {"x": [1, 3]}, {"out": [1, 3]}, {"yes": np.array(True)})
    twice = helper.make_function(
        "of.mine", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], model.opset_import[:1]
    )
    model.functions.append(twice)
    inputs = inputs_of(model)
    plain = folded(model)
    assert not plain.functions
    assert {"If", "Twice"}.isdisjoint({one.op_type for one in plain.graph.node})
    for found in (by_runtime(plain, inputs), by_operators(plain, inputs)):
        np.testing.assert_allclose(found[0], by_runtime(model, inputs)[0], atol=1e-6)


def test_random_numbers_are_not_folded():
    nodes = [
        node("RandomNormalLike", ["zeros"], ["noise"]),
        node("Add", ["x", "noise"], ["y"]),
    ]
    weights = {"zeros": np.zeros((1, 3), np.float32)}
    model = models.onnx_model(nodes, {"x": [1, 3]}, {"y": [1, 3]}, weights)
    assert [one.op_type for one in folded(model).graph.node] == ["RandomNormalLike", "Add"]


# ---------------------------------------------------------------- patterns and layouts


@pytest.mark.parametrize("form", ["product first", "half first", "half of the sum"])
def test_a_gelu_in_parts_becomes_one_operator(form):
    start = [
        node("Div", ["x", "root"], ["a"]),
        node("Erf", ["a"], ["b"]),
        node("Add", ["b", "one"], ["c"]),
    ]
    ends = {
        "product first": [node("Mul", ["x", "c"], ["d"]), node("Mul", ["d", "half"], ["y"])],
        "half first": [node("Mul", ["x", "half"], ["d"]), node("Mul", ["d", "c"], ["y"])],
        "half of the sum": [node("Mul", ["c", "half"], ["d"]), node("Mul", ["x", "d"], ["y"])],
    }
    weights = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    model = models.onnx_model([*start, *ends[form]], {"x": [2, 9]}, {"y": [2, 9]}, weights)
    assert [one.op_type for one in fused(model).graph.node] == ["Gelu"]
    check(model)


def test_an_error_function_alone_stays():
    nodes = [node("Erf", ["x"], ["b"]), node("Add", ["b", "one"], ["y"])]
    model = models.onnx_model(nodes, {"x": [2, 9]}, {"y": [2, 9]}, {"one": np.float32(1)})
    assert fused(model) is model
    check(model)


def test_any_reshape_of_any_order_is_right():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    shapes = [(1, 6, 4, 2), (6, 8), (2, 3, 8), (1, 6, 8), (48,), (6, 1, 4, 1, 2), (4, 12), (2, 24)]
    for _ in range(150):
        old, new = (shapes[int(rng.integers(len(shapes)))] for _ in range(2))
        array = rng.normal(size=old).astype(np.float32)
        order = tuple(int(one) for one in rng.permutation(len(old)))
        found = reshaped(Value(tf.constant(array.transpose(order)), order), new)
        assert found.shape == new
        np.testing.assert_array_equal(found.stored().numpy(), array.reshape(new))


def test_a_channel_shuffle_moves_data_once():
    """Split, exchanged and joined channels stay at the end; only they are moved."""
    import tensorflow as tf

    nodes = [
        node("Reshape", ["x", "apart"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["b", "together"], ["y"]),
    ]
    weights = {"apart": np.array([1, 2, 3, 4, 5]), "together": np.array([1, 6, 4, 5])}
    model = models.onnx_model(nodes, {"x": [1, 6, 4, 5]}, {"y": [1, 6, 4, 5]}, weights)
    check(model)
    stored = Value(tf.zeros([1, 4, 5, 6]), (0, 2, 3, 1))
    assert OnnxGraph(model)({"x": stored})["y"].order == (0, 2, 3, 1)


# ---------------------------------------------------------------- what cannot be lowered


def test_a_refusal_names_operator_node_and_remedy():
    nodes = [
        node("NonZero", ["x"], ["places"], "the_choice"),
        node("Cast", ["places"], ["y"], to=1),
    ]
    model = models.onnx_model(nodes, {"x": [1, 3]}, {"y": [2, "n"]})
    with pytest.raises(
        NotLowered, match=r"NonZero \(node 'the_choice'\) .* without its final selection"
    ):
        by_operators(folded(model), inputs_of(model))


def test_a_sequence_that_is_too_long_is_refused_with_its_length():
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(1, 8, 3)).astype(np.float32),
        "r": rng.normal(size=(1, 8, 2)).astype(np.float32),
    }
    cell = node("LSTM", ["x", "w", "r"], ["y"], "ears", hidden_size=2)
    model = models.onnx_model([cell], {"x": [500, 1, 3]}, {"y": [500, 1, 1, 2]}, weights)
    with pytest.raises(NotLowered, match=r"LSTM \(node 'ears'\).* 500 time steps and 128"):
        by_operators(model, inputs_of(model))


# ---------------------------------------------------------------- the two ways


CONTRACT = 'task = "raw"\nrate_fps = 9\n[[input]]\nkind = "frame"\n'


def described(tmp_path, model):
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    (tmp_path / "model.contract.toml").write_text(CONTRACT)
    return models.described(path)


def convolved(kind="Relu", **names):
    """A small model of an image; names as tf2onnx writes them by default."""
    x, y = names.get("x", "input_1:0"), names.get("y", "Identity:0")
    rng = np.random.default_rng(0)
    weights = {"model/w:0": rng.normal(size=(4, 3, 3, 3)).astype(np.float32)}
    nodes = [
        node("Conv", [x, "model/w:0"], ["model/c:0"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node(kind, ["model/c:0"], [y], "model/last:0"),
    ]
    return models.onnx_model(nodes, {x: [1, 3, 8, 8]}, {y: [1, 4, 4, 4]}, weights)


def test_names_with_colons_are_lowered_in_both_ways(tmp_path, monkeypatch):
    model = importers.load(described(tmp_path, convolved()))
    own = model.lower("tflite", tmp_path / "own")
    assert [one.way for one in model.attempts] == ["operators"]
    assert model.attempts[0].difference < 1e-6

    def broken(*_):
        raise NotLowered("operator Conv (node 'c') cannot be lowered to TFLite: it is broken")

    monkeypatch.setattr(onnx_to_tflite, "OnnxGraph", broken)
    other = model.lower("tflite", tmp_path / "other")
    assert "onnx2tf" not in sys.modules, "only the child process imports it"
    first, second = model.attempts
    assert (first.way, second.way) == ("operators", "onnx2tf")
    assert "it is broken" in first.failure
    assert second.difference < 1e-6
    assert own.read_bytes() != other.read_bytes()


def test_wrong_answers_of_the_first_way_lead_to_the_second(tmp_path, monkeypatch):
    from edgevid_converters.importers.onnx_operators import TABLE

    model = importers.load(described(tmp_path, convolved("Sigmoid")))
    monkeypatch.setitem(TABLE, "Sigmoid", TABLE["Tanh"])
    asked = []

    def second(task, folder):
        asked.append(folder)
        raise BadInput("it cannot lower operator Sigmoid (node 'model/last:0')")

    monkeypatch.setattr(onnx_to_tflite, "_by_onnx2tf", second)
    message = (
        r"outputs differ from ONNX Runtime's by .*; onnx2tf fails too: .* Sigmoid .*; convert it"
    )
    with pytest.raises(BadInput, match=message) as caught:
        model.lower("tflite", tmp_path / "out")
    assert asked
    assert "\n" not in str(caught.value)


def test_an_operator_that_neither_way_has_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_to_tflite, "_by_onnx2tf", None)  # it would be an error to call it
    last = node("MaxRoiPool", ["x", "rois"], ["z"], "the_odd_one", pooled_shape=[1, 1])
    rois = {"rois": np.float32([[0, 0, 0, 2, 2]])}
    model = models.onnx_model([last], {"x": [1, 3, 4, 4]}, {"z": [1, 3, 1, 1]}, rois)
    with pytest.raises(BadInput, match=r"operator MaxRoiPool \(node 'the_odd_one'\)"):
        importers.load(described(tmp_path, model)).lower("tflite", tmp_path / "out")


def test_onnxsim_may_fail(monkeypatch, capsys):
    onnxsim = pytest.importorskip("onnxsim")

    def broken(_):
        raise RuntimeError("the graph must be in single static assignment")

    monkeypatch.setattr(onnxsim, "simplify", broken)
    model = branches([node("Equal", ["rate", "rate"], ["test"])])
    simple = onnx_by_onnx2tf._simplified(model)
    assert "If" not in {one.op_type for one in simple.graph.node}
    assert "onnxsim left the model as it is: the graph must be" in capsys.readouterr().err


def need_onnx2tf() -> None:
    """Skip without it. It is not imported here: it lifts the limit of recursion."""
    if find_spec("onnx2tf") is None:
        pytest.skip("onnx2tf is not installed")


def test_onnx2tf_does_not_change_the_limit_of_recursion_for_good(tmp_path, monkeypatch):
    """As a deeply nested file would then crash the process; the package is a stand-in."""
    (tmp_path / "onnx2tf").mkdir()
    text = "import sys\nsys.setrecursionlimit(50_000)\n"
    (tmp_path / "onnx2tf" / "onnx2tf.py").write_text(text)
    (tmp_path / "onnx2tf" / "__init__.py").write_text("from onnx2tf import onnx2tf\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = sys.getrecursionlimit()
    for name in ("onnx2tf", "onnx2tf.onnx2tf"):
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    with onnx_by_onnx2tf._offline(tmp_path):
        assert sys.getrecursionlimit() == 50_000
    assert sys.getrecursionlimit() == before


def test_onnx2tf_is_stopped_at_its_limit(tmp_path, monkeypatch):
    need_onnx2tf()
    monkeypatch.setattr(onnx_by_onnx2tf, "LEAST_S", 0.2)
    monkeypatch.setattr(onnx_by_onnx2tf, "NODE_S", 0.0)
    source = described(tmp_path, convolved())
    model = onnx.load(source.path)
    with pytest.raises(BadInput, match=r"^it did not respond within 0.2 s; its log is \S+$"):
        onnx_by_onnx2tf.convert(model, source.preprocessing, tmp_path)


def test_a_crash_of_onnx2tf_is_told_whole(tmp_path, monkeypatch):
    """Whatever signs its last line has; the remedies that the user cannot apply are left out."""
    need_onnx2tf()
    words = b"ValueError: the shapes (1; 2) and (3; 4) differ at node 'mix'"
    crashed = ChildOutcome(-6, b"", b"DOING\n" + words)
    monkeypatch.setattr(child_process, "_run", lambda *a: crashed)
    source = described(tmp_path, convolved())
    model = onnx.load(source.path)
    with pytest.raises(BadInput) as caught:
        onnx_by_onnx2tf.convert(model, source.preprocessing, tmp_path)
    text, _, log = str(caught.value).rpartition("; its log is ")
    assert text == f"it crashed with SIGABRT ({words.decode()})"
    assert words in Path(log).read_bytes()


def test_a_limited_process_gets_no_more_memory():
    import subprocess
    import sys

    code = (
        "import resource; from edgevid.isolation.sandbox import Sandbox;"
        "[Sandbox(memory_mb=mb, confined=False).enter() for mb in (900, 4000)];"
        "print(resource.getrlimit(resource.RLIMIT_DATA)[1] >> 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "900"


def test_two_processes_write_the_same_bytes(tmp_path):
    import subprocess
    import sys

    onnx.save(convolved("Sigmoid"), tmp_path / "model.onnx")
    (tmp_path / "model.contract.toml").write_text(CONTRACT)
    code = (
        "import sys; from pathlib import Path; from edgevid_converters import importers;"
        "from rigs import models; here, out = map(Path, sys.argv[1:]);"
        "model = importers.load(models.described(here / 'model.onnx'));"
        "model.lower('tflite', out)"
    )
    for name in ("one", "other"):
        command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / name)]
        folder = models.__file__.rsplit("/", 2)[0]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
    one, other = (
        (tmp_path / name / "from_onnx" / "operators" / "model.tflite").read_bytes()
        for name in ("one", "other")
    )
    assert one == other
