"""Code in an untrusted model is found before any of it is executed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.isolation import sandbox
from edgevid_converters import importers
from edgevid_converters.importers import (
    imported,
    keras,
    keras_config,
    saved_model_operators,
    tflite,
)
from edgevid_converters.importers import onnx as onnx_importer
from edgevid_converters.importers import openvino as openvino_importer
from edgevid_converters.importers.contract_draft import write_draft
from edgevid_converters.lowering.tflite.flatbuffer import pack, parse
from rigs import hostile_models as hostile
from rigs.command import call_edgevid
from rigs.processes import write_in_child

DANGEROUS = (
    *("ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc"),
    *("ImmutableConst", "InitializeTableFromTextFileV2", "LookupTableImportV2", "HashTableV2"),
    *("PrintV2", "Print", "DebugIdentity", "DebugIdentityV2", "DebugNumericSummary", "Copy"),
    *("WriteSummary", "CreateSummaryFileWriter", "WholeFileReaderV2", "TextLineDataset", "Save"),
    *("SaveV2", "RestoreV2", "MergeV2Checkpoints", "LoadAndRemapMatrix", "_Send", "Recv"),
    *("RemoteCall", "RpcClient", "XlaCallModule", "TPUCompile", "SymbolicGradient", "MyOwnOp"),
    *("SaveSlices", "Restore", "RestoreSlice", "ShardedFilename", "GenerateVocabRemapping"),
)


@pytest.fixture(scope="session")
def models(made_once) -> Path:
    for module in ("tensorflow", "tf_keras"):
        pytest.importorskip(module)
    return made_once("hostile-models", lambda at: write_in_child("rigs.hostile_models", at))


def marks(models: Path) -> list[str]:
    """What a model's code has done."""
    made_at = models.parent / "making" / models.name
    return [file.name for file in hostile.marks_of(made_at).iterdir()]


def test_the_list_has_operators_that_compute_and_no_others():
    op_def_registry = pytest.importorskip("tensorflow.python.framework.op_def_registry")
    known = saved_model_operators.allowed()
    assert not known.everywhere.intersection(DANGEROUS)
    assert known.saver <= {
        *("MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"),
        *("StaticRegexFullMatch", "StringJoin"),
    }
    for name in known.everywhere | known.saver:
        assert op_def_registry.get(name) is not None, f"TensorFlow has no operator {name}"
    text = 7
    for name in known.everywhere:
        found = op_def_registry.get(name)
        assert all(one.type != text for one in (*found.input_arg, *found.output_arg)), name


