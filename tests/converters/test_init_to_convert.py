"""From ``convert --init`` to a bundle that runs: what the draft asks for, then what errors say.

Nothing is known here about a model but what the draft and the errors say of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgevid_converters.child_process import ENVIRONMENT
from edgevid_converters.importers.contract_draft import MARK
from rigs import models, quantised_models
from rigs.videos import moving_images, write_video

RETRIES = 3
BOTH = ("-f", "tflite", "-f", "openvino", "--quantize", "float32")
QUICK = ("sigmoid.onnx", "lite.tflite", "detector.onnx", "listener.onnx")
FAMILIES = {
    "keras.keras": "a Keras 3 file",
    "older.h5": "an .h5 of Keras 3",
    "two.h5": "an .h5 of Keras 2",
    "zip.keras": "a .keras of Keras 2",
    "saved": "a SavedModel",
    "onnx.onnx": "a classifier with its channels in front",
    "open.onnx": "one that leaves its sizes open",
    "logits.onnx": "one that gives logits",
    "sigmoid.onnx": "one that gives scores of no softmax",
    "many.onnx": "one of more labels than a draft lists",
    "row.onnx": "one whose scores have three axes",
    "detector.onnx": "boxes and scores",
    "recurrent.onnx": "a frame and a state",
    "pair.onnx": "a frame, a vector and a state",
    "memory.keras": "a Keras step with a state",
    "lstm.keras": "a clip: TimeDistributed and LSTM",
    "two_lstm.h5": "a clip of Keras 2",
    "two_conv.h5": "a clip of Keras 2: ConvLSTM2D",
    "two_saved": "a SavedModel of Keras 2",
    "conv3d.h5": "a clip: Conv3D",
    "onnx3d.onnx": "a clip of ONNX",
    "batch.onnx": "a clip whose frames are a batch",
    "grey.keras": "grey pictures",
    "ogrey.onnx": "grey pictures of ONNX",
    "lite.tflite": "a float .tflite",
    "inside.tflite": "int8 inside, float outside",
    "uint8.tflite": "uint8 outside",
    "int8.tflite": "int8 outside",
    "ir.xml": "OpenVINO's",
    "nncf.xml": "OpenVINO's, int8 already",
    "qdq.onnx": "an ONNX that is int8 already",
    "listener.onnx": "sound and a state",
}


@pytest.fixture(scope="session")
def brought(made_once) -> Path:
    """The models of `rigs.imported_models`, without their answers."""

    def make(folder: Path) -> None:
        code = "import sys, pathlib; from rigs import imported_models as m; "
        code += "m.write_all(pathlib.Path(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return made_once("brought-models", make)


def onnx_detector():
    """Boxes (1, 5, 4) and ``scores`` (1, 5, 3) of a frame."""
    from onnx import helper

    rng = np.random.default_rng(2)
    constants = {
        "w": rng.normal(0, 0.4, (7, 3, 3, 3)).astype(np.float32),
        "to": np.int64([1, 7, -1]),
        "cut": np.int64([4, 3]),
        "few": rng.normal(0, 0.2, (225, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], "conv", strides=[2, 2]),
        helper.make_node("Reshape", ["a", "to"], ["b"], "flat"),
        helper.make_node("MatMul", ["b", "few"], ["c"], "few"),
        helper.make_node("Transpose", ["c"], ["d"], "turn", perm=[0, 2, 1]),
        helper.make_node("Split", ["d", "cut"], ["boxes", "e"], "split", axis=2),
        helper.make_node("Sigmoid", ["e"], ["scores"], "squash"),
    ]
    shapes = {"boxes": [1, 5, 4], "scores": [1, 5, 3]}
    return models.onnx_model(nodes, {"image": [1, 3, 32, 32]}, shapes, constants)


def onnx_recurrent():
    """A frame and a state: h' = tanh(h / 2 + its channels' means); probabilities of h'."""
    from onnx import helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["c"], "flat"),
        helper.make_node("Mul", ["h", "half"], ["k"], "keep"),
        helper.make_node("Add", ["k", "c"], ["s"], "sum"),
        helper.make_node("Tanh", ["s"], ["hn"], "squash"),
        helper.make_node("Softmax", ["hn"], ["y"], "soft", axis=-1),
    ]
    shapes = {"image": [1, 3, 32, 32], "h": [1, 3]}
    constants = {"half": np.float32([0.5])}
    return models.onnx_model(nodes, shapes, {"y": [1, 3], "hn": [1, 3]}, constants)


