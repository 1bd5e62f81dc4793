"""Layers kept out of int8 and their measured errors, in both formats; converters that die."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from edgevid import registry, runtimes
from edgevid.contract import Contract, FrameInput, Output
from edgevid.errors import BadInput, CheckFailed, ConverterFailed
from edgevid.isolation.child_task import ChildOutcome
from edgevid_converters import child_process
from edgevid_converters.child_process import Limits, ask, limited
from edgevid_converters.lowering.artifact_builder import ArtifactBuilder
from edgevid_converters.lowering.protocol import output_error, remainder_of
from rigs import steps
from rigs.processes import write_in_child

FORMATS = registry.names("converter")


@pytest.fixture(scope="session")
def tiny(made_once) -> Path:
    """The tiny steps, and the pictures to calibrate them on."""

    def make(folder: Path) -> None:
        write_in_child("rigs.steps", folder)
        np.save(folder / "frame.npy", steps.frames())

    return made_once("tiny-steps", make)


FRAME = FrameInput("frame", steps.SIZE, steps.SIZE)
CONTRACT = Contract("classification", (FRAME,), (Output("scores", (1, 3)),), ("a", "b", "c"), 1.0)


def asked(tiny: Path, name: str = "easy") -> dict:
    """What `lower_in_child` would have answered."""
    return {
        "lowered": {"saved_model": str(tiny / name)},
        "trajectories": {"frame": str(tiny / "frame.npy")},
        "contract": CONTRACT.to_json(),
    }


def builder(tiny, tmp_path, name="easy", **options) -> ArtifactBuilder:
    return ArtifactBuilder(
        dict.fromkeys(FORMATS, "saved_model"), asked(tiny, name), tmp_path, **options
    )


def made(tiny, tmp_path, format_name, quantize, name="easy", keep=()):
    return builder(tiny, tmp_path, name).convert(format_name, [quantize], {quantize: keep})[0]


# --- layers ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def errors(tiny):
    """Format -> its layers, ranked."""
    return {name: builder(tiny, tiny).layer_errors(name) for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
def test_layers_are_sorted_by_their_int8_error(errors, name):
    found = errors[name]
    assert len(found) == len({layer.name for layer in found}) == 4
    assert [layer.error for layer in found] == sorted((x.error for x in found), reverse=True)
    # in integers the large channel leaves nothing of the others: what gives or takes them is worst
    assert found[0].error > 3 * found[-2].error
    worst = {"tflite": ("conv1", "conv2"), "openvino": ("Convolution_2",)}[name]
    assert any(part in found[0].name for part in worst)


@pytest.mark.parametrize("name", FORMATS)
def test_only_named_layers_are_kept_in_float(tiny, tmp_path, errors, name):
    worst = [layer.name for layer in errors[name][: 2 if name == "tflite" else 1]]
    kept = made(tiny, tmp_path, name, "int8", keep=worst)
    whole = made(tiny, tmp_path, name, "int8")
    assert len(whole.files[next(iter(whole.files))]) < len(kept.files[next(iter(kept.files))])
    kind = "CONV_2D" if name == "tflite" else "Convolution"
    count = next((o for o in kept.artifact.float_ops if o.startswith(kind)), "").removeprefix(kind)
    assert count == (" x2" if len(worst) == 2 else "")
    assert not any(o.startswith(kind) for o in whole.artifact.float_ops)
    assert error_of(tiny, name, kept.files) < 0.3 * error_of(tiny, name, whole.files)


def error_of(tiny, name, files) -> float:
    wanted = answers(name, made_in_float(tiny, name))
    return output_error(wanted, answers(name, files))


FLOATS: dict = {}


def made_in_float(tiny, name):
    if name not in FLOATS:
        converter = registry.load("converter", name)()
        task = asked(tiny)
        paths = {key: Path(path) for key, path in task["trajectories"].items()}
        place = Path(task["lowered"]["saved_model"])
        FLOATS[name] = converter.convert(place, "saved_model", paths, "float32")
    return FLOATS[name]


def answers(name, files):
    engine = runtimes.get(name).load(files, CONTRACT)
    return {
        "scores": np.stack(
            [engine.step({"frame": one}, {})[0]["scores"] for one in steps.frames(12)]
        )
    }


@pytest.mark.parametrize("name", FORMATS)
def test_an_unknown_layer_is_rejected_with_the_nearest(tiny, tmp_path, errors, name):
    near = errors[name][0].name + "x"
    with pytest.raises(BadInput, match=r"unknown layer .*did you mean"):
        made(tiny, tmp_path, name, "int8", keep=[near])


def test_an_imported_tflite_quantises_to_the_same_bytes_as_its_source(tiny, tmp_path):
    converter = registry.load("converter", "tflite")
    content = made_in_float(tiny, "tflite")["tflite"]
    (tmp_path / "theirs.tflite").write_bytes(content)
    paths = {"frame": tiny / "frame.npy"}
    for quantize in ("float16", "dynamic", "int8", "int16x8"):
        theirs = converter().convert(tmp_path / "theirs.tflite", "tflite", paths, quantize)
        ours = converter().convert(tiny / "easy", "saved_model", paths, quantize)
        assert hashlib.sha256(theirs["tflite"]).digest() == hashlib.sha256(ours["tflite"]).digest()


def test_float16_constants_expand_to_float32(tiny, tmp_path):
    """A .tflite with float16 weights, as many by others have, is quantised as well."""
    converter = registry.load("converter", "tflite")()
    paths = {"frame": tiny / "frame.npy"}
    half = converter.convert(tiny / "easy", "saved_model", paths, "float16")
    (tmp_path / "half.tflite").write_bytes(half["tflite"])
    small = converter.convert(tmp_path / "half.tflite", "tflite", paths, "int8")
    assert [o for o in converter.float_ops(small) if o.stray] == []
    assert converter.convert(tmp_path / "half.tflite", "tflite", paths, "float32") == half
    (tmp_path / "small.tflite").write_bytes(small["tflite"])
    with pytest.raises(BadInput, match="is int8 already"):
        converter.convert(tmp_path / "small.tflite", "tflite", paths, "float16")


# --- what cannot be brought to integers -----------------------------------------------------------


def test_what_is_mostly_float_is_refused_before_it_is_calibrated(tiny, tmp_path):
    with pytest.raises(CheckFailed, match=r"CONV_3D: .*--quantize float16") as caught:
        builder(tiny, tmp_path, "spatial").convert("tflite", ["int8"])
    assert re.search(r"compute 74% of its arithmetic in float32", str(caught.value))
    assert list(tmp_path.glob("*.tflite")) == []
    allowed = builder(tiny, tmp_path, "spatial", allow_float=True).convert("tflite", ["int8"])[0]
    assert "CONV_3D" in allowed.artifact.float_ops
    assert allowed.remainder is not None and (allowed.remainder.share or 0) > 0.7


def test_a_small_remainder_is_named_and_measured(tiny, tmp_path):
    """Keras' LayerNormalization leaves a NEG of one value for each channel."""
    made = builder(tiny, tmp_path, "normalised").convert("tflite", ["int8"])[0]
    assert made.remainder is not None and made.remainder.operators == ("NEG",)
    assert 0 < (made.remainder.share or 0) < 0.05
    assert "NEG" in made.artifact.float_ops
    (other := tmp_path / "easy").mkdir()
    easy = builder(tiny, other).convert("tflite", ["int8"])[0]
    assert easy.remainder is None