@pytest.mark.parametrize(("name", "operator"), hostile.SAVED_MODELS.items())
def test_a_saved_model_that_does_more_than_compute_is_refused_by_its_operator(
    models, name, operator
):
    with pytest.raises(BadInput, match=f"operator '{operator}'.*--trust-model") as caught:
        saved_model_operators.check(models / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", hostile.HARMLESS)
def test_what_keras_and_tensorflow_export_is_accepted(models, name):
    saved_model_operators.check(models / name)


def test_nothing_is_executed_by_convert_init(models, tmp_path):
    """Loading alone runs initializers, so the check comes first, also without a conversion."""
    model = models / "writes_at_start"
    done = call_edgevid("convert", "--init", model, "-o", tmp_path / "x.toml")
    assert done.returncode == 2 and "operator 'WriteFile'" in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not marks(models)


def test_the_check_is_in_the_child_that_loads_the_model(models):
    """Also if the model wasn't described before, as in lowering from a cache."""
    with pytest.raises(BadInput, match="operator 'ReadFile'"):
        imported.tensors_task({"kind": "saved_model", "model": str(models / "reads_in_step")})


def edited(models: Path, name: str, to: Path, change) -> Path:
    """A copy of a SavedModel with a changed protobuf."""
    from tensorflow.core.protobuf import saved_model_pb2

    shutil.copytree(models / name, to)
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((to / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0])
    (to / "saved_model.pb").write_bytes(saved.SerializeToString())
    return to


def saver_function(graph) -> str:
    named = [one.signature.name for one in graph.graph_def.library.function]
    return next(name for name in named if "traced_save" in name)


def other_function(graph):
    return next(
        one
        for one in graph.graph_def.library.function
        if not any(word in one.signature.name for word in ("traced_save", "traced_restore"))
    )


def call_it(graph) -> None:
    node = other_function(graph).node_def.add()
    node.name, node.op = "mine", "PartitionedCall"
    node.attr["f"].func.name = saver_function(graph)


def name_it_as_an_operator(graph) -> None:
    node = other_function(graph).node_def.add()
    node.name, node.op = "mine", saver_function(graph)


def give_it_to_an_object(graph) -> None:
    node = graph.object_graph_def.nodes.add()
    node.function.concrete_functions.append(saver_function(graph))


def make_it_a_gradient(graph) -> None:
    one = graph.graph_def.library.gradient.add()
    one.function_name = other_function(graph).signature.name
    one.gradient_func = saver_function(graph)


def call_it_from_a_node(graph) -> None:
    node = graph.graph_def.node.add()
    node.name, node.op = "mine", "StatefulPartitionedCall"
    node.attr["f"].func.name = saver_function(graph)


@pytest.mark.parametrize(
    "change",
    [
        call_it,
        name_it_as_an_operator,
        give_it_to_an_object,
        make_it_a_gradient,
        call_it_from_a_node,
    ],
)
def test_the_functions_of_the_saver_serve_nothing_else(models, tmp_path, change):
    path = edited(models, "module", tmp_path / "x", change)
    with pytest.raises(BadInput, match=r"operator '(SaveV2|ShardedFilename|MergeV2Check|Static)"):
        saved_model_operators.check(path)


def restore_from(graph, file: bytes) -> None:
    """Let TensorFlow 1's loader read another checkpoint than the model's own."""
    node = graph.graph_def.node.add()
    node.name, node.op = "elsewhere", "Const"
    node.attr["value"].tensor.string_val.append(file)
    restore = next(one for one in graph.graph_def.node if one.op == "RestoreV2")
    restore.input[0] = "elsewhere"


def save_on_restore(graph) -> None:
    save = next(one for one in graph.graph_def.node if one.op == "SaveV2")
    end = next(n for n in graph.graph_def.node if n.name == graph.saver_def.restore_op_name)
    end.input.append(f"^{save.name}")


def sign_the_save(graph) -> None:
    save = next(one for one in graph.graph_def.node if one.op == "SaveV2")
    node = graph.graph_def.node.add()
    node.name, node.op = "mine", "NoOp"
    node.input.append(f"^{save.name}")
    graph.collection_def["saved_model_main_op"].node_list.value.append("mine")


@pytest.mark.parametrize(
    "change", [lambda graph: restore_from(graph, b"/etc/x"), save_on_restore, sign_the_save]
)
def test_a_graph_of_tensorflow_1_restores_its_own_variables_and_saves_nothing(
    models, tmp_path, change
):
    path = edited(models, "tensorflow_1", tmp_path / "x", change)
    with pytest.raises(BadInput, match=r"operator '(SaveV2|RestoreV2|ShardedFilename|Static)"):
        saved_model_operators.check(path)


def test_operators_nobody_uses_and_a_second_form_of_the_graph_are_checked_too(models, tmp_path):
    def add(graph):
        node = graph.graph_def.node.add()
        node.name, node.op = "unused", "WriteFile"

    with pytest.raises(BadInput, match="'WriteFile'"):
        saved_model_operators.check(edited(models, "module", tmp_path / "x", add))
    shutil.copytree(models / "module", tmp_path / "y")
    shutil.copy(models / "module" / "saved_model.pb", tmp_path / "y" / "saved_model.cpb")
    with pytest.raises(BadInput, match=r"has a saved_model\.cpb"):
        saved_model_operators.check(tmp_path / "y")


@pytest.mark.parametrize("name", hostile.KERAS)
def test_lambda_layers_are_refused_by_the_configuration(models, name):
    with pytest.raises(BadInput, match=r"\(Lambda\) holds code.*--trust-model"):
        keras.check(models / name)
    assert not marks(models)


def test_keras_weights_in_other_files_and_bombs_are_refused(tmp_path):
    import zipfile

    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["kernel"] = h5py.ExternalLink("/etc/passwd", "/x")
    config = json.dumps({"class_name": "Sequential", "config": {"layers": []}})
    for name, weights in (
        ("linked", (tmp_path / "model.weights.h5").read_bytes()),
        ("bomb", bytes(100 << 20)),
    ):
        with zipfile.ZipFile(tmp_path / f"{name}.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", config)
            archive.writestr("metadata.json", "{}")
            archive.writestr("model.weights.h5" if name == "linked" else "bomb.bin", weights)
    with pytest.raises(BadInput, match="reads 'kernel' from another file"):
        keras.check(tmp_path / "linked.keras")
    with pytest.raises(BadInput, match="unpacks to 100 MB"):
        keras.check(tmp_path / "bomb.keras")


def test_a_constant_in_a_configuration_hides_nothing():
    inner = ["_CONSTANT_VALUE", {"class_name": "Lambda", "config": {"name": "hidden"}}]
    config = {"class_name": "Sequential", "config": {"name": "x", "layers": inner}}
    with pytest.raises(BadInput, match="layer 'hidden'"):
        keras_config.check(Path("m.h5"), config)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("ClassMethod", {"cls_symbol": "keras.models.model_from_json", "method_name": "__call__"}),
        ("ClassMethod", {"cls_symbol": "load_op_library", "method_name": "__call__"}),
        ("ClassMethod", {"cls_symbol": "RaggedTensor", "method_name": "__init__"}),
        ("TFOpLambda", {"function": "nn.fixed_unigram_candidate_sampler"}),
        ("TFOpLambda", {"function": "io.read_file"}),
    ],
)
def test_functions_of_tensorflow_that_do_more_are_refused_however_they_are_called(kind, config):
    """A method of a class may be that of a function: Keras calls whatever TensorFlow exports."""
    layer = {"class_name": kind, "config": {"name": "x", **config}}
    whole = {"class_name": "Functional", "config": {"name": "m", "layers": [layer]}}
    with pytest.raises(BadInput, match="layer 'x' calls the function"):
        keras_config.check(Path("m.h5"), whole)