def onnx_head(head: str, classes: int = 3, rank: int = 2):
    """A classifier of 32x32 whose last operator is ``head``; its ``scores`` have ``rank`` axes."""
    from onnx import helper

    rng = np.random.default_rng(4)
    shape = [1] * (rank - 1) + [classes]
    constants = {
        "w": rng.normal(0, 0.5, (6, 3, 3, 3)).astype(np.float32),
        "last": rng.normal(0, 2, (6, classes)).astype(np.float32),
        "to": np.int64(shape),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], "conv", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["a"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["c"], "flat"),
        helper.make_node("MatMul", ["c", "last"], ["d"], "product"),
        helper.make_node("Reshape", ["d", "to"], ["e"], "form"),
        helper.make_node(head, ["e"], ["scores"], "head"),
    ]
    return models.onnx_model(nodes, {"image": [1, 3, 32, 32]}, {"scores": shape}, constants)


MADE: dict[str, Callable] = {
    "open.onnx": lambda: models.onnx_classifier(batch=None),
    "logits.onnx": lambda: onnx_head("Identity"),
    "sigmoid.onnx": lambda: onnx_head("Sigmoid"),
    "many.onnx": lambda: onnx_head("Softmax", classes=30),
    "row.onnx": lambda: onnx_head("Softmax", rank=3),
    "detector.onnx": onnx_detector,
    "recurrent.onnx": onnx_recurrent,
    "pair.onnx": models.onnx_pair,
    "listener.onnx": models.onnx_listener,
}


def place_model(name: str, folder: Path, request) -> Path:
    """Put a model into a folder of its own, without the contract that its maker wrote."""
    path = folder / name
    if name in MADE:
        pytest.importorskip("onnx").save(MADE[name](), path)
        return path
    maker = "quantised_files" if name in quantised_models.KINDS else "brought"
    maker = "tiny" if name in (*models.FILES, "memory.keras") else maker
    source = request.getfixturevalue(maker) / name
    if source.is_dir():
        return Path(shutil.copytree(source, path))
    if name.endswith(".xml"):
        shutil.copy(source.with_suffix(".bin"), path.with_suffix(".bin"))
    return Path(shutil.copy(source, path))


def fill_in(file: Path) -> None:
    """Do what the draft's TODO lines say: take the value that is proposed, write its file."""
    text = file.read_text()
    text = re.sub(rf"^# (.*){MARK}", r"\1  # done", text, flags=re.M)
    if found := re.search(r'labels_file = "(.+?)".*where the (\d+) labels are, one a line', text):
        lines = "".join(f"label {number}\n" for number in range(int(found[2])))
        (file.parent / found[1]).write_text(lines)
    file.write_text(text)


class Attempt:
    """The contract and the options of a conversion, changed as its errors say."""

    def __init__(self, file: Path, calibrate: Path) -> None:
        self.file = file
        self.calibrate = calibrate
        self.options: list[str] = list(BOTH)
        self.said: list[str] = []

    def follow(self, error: str) -> bool:
        """Do the first thing that an error says to do; whether there was one that is known."""
        self.said.append(error)
        text = self.file.read_text()
        if "add softmax = true to its [[output]]" in error:
            return self._write(text.replace("softmax = false", "softmax = true"))
        if 'use task = "raw"' in error:
            return self._write(re.sub(r'^task = "\w+"', 'task = "raw"', text, flags=re.M))
        if found := re.search(r"remove (?:the key )?'?(\w+)'?", error):
            return self._write(re.sub(rf"^{found[1]} = .*\n", "", text, flags=re.M))
        if found := re.search(r"add, for example, (\S+ = \S+) below \[(\w+)\]", error):
            return self._write(f"{text}\n[{found[2]}]\n{found[1]}\n")
        if "leave out --quantize" in error:
            place = self.options.index("--quantize")
            del self.options[place : place + 2]
            return True
        if "only by openvino" in error or "-f openvino" in error:
            kept = self.options[-2:] if "--quantize" in self.options else []
            self.options = ["-f", "openvino", *kept]
            return True
        arrays = re.findall(r"'(\w+)' of the shape \(N, ([\d, ]+)\)", error)
        return bool(arrays) and self._record(arrays)

    def _write(self, text: str) -> bool:
        changed = text != self.file.read_text()
        self.file.write_text(text)
        return changed

    def _record(self, arrays: list[tuple[str, str]]) -> bool:
        """Write the recording whose arrays an error names."""
        rng = np.random.default_rng(0)
        self.calibrate = self.file.parent / "recording.npz"
        known = dict(np.load(self.calibrate)) if self.calibrate.exists() else {}
        for name, sizes in arrays:
            shape = (20, *(int(size) for size in sizes.split(",")))
            pixels = rng.integers(0, 255, shape, np.uint8)
            known[name] = pixels if len(shape) == 4 else rng.normal(0, 0.3, shape)
        np.savez(self.calibrate, **known)
        return True


