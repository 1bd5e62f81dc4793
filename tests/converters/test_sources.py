"""Models of every kind: found, described, lowered to equal numbers; or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.contract import FRAME, AudioInput, FrameInput, VectorInput
from edgevid.errors import BadInput
from edgevid_converters import convert, importers
from edgevid_converters.importers import contract_draft as starting
from edgevid_converters.importers.contract_resolver import ContractResolver
from edgevid_converters.importers.onnx import pinned
from edgevid_converters.importers.preprocessing import ImageMapping
from edgevid_converters.importers.tensors import TensorInfo
from edgevid_converters.lowering.openvino.front_end import read
from rigs import models
from rigs.videos import moving_images, write_video

KINDS = ("keras", "keras", "saved_model", "onnx", "tflite", "openvino")


# --- one model, six kinds of file, four forms -----------------------------------------------------


def test_every_kind_gives_equal_numbers_in_every_form_and_format(tiny):
    wanted = np.concatenate([models.expected(frame) for frame in models.frames()])
    assert np.ptp(wanted, 0).max() > 0.01
    with np.load(tiny / "answers.npz") as answers:
        assert set(answers) == {
            *models.FILES,
            *(
                f"{name}/saved_model/{f}"
                for name in models.FILES[:4]
                for f in ("tflite", "openvino")
            ),
            *(
                f"{name}/tflite/{f}"
                for name in ("lite.tflite", "onnx.onnx")
                for f in ("tflite", "openvino")
            ),
            "onnx.onnx/onnx/openvino",
            "ir.xml/ir/openvino",
        }
        for name, given in answers.items():
            assert given.dtype == np.float32
            np.testing.assert_allclose(given, wanted, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("name", "kind"),
    list(zip(models.FILES, KINDS, strict=True)),
)
def test_every_kind_of_model_is_recognised(tiny, name, kind):
    assert importers.kind_of(tiny / name) == kind


def test_pixels_are_preprocessed_as_the_contract_says():
    frame = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    plain = ImageMapping("frame", "x", "float32")
    np.testing.assert_array_equal(plain.apply(frame), frame)
    assert not plain.computes
    other = ImageMapping("frame", "x", "float32", "bgr", "nchw", 2.0, (1.0, 2.0, 3.0), (4.0,))
    value = other.apply(frame)
    assert value.shape == (1, 3, 2, 2)
    blue = (frame[..., 2] / 2 - 1) / 4  # the model's first channel
    np.testing.assert_allclose(value[:, 0], blue)
    first, second = other.factors
    np.testing.assert_allclose(value[:, 2], frame[..., 0] * first[2] + second[2])


# --- whole conversions ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "clip.mp4", moving_images(12, 40, 48))
    return folder


def test_an_imported_model_is_converted_proven_and_run(tiny, clips, tmp_path, edgevid):
    out = tmp_path / "x.edgevid"
    convert(tiny / "lite.tflite", quantize=["float32"], calibrate=clips, out=out)
    bundle = Bundle.open(out)
    assert bundle.contract.labels == models.LABELS
    assert bundle.evidence["source"]["kind"] == "tflite"
    assert bundle.evidence["source"]["fed"]["images"][0]["colour"] == "bgr"
    assert len(bundle.evidence["source"]["sha256"]) == 64
    assert str(tiny) not in str(bundle.evidence)
    assert all(artifact.parity["max_abs"] < 1e-6 for artifact in bundle.artifacts)
    ran = edgevid("run", out, clips / "clip.mp4")
    assert ran.returncode == 0, ran.stderr
    assert set(eval(ran.stdout.splitlines()[0].replace("true", "True"))["scores"]) == set(
        models.LABELS
    )


@pytest.mark.soak
def test_state_is_carried_and_logits_become_scores(tiny, clips, tmp_path):
    out = tmp_path / "x.edgevid"
    options = {"formats": ["tflite"], "quantize": ["float32"], "calibrate": clips}
    convert(tiny / "memory.keras", out=out, **options)
    bundle = Bundle.open(out)
    contract = bundle.contract
    assert (contract.temporal, contract.frames) == ("carry", 3)
    assert [(s.name, s.shape) for s in contract.states] == [("m", (1, 5))]
    assert all(artifact.parity["max_abs"] < 1e-5 for artifact in bundle.artifacts)
    engine = runtimes.get("tflite").load(bundle.files("tflite-float32"), contract)
    frame = np.full((1, 16, 16, 3), 90, np.uint8)
    once, after = engine.step({"frame": frame}, {"m": np.zeros((1, 5), np.float32)})
    again, _ = engine.step({"frame": frame}, after)
    assert once["scores"].sum() == pytest.approx(1)
    assert np.abs(once["scores"] - again["scores"]).max() > 1e-3


@pytest.fixture
def listener(tmp_path) -> Path:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "listener.onnx"
    onnx.save(models.onnx_listener(), path)
    (tmp_path / "listener.contract.toml").write_text(
        'task = "raw"\nrate_fps = 50\n'
        '[[input]]\nkind = "audio"\ninput = "samples"\nname = "sound"\nsample_rate_hz = 800\n'
        '[[state]]\nname = "h"\ninput = "h"\noutput = "hn"\n'
    )
    return path


def test_a_model_without_a_frame_is_proven_but_not_run(listener, tmp_path, edgevid):
    sound = np.random.default_rng(0).normal(0, 1, (30, 16))
    np.savez(tmp_path / "sound.npz", sound=sound)
    out = tmp_path / "x.edgevid"
    options = {"formats": ["openvino"], "quantize": ["float32"], "out": out}
    convert(listener, calibrate=tmp_path / "sound.npz", **options)
    bundle = Bundle.open(out)
    assert bundle.contract.inputs == (AudioInput("sound", 800, 16),)
    engine = runtimes.get("openvino").load(bundle.files("openvino-float32"), bundle.contract)
    state, memory = {"h": np.zeros((1, 1), np.float32)}, 0.0
    for piece in sound.astype(np.float32):
        answer, state = engine.step({"sound": piece[None]}, state)
        memory = np.tanh(0.5 * memory + piece.mean())
        np.testing.assert_allclose(answer["level"], [[abs(memory)]], atol=1e-6)
    assert edgevid("verify", out).returncode == 0
    assert "sound: audio, 16 samples at 800 Hz" in edgevid("inspect", out).stdout
    refused = edgevid("run", out, "synthetic:64x48@15")
    assert refused.returncode == 2
    assert "cannot run on video" in refused.stderr
    assert "audio 'sound'" in refused.stderr

    np.savez(tmp_path / "other.npz", noise=sound)
    with pytest.raises(BadInput, match=r"needs an array 'sound' of the shape \(N, 16\)"):
        convert(listener, calibrate=tmp_path / "other.npz", **options)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(BadInput, match=r"not a readable \.npz file"):
        convert(listener, calibrate=tmp_path / "text.npz", **options)


@pytest.mark.parametrize(
    "format_name", ["openvino", pytest.param("tflite", marks=pytest.mark.soak)]
)
def test_a_model_of_two_inputs_is_converted_and_proven(format_name, tmp_path, edgevid):
    onnx = pytest.importorskip("onnx")
    onnx.save(models.onnx_pair(), tmp_path / "pair.onnx")
    (tmp_path / "pair.contract.toml").write_text(
        'task = "raw"\nrate_fps = 10\n'
        '[[input]]\nkind = "frame"\ninput = "image"\nscale = 255\n'
        '[[input]]\nkind = "vector"\ninput = "speed"\nname = "pace"\n'
        '[[state]]\nname = "h"\ninput = "h"\noutput = "hn"\n'
        '[[output]]\nname = "sum"\noutput = "out"\n'
    )
    rng = np.random.default_rng(0)
    frames = moving_images(40, 8, 8)
    pace = rng.normal(0, 1, (40, 4)).astype(np.float32)
    np.savez(tmp_path / "both.npz", frame=frames, pace=pace)
    out = tmp_path / "x.edgevid"
    convert(
        tmp_path / "pair.onnx",
        formats=[format_name],
        quantize=["float32", "int8"],
        calibrate=tmp_path / "both.npz",
        out=out,
    )
    bundle = Bundle.open(out)
    assert bundle.contract.inputs == (FrameInput("frame", 8, 8), VectorInput("pace", (1, 4)))
    engine = runtimes.get(format_name).load(bundle.files(f"{format_name}-float32"), bundle.contract)
    state, expected = {"h": np.zeros((1, 2), np.float32)}, np.zeros((1, 2))
    for frame, row in zip(frames[:5], pace[:5], strict=True):
        outputs, state = engine.step({"frame": frame[None], "pace": row[None]}, state)
        both = np.concatenate([frame.mean((0, 1)) / 255, row])
        expected = 0.5 * expected + both @ models.PAIR_WEIGHTS
        np.testing.assert_allclose(outputs["sum"], expected, atol=1e-4)
    assert bundle.artifact(f"{format_name}-int8").parity["max_abs"] < 0.1
    assert edgevid("verify", out).returncode == 0


# --- the contract file ----------------------------------------------------------------------------

IMAGE = TensorInfo("image", (1, 3, 8, 10), "float32")
OPEN = TensorInfo("image", (None, 3, None, None), "float32")
MEMORY, NEXT = TensorInfo("h", (1, 4), "float32"), TensorInfo("hn", (None, 4), "float32")
RATE = TensorInfo("sr", (), "int64")
SCORES = TensorInfo("probs", (None, 3), "float32")
HEAD = 'task = "classification"\nlabels = ["a", "b", "c"]\n'
FRAMED = HEAD + 'rate_fps = 10\n[[input]]\nkind = "frame"\n'


@pytest.fixture
def terms(tmp_path):
    def make(text: str, inputs=(IMAGE,), outputs=(SCORES,)) -> ContractResolver:
        file = tmp_path / "m.contract.toml"
        file.write_text(text)
        return ContractResolver(file, inputs, outputs)

    return make


def settled(found: ContractResolver, **shapes):
    answers = {"probs": np.float32([[0.2, 0.3, 0.5]])}
    answers |= {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return found.resolve([answers])


def test_the_file_becomes_contract_and_preprocessing(terms):
    text = FRAMED + '[[state]]\nname = "m"\ninput = "h"\noutput = "hn"\n'
    text += '[[input]]\nkind = "constant"\ninput = "sr"\nvalue = 16\n'
    found = terms(text, (IMAGE, MEMORY, RATE), (SCORES, NEXT))
    contract, preprocessing = settled(found, hn=(1, 4))
    assert (contract.frame.height, contract.frame.width) == (8, 10)
    assert [output.name for output in contract.outputs] == ["scores"]
    assert preprocessing.images[0].layout == "nchw"
    assert [(one.name, one.own) for one in preprocessing.outputs] == [
        ("scores", "probs"),
        ("next_m", "hn"),
    ]
    assert preprocessing.constants[0].array().tolist() == 16
    assert next(found.examples())["sr"].dtype == np.int64
    assert type(preprocessing).from_json(preprocessing.to_json()) == preprocessing
    assert contract.frame.name == FRAME


SCORES_OF = '[[output]]\nname = "scores"\noutput = '
WRONG = (
    (FRAMED + "scael = 2\n", r":6: .* key 'scael'; did you mean 'scale'"),
    (FRAMED.replace("ssifi", "sifi"), r":1: unknown task .*; did you mean classification"),
    (FRAMED.replace('"b", ', ""), r":2: 2 labels do not match .* 'probs' of the shape \(1, 3\)"),
    (FRAMED + 'input = "imag"\n', r":6: the model has no input 'imag'; did you mean 'image'"),
    (FRAMED + SCORES_OF + '"prob"\n', r":8: the model has no output .*; did you mean 'probs'"),
    (FRAMED + '[shapes]\n"imge" = [1]\n', r":7: the model has no input 'imge'"),
    (FRAMED + '[shapes]\n"image" = [1, 3, 9, 9]\n', r":7: \(1, 3, 9, 9\) does not fit .* 'image'"),
    (FRAMED + "height = 9\n", r"does not fit the model's input 'image'"),
    (
        FRAMED + "mean = [1, 2]\n",
        r":6: input\[0\]: mean must be a number, or one for each of three",
    ),
    (FRAMED + "std = 0\n", r":6: input\[0\]: std must be numbers other than 0"),
    (FRAMED + '[[state]]\nname = "m"\ninput = "image"\n', r"lacks 'output'"),
    (
        HEAD + "rate_fps = 1\n",
        r"does not mention the model's input 'image' float32 \(1, 3, 8, 10\)",
    ),
    (FRAMED + '[[input]]\nkind = "vector"\ninput = "image"\n', r"name the model's input for this"),
    (
        FRAMED + '[[input]]\ninput = "image"\n',
        r":6: input\[1\] lacks the key 'kind'; add it: one of",
    ),
    (FRAMED + '[[input]]\nkind = "image"\n', r":7: input\[1\]: kind must be one of frame, audio"),
    (HEAD + "[frame]\nrate_fps = 1\n", r":3: \[frame\] is the old form; write \[\[input\]\] with"),
    (HEAD + '[[input]]\nkind = "frame"\n', r"lacks the key 'rate_fps'; add it"),
    (FRAMED + SCORES_OF.replace("scores", "state_x") + '"probs"\n', r":6: the name 'state_x' is"),
    (FRAMED + SCORES_OF.replace("scores", "other") + '"probs"\n', r":1: a classification needs an"),
    (
        FRAMED.replace('["a", "b", "c"]', '["crane", "b", "crane"]'),
        r":2: classes 0 and 2 are both named 'crane', .* such as 'crane 2'",
    ),
    (
        FRAMED.replace('labels = ["a", "b", "c"]', 'labels_file = "no.txt"'),
        r":2: .*no\.txt: No such file",
    ),
)


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_errors_name_the_line(terms, text, message):
    with pytest.raises(BadInput, match=message) as caught:
        settled(terms(text))
    assert "\n" not in str(caught.value)


def test_open_sizes_must_be_fixed(terms):
    with pytest.raises(BadInput, match=r"open; pin them down.*= \[1, 3, 224, 224\]"):
        terms(FRAMED, (OPEN,))
    found = terms(FRAMED + "height = 8\nwidth = 10\n", (OPEN,))
    assert found.shapes["image"] == (1, 3, 8, 10)
    found = terms(FRAMED + '[shapes]\n"image" = [1, 3, 6, 6]\n', (OPEN,))
    assert settled(found)[0].frame.width == 6
    with pytest.raises(BadInput, match="takes 4 images at once"):
        terms(FRAMED, (TensorInfo("image", (4, 3, 8, 8), "float32"),))


def test_unsuitable_inputs_are_rejected(terms):
    with pytest.raises(BadInput, match="is not an image of one or three channels"):
        terms(FRAMED, (TensorInfo("image", (1, 8, 8, 5), "float32"),))
    with pytest.raises(BadInput, match='has one channel; add colour = "grey"'):
        terms(FRAMED, (TensorInfo("image", (1, 8, 8, 1), "float32"),))
    with pytest.raises(BadInput, match="name the model's input for this frame: 'image', 'h'"):
        terms(FRAMED, (IMAGE, MEMORY))
    with pytest.raises(BadInput, match=r"does not mention the model's input 'sr' int64 \(\)"):
        terms(FRAMED + 'input = "image"\n', (IMAGE, RATE))


def test_a_state_must_keep_its_shape(terms):
    text = FRAMED + '[[state]]\nname = "m"\ninput = "h"\noutput = "hn"\n'
    found = terms(text, (IMAGE, MEMORY), (SCORES, NEXT))
    with pytest.raises(BadInput, match=r"output 'hn' has the shape \(1, 5\), input 'h' \(1, 4\)"):
        settled(found, hn=(1, 5))


def test_logits_are_not_taken_for_scores(terms):
    found = terms(FRAMED)
    with pytest.raises(BadInput, match=r"is logits, not a softmax .* add softmax = true"):
        found.resolve([{"probs": np.float32([[1, 2, 3]])}])
    text = FRAMED + '[[output]]\nname = "scores"\noutput = "probs"\nsoftmax = true\n'
    assert terms(text).resolve([{"probs": np.float32([[1, 2, 3]])}])[1].outputs[0].softmax


def test_labels_may_be_in_a_file(terms, tmp_path):
    (tmp_path / "l.txt").write_bytes("x \r\ny\r\n\r\nz\r\n".encode("utf-16"))
    text = FRAMED.replace('labels = ["a", "b", "c"]', 'labels_file = "l.txt"')
    assert settled(terms(text))[0].labels == ("x", "y", "z")
    (tmp_path / "l.txt").write_bytes("x\nCaf\u00e9\n".encode("latin-1"))
    with pytest.raises(BadInput, match=r"l\.txt:2: is not UTF-8; save it as UTF-8"):
        settled(terms(text))


# --- its draft ------------------------------------------------------------------------------------


def test_a_classifiers_draft_is_usable_as_it_is(terms):
    text = starting.draft("m.onnx", (IMAGE,), (SCORES,))
    assert "TODO" not in text.partition("\n\n")[2]
    contract, preprocessing = settled(terms(text))
    assert contract.labels == ("class 0", "class 1", "class 2")
    assert preprocessing.images[0].scale == 255


def test_the_draft_marks_what_the_user_has_to_fill_in(terms):
    text = starting.draft("m.onnx", (OPEN, MEMORY, RATE), (SCORES, NEXT))
    assert "[[state]]" in text
    assert text.count("# TODO") == 3  # height, width, and the value of sr
    with pytest.raises(BadInput):
        terms(text, (OPEN, MEMORY, RATE), (SCORES, NEXT))
    lines = [line.removeprefix("# ") if "# TODO" in line else line for line in text.splitlines()]
    found = terms("\n".join(lines), (OPEN, MEMORY, RATE), (SCORES, NEXT))
    contract, preprocessing = settled(found, hn=(1, 4))
    assert [s.shape for s in contract.states] == [(1, 4)]
    assert preprocessing.state_inputs[0].own == "h"
    assert preprocessing.images[0].layout == "nchw"


def test_the_command_writes_the_draft_once(tiny, tmp_path, edgevid):
    model = tmp_path / "mine.tflite"
    model.write_bytes((tiny / "lite.tflite").read_bytes())
    before = edgevid("convert", model, "-o", tmp_path / "x.edgevid")
    assert before.returncode == 2
    assert f"write it with: edgevid convert --init {model}" in before.stderr
    result = edgevid("convert", "--init", model)
    assert result.returncode == 0, result.stderr
    file = tmp_path / "mine.contract.toml"
    assert str(file) in result.stdout
    assert "height = 20" in file.read_text()
    again = edgevid("convert", "--init", model)
    assert again.returncode == 2
    assert "already exists" in again.stderr
    assert edgevid("convert", model).returncode == 2  # where to?


# --- what cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.FILES)
def test_a_broken_file_is_one_line_and_leaves_nothing(tiny, tmp_path, name):
    model = tmp_path / name
    if name == "saved":
        model.mkdir()
        content = (tiny / name / "saved_model.pb").read_bytes()
        (model / "saved_model.pb").write_bytes(content[: len(content) // 2])
    else:
        content = (tiny / name).read_bytes()
        model.write_bytes(content[: len(content) // 2])
    if name == "ir.xml":
        (tmp_path / "ir.bin").write_bytes(b"")
    (tmp_path / f"{name.partition('.')[0]}.contract.toml").write_text(models.CONTRACT)
    there = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match=name.replace(".", r"\.")) as caught:
        convert(model, calibrate=tmp_path, out=tmp_path / "x.edgevid")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == there


def test_paths_that_are_not_models_are_rejected(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadInput, match=r"notes.txt is no model; give .*\.onnx"):
        importers.describe(tmp_path / "notes.txt")
    for name in ("a.tflite", "a.onnx", "a.xml", "a.keras"):
        (tmp_path / name).write_bytes(b"foreign" * 99)
    (tmp_path / "a.bin").write_bytes(b"")
    (tmp_path / "a.contract.toml").write_text(models.CONTRACT)
    for name in ("a.tflite", "a.onnx", "a.xml"):
        with pytest.raises(BadInput, match=name) as caught:
            importers.describe(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_ir_does_not_become_tflite(tiny, clips, tmp_path):
    with pytest.raises(BadInput, match="OpenVINO IR cannot be converted to it"):
        convert(tiny / "ir.xml", formats=["tflite"], calibrate=clips, out=tmp_path / "x.edgevid")


@pytest.fixture
def stranger(tmp_path):
    """Give a function that saves an ONNX model of one node."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper

    def save(kind: str, domain: str = "", opset: int = 17) -> Path:
        nodes = [
            helper.make_node(kind, ["x"], ["y"], "the_odd_one", domain=domain),
            helper.make_node("Relu", ["y"], ["z"], "rest"),
        ]
        shape = [1, 3] if kind == "Det" else [1, 3, 4, 4]
        path = tmp_path / "odd.onnx"
        onnx.save(models.onnx_model(nodes, {"x": [1, 3, 4, 4]}, {"z": shape}, opset=opset), path)
        (tmp_path / "odd.contract.toml").write_text(
            'task = "raw"\nrate_fps = 9\n[[input]]\nkind = "frame"\n'
        )
        return path

    return save