def test_tensorflows_remainder_is_predicted(tiny):
    converter = registry.load("converter", "tflite")()
    paths = {"frame": tiny / "frame.npy"}
    predicted = converter.predicted_float_ops(tiny / "normalised", "saved_model", paths)
    assert [one.kind for one in predicted if one.stray] == ["NEG"]
    assert converter.predicted_float_ops(tiny / "easy", "saved_model", paths) == []


@pytest.fixture(scope="module")
def excited(tmp_path_factory) -> Path:
    """A squeeze-and-excite block between two convolutions, as ONNX."""
    import onnx
    from onnx import helper

    from rigs.models import onnx_model

    chance = np.random.default_rng(0)
    shapes = {"w0": (8, 3, 3, 3), "w1": (4, 8, 1, 1), "w2": (8, 4, 1, 1), "w3": (3, 8, 3, 3)}
    weights = {name: chance.normal(0, 0.3, shape) for name, shape in shapes.items()}
    weights |= {f"b{name[1]}": chance.normal(0, 0.1, shape[0]) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["frame", "w0", "b0"], ["c0"]),
        helper.make_node("Relu", ["c0"], ["x"]),
        helper.make_node("GlobalAveragePool", ["x"], ["squeezed"]),
        helper.make_node("Conv", ["squeezed", "w1", "b1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"]),
        helper.make_node("Sigmoid", ["c2"], ["gate"]),
        helper.make_node("Mul", ["x", "gate"], ["excited"]),
        helper.make_node("Conv", ["excited", "w3", "b3"], ["map"]),
    ]
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    folder = tmp_path_factory.mktemp("excited")
    model = onnx_model(nodes, {"frame": [1, 3, 16, 16]}, {"map": [1, 3, 12, 12]}, constants)
    onnx.save(model, folder / "model.onnx")
    np.save(folder / "frame.npy", chance.random((8, 1, 3, 16, 16)).astype(np.float32))
    return folder