@pytest.mark.soak
def test_scores_with_three_axes_are_raw_outputs_of_any_name(tmp_path, edgevid):
    """The error names the task to use, which is all that has to be changed."""
    model = tmp_path / "row.onnx"
    pytest.importorskip("onnx").save(onnx_head("Softmax", rank=3), model)
    clip = write_video(tmp_path / "clip.mp4", moving_images(12, 40, 48))
    file = tmp_path / "row.contract.toml"
    file.write_text(
        'task = "classification"\nlabels = ["a", "b", "c"]\nrate_fps = 10\n'
        '[[input]]\nkind = "frame"\nscale = 255\n[[output]]\nname = "scores"\n'
    )
    attempt, out = Attempt(file, clip), tmp_path / "row.edgevid"
    words = ("convert", model, "--calibrate", clip, *BOTH, "--quantize", "int8", "-o", out)
    refused = edgevid(*words)
    assert refused.returncode == 2
    assert "has the shape (1, 1, 3)" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert attempt.follow(refused.stderr)
    done = edgevid(*words)
    assert done.returncode == 0, done.stderr
    assert edgevid("verify", out).returncode == 0
    ran = edgevid("run", out, clip, "--sink", "jsonl:path=-,full=true")
    assert '"scores":{"shape":[1,1,3]' in ran.stdout


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.soak) for name in FAMILIES],
)
def test_what_the_draft_and_the_errors_say_leads_to_a_bundle(name, tmp_path, request, edgevid):
    model = place_model(name, tmp_path, request)
    clip = write_video(tmp_path / "clip.mp4", moving_images(24, 40, 48))
    drafted = edgevid("convert", "--init", model)
    assert drafted.returncode == 0, drafted.stderr
    file = Path(drafted.stdout.partition(".contract.toml")[0] + ".contract.toml")
    fill_in(file)
    attempt, out = Attempt(file, clip), tmp_path / "made.edgevid"
    for _ in range(RETRIES + 1):
        words = ("--calibrate", attempt.calibrate, *attempt.options, "-o", out)
        done = edgevid("convert", model, *words)
        if done.returncode == 0:
            break
        error = done.stderr.strip().splitlines()[-1]
        assert "Traceback" not in done.stderr, done.stderr
        assert attempt.follow(error), [*attempt.said, file.read_text()]
    print(name, attempt.said)  # shown by pytest -s
    assert done.returncode == 0, [*attempt.said, file.read_text()]
    if attempt.calibrate == clip:
        ran = edgevid("run", out, clip, "--rate", "all")
        assert ran.returncode == 0, ran.stderr
        assert len(ran.stdout.splitlines()) == 24
    else:
        assert edgevid("verify", out).returncode == 0


@pytest.mark.soak
@pytest.mark.parametrize("name", ["two_conv.h5", "two_saved"])
def test_files_of_keras_2_become_int8_in_both_formats(name, brought, tmp_path, edgevid):
    """ConvLSTM2D of Keras 2 cannot unroll itself, and TensorFlow's quantiser crashes on loops."""
    contract = f"{name.partition('.')[0]}.contract.toml"
    clip = write_video(tmp_path / "clip.mp4", moving_images(24, 40, 48))
    out = tmp_path / "made.edgevid"
    words = ("--contract", brought / contract, "--calibrate", clip, "--quantize", "int8", "-o", out)
    done = edgevid("convert", brought / name, *words)
    assert done.returncode == 0, done.stderr
    assert edgevid("verify", out).returncode == 0
    assert "tflite-int8" in done.stdout and "openvino-int8" in done.stdout