def test_an_operator_that_is_not_onnx_is_named(stranger):
    message = r"operator of\.mine\.Twist \(node 'the_odd_one'\) is not part of ONNX"
    with pytest.raises(BadInput, match=message):
        models.described(stranger("Twist", "of.mine"))


def test_an_operator_set_from_the_future_is_named(stranger):
    with pytest.raises(BadInput, match=r"uses ONNX operator set 999; this onnx knows up to \d+"):
        models.described(stranger("Relu", opset=999))


def test_an_operator_that_openvino_lacks_is_named_with_its_node(stranger, tmp_path):
    source = models.described(stranger("Det"))
    lowered = importers.load(source).lower("onnx", tmp_path)
    message = r"OpenVINO cannot lower the model: operator Det \(node 'the_odd_one'\)"
    with pytest.raises(BadInput, match=message):
        read(lowered, "onnx")


def test_an_operator_that_tflite_lacks_is_named_with_its_node(stranger, clips, tmp_path):
    options = {"formats": ["tflite"], "quantize": ["float32"], "calibrate": clips}
    message = r"operator Det \(node 'the_odd_one'\) cannot be lowered to TFLite: .* OpenVINO"
    with pytest.raises(BadInput, match=message):
        convert(stranger("Det"), out=tmp_path / "x.edgevid", **options)


def test_open_sizes_of_an_onnx_model(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "open.onnx"
    onnx.save(models.onnx_classifier(batch=None), path)
    contract = tmp_path / "open.contract.toml"
    contract.write_text(models.CONTRACT)
    with pytest.raises(BadInput, match=r"leaves sizes of its input 'frame' .* open"):
        models.described(path)
    contract.write_text(models.CONTRACT + f"height = {models.HEIGHT}\nwidth = {models.WIDTH}\n")
    source = models.described(path)
    model = importers.load(source)
    frame = models.frames()[0]
    wanted = models.expected(frame)
    np.testing.assert_allclose(model.step({FRAME: frame})["scores"], wanted, atol=1e-6)
    shape = pinned(onnx.load(path), source.preprocessing).graph.input[0].type.tensor_type.shape
    assert [size.dim_value for size in shape.dim] == [1, 3, models.HEIGHT, models.WIDTH]
    file = model.lower("onnx", tmp_path)
    onnx.checker.check_model(onnx.load(file), full_check=True)  # though both call it `frame`
    lowered = read(file, "onnx")
    assert all(port.partial_shape.is_static for port in (*lowered.inputs, *lowered.outputs))