def test_functions_of_tensorflow_that_compute_are_accepted():
    for kind, config in (
        ("ClassMethod", {"cls_symbol": "RaggedTensor", "method_name": "from_tensor"}),
        ("TFOpLambda", {"function": "nn.relu6"}),
        ("InstanceMethod", {"method_name": "to_tensor"}),
    ):
        keras_config.check(Path("m.h5"), {"class_name": kind, "config": {"name": "x", **config}})
    foreign = {"class_name": "TFOpLambda", "module": "mine", "config": {"function": "nn.relu6"}}
    with pytest.raises(BadInput, match="not part of Keras"):
        keras_config.check(Path("m.h5"), foreign)


def test_what_a_file_of_keras_2_calls_when_it_is_loaded_is_not_called(tmp_path):
    """A constant of a configuration is a whole model with code, as a text, for a function."""
    h5py, tf_keras = pytest.importorskip("h5py"), pytest.importorskip("tf_keras")
    path, mark = tmp_path / "model.h5", tmp_path / "mark"
    given = tf_keras.Input((4,), name="a")
    tf_keras.Model(given, tf_keras.layers.Dense(3)(given)).save(path)
    run = f"__import__('os').mkdir({str(mark)!r})"
    code = tf_keras.layers.Lambda(eval(f"lambda x: ({run}, x)[1]"))
    inner = tf_keras.Sequential([tf_keras.layers.Input((2,)), code])
    shutil.rmtree(mark)  # building it runs it
    layer = {
        "class_name": "ClassMethod",
        "name": "x",
        "config": {
            "name": "x",
            "cls_symbol": "keras.models.model_from_json",
            "method_name": "__call__",
        },
        "inbound_nodes": [["_CONSTANT_VALUE", -1, [inner.to_json()], {"kwargs": {}}]],
    }
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"].append(layer)
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(BadInput, match=r"calls the function 'keras\.models\.model_from_json"):
        keras.check(path)
    with pytest.raises(BadInput):  # without the check, this is what it does
        keras.open_model(path)
    assert mark.is_dir()