def test_nncfs_remainder_is_predicted_and_measured(excited):
    converter = registry.load("converter", "openvino")()
    paths = {"frame": excited / "frame.npy"}
    predicted = converter.predicted_float_ops(excited / "model.onnx", "onnx", paths)
    assert [one.kind for one in predicted] == ["Convolution", "Convolution"]
    files = converter.convert(excited / "model.onnx", "onnx", paths, "int8")
    left = remainder_of(converter.float_ops(files))
    assert left is not None and left.operators == ("Convolution x2",)
    assert {*left.names} == {one.name for one in predicted}
    assert 0 < (left.share or 0) < 0.01
    assert left.share == pytest.approx(sum(one.share or 0 for one in predicted), rel=0.1)


def test_an_nncf_without_these_patterns_predicts_nothing(excited, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf.quantization.passes", None)
    converter = registry.load("converter", "openvino")()
    assert converter.predicted_float_ops(excited / "model.onnx", "onnx", {}) == []


def test_a_quantiser_that_segfaults_is_one_line_with_a_remedy(tiny, tmp_path):
    with pytest.raises(ConverterFailed) as caught:
        made(tiny, tmp_path, "tflite", "int8", "loop")
    message = str(caught.value)
    assert message.startswith("conversion to tflite at tflite-int8 crashed with SIGSEGV")
    assert "unroll=True" in message
    assert "\n" not in message
    assert caught.value.exit_code == 1
    assert list(tmp_path.glob("*.tflite")) == []
    assert made(tiny, tmp_path, "tflite", "float32", "loop").files


def operators_task(file: Path) -> dict:
    return {"do": "operators", "format": "tflite", "form": "tflite", "lowered": str(file)}


def test_a_converter_that_hangs_is_stopped_at_its_limit(tmp_path):
    os.mkfifo(tmp_path / "never.tflite")
    with limited(Limits(time_s=4)), pytest.raises(ConverterFailed) as caught:
        ask("reading", operators_task(tmp_path / "never.tflite"), read=[tmp_path])
    assert "did not respond within 4 s" in str(caught.value)
    assert "--time-limit" in str(caught.value)


def test_a_converter_that_eats_memory_is_stopped_at_its_limit(tmp_path):
    with (tmp_path / "huge.tflite").open("wb") as file:
        file.truncate(6 << 30)
    with limited(Limits(memory_mb=1024)), pytest.raises(ConverterFailed) as caught:
        ask("reading", operators_task(tmp_path / "huge.tflite"), read=[tmp_path])
    assert "needs more than the 1024 MB of its memory limit" in str(caught.value)
    assert "--memory-limit" in str(caught.value)


def test_a_sigkill_is_explained_as_out_of_memory():
    failure, remedy = child_process.failure_cause(ChildOutcome(-9, b"", b""), 1.0, 2048)
    assert "SIGKILL" in failure and "ran out of memory" in failure
    assert "--memory-limit" in remedy


def test_limits_out_of_range_are_rejected():
    for limits, message in ((Limits(time_s=0), "--time-limit 0"), (Limits(memory_mb=1), "1024 or")):
        with pytest.raises(BadInput, match=message):
            limits.check()


def test_processes_of_a_child_end_with_it(tmp_path):
    (tmp_path / "leaving.py").write_text(
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print('{\"pid\": %d}' % child.pid)\n"
    )
    from edgevid.isolation.child_task import run_child
    from edgevid.isolation.sandbox import LIMITS_ONLY
    from rigs.processes import wait_for

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(tmp_path), *sys.path])
        answer = run_child("leaving", {}, 20.0, LIMITS_ONLY).result()
    assert answer
    wait_for(lambda: not _runs(answer["pid"]))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("width", [3, 5])
def test_ranges_of_channels_stay_with_their_channels_when_a_layer_is_measured(width):
    """NNCF gives a depthwise layer one range for each channel, in front of the transpose."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    from edgevid_converters.lowering.openvino import integers

    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(3, 1, 1, 2, 2)).astype(np.float32)
    high = np.float32([0.5, 1, 4]).reshape(1, 1, 1, 3)

    def model(rounds: bool):
        given = ops.parameter([1, 4, width, 3], np.float32, "frame")
        given.output(0).get_tensor().set_names({"frame"})
        value = ops.fake_quantize(given, -high, high, -high, high, 16) if rounds else given
        moved = ops.transpose(value, np.int64([0, 3, 1, 2]))
        product = ops.group_convolution(moved, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
        product.set_friendly_name("depthwise")
        product.output(0).get_tensor().set_names({"out"})
        return openvino.Model([product], [given])

    steps = [{"frame": rng.normal(size=(1, 4, width, 3)).astype(np.float32)} for _ in range(3)]
    outputs = [integers._outputs(model(rounds), steps) for rounds in (False, True)]
    (layer,) = integers.layer_errors(model(False), model(True), steps)
    assert layer.error == pytest.approx(integers.output_error(*outputs), rel=1e-4)
    assert layer.error > 0.01