def lite(path: Path, code: bytes) -> Path:
    """A .tflite with one custom operator."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes = [schema.OperatorCodeT()]
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[0].customCode = code
    model.subgraphs, model.buffers = [schema.SubGraphT()], [schema.BufferT()]
    path.write_bytes(pack(model))
    assert parse(path.read_bytes()).operatorCodes[0].customCode == code
    return path


def test_flex_and_custom_operators_count_as_code(tmp_path):
    with pytest.raises(BadInput, match=r"'FlexReadFile' is of TensorFlow \(Flex\)"):
        tflite.check(lite(tmp_path / "flex.tflite", b"FlexReadFile"))
    with pytest.raises(BadInput, match=r"'Mine' is custom.*--trust-model"):
        tflite.check(lite(tmp_path / "own.tflite", b"Mine"))
    tflite.check(lite(tmp_path / "ssd.tflite", b"TFLite_Detection_PostProcess"))


def test_onnx_models_have_no_operators_and_no_files_of_their_own(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    def save(name: str, node, weights=(), functions=()) -> Path:
        given, output = (
            helper.make_tensor_value_info(one, TensorProto.FLOAT, [1]) for one in ("x", "y")
        )
        graph = helper.make_graph([node], "g", [given], [output], list(weights))
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        model = helper.make_model(graph, opset_imports=imports, functions=functions)
        (tmp_path / name).write_bytes(model.SerializeToString())
        return tmp_path / name

    own = save("own.onnx", helper.make_node("Run", ["x"], ["y"], domain="mine"))
    with pytest.raises(BadInput, match=r"operator mine\.Run"):
        onnx_importer.check(own)
    hidden = helper.make_function(
        "mine",
        "Outer",
        ["x"],
        ["y"],
        [helper.make_node("Run", ["x"], ["y"], domain="theirs")],
        [helper.make_opsetid("theirs", 1)],
    )
    outer = helper.make_node("Outer", ["x"], ["y"], domain="mine")
    with pytest.raises(BadInput, match=r"operator theirs\.Run"):
        onnx_importer.check(save("hidden.onnx", outer, functions=[hidden]))
    for place in ("/etc/hostname", "../secret", "sub/../../secret", "..", "link"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to("/etc/hostname")
        tensor = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "w")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", place
        constant = helper.make_node("Constant", [], ["y"])
        constant.attribute.append(helper.make_attribute("value", tensor))
        for number, path in enumerate(
            (
                save("a.onnx", helper.make_node("Add", ["x", "w"], ["y"]), [tensor]),
                save("b.onnx", constant),
            )
        ):
            with pytest.raises(BadInput, match=f"reads weights from '{place}'"):
                onnx_importer.check(path)
            assert number < 2


def test_layers_of_openvinos_extensions_count_as_code(tmp_path):
    openvino = pytest.importorskip("openvino")
    ops = openvino.opset13
    given = ops.parameter([1, 3], np.float32, "x")
    model = openvino.Model([ops.relu(given)], [given])
    openvino.save_model(model, tmp_path / "m.xml")
    openvino_importer.check(tmp_path / "m.xml")
    text = (tmp_path / "m.xml").read_text()
    (tmp_path / "m.xml").write_text(
        text.replace('type="ReLU" version="opset1"', 'type="Mine" version="extension"')
    )
    for namespace in ("", ' xmlns="theirs"'):  # which OpenVINO ignores
        changed = (tmp_path / "m.xml").read_text().replace("<net ", f"<net{namespace} ")
        (tmp_path / "m.xml").write_text(changed)
        with pytest.raises(BadInput, match=r"\('Mine'\) is of 'extension', an extension"):
            openvino_importer.check(tmp_path / "m.xml")


def test_without_landlock_what_can_execute_code_needs_trust(models, monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox, "supported", lambda: sandbox.SandboxSupport(0, seccomp=True))
    for name in ("module", "lambda.keras", "lambda.h5"):
        with pytest.raises(BadInput, match=r"no Landlock to confine it with.*--trust-model"):
            write_draft(models / name, tmp_path / "x.toml")
    with pytest.raises(BadInput, match="Flex"):  # not for want of a sandbox
        write_draft(lite(tmp_path / "flex.tflite", b"FlexAbs"), tmp_path / "x.toml")


def test_every_importer_of_edgevid_checks_its_models():
    for name in registry.builtin("importer"):
        assert registry.load("importer", name).check is not None, name


def test_an_importer_of_another_package_needs_a_sandbox_unless_it_says_otherwise():
    importer = importers.Importer("x", "x", (), lambda path: False, lambda path: None)
    assert importer.can_execute


def test_the_evidence_records_that_code_was_accepted(models, tmp_path):
    """A cache entry made with trust is not used without it."""
    contract = tmp_path / "x.toml"
    contract.write_text(
        'task = "raw"\nrate_fps = 10\n[[input]]\nkind = "frame"\ninput = "image"\nscale = 255\n'
    )
    path = models / "unlisted"  # harmless, so that the sandbox lets it run
    source = importers.describe(path, contract, trusted=True)
    assert source.trusted and source.record["trusted"] is True
    assert source.to_task()["trusted"] is True
    with pytest.raises(BadInput, match="AsString"):
        importers.describe(path, contract)
