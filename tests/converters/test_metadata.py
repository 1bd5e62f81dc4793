"""What artifacts say of themselves to readers of others, in the places where these look."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.contract import Contract
from edgevid.media.video import read_clip
from edgevid.runtimes import catalog
from edgevid_converters import importers
from edgevid_converters.lowering.openvino import metadata as openvino_metadata
from edgevid_converters.lowering.tflite import metadata as tflite_metadata
from edgevid_converters.lowering.tflite.flatbuffer import parse
from rigs import models
from rigs.need import missing
from rigs.tflite_metadata import Fields, metadata_of

IMAGE, FEATURE = 2, 1


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory) -> tuple[bytes, Contract]:
    """A classifier of single pictures: its ``.tflite``, and what its contract says."""
    source = models.described(tiny / "lite.tflite")
    file = importers.load(source).lower("tflite", tmp_path_factory.mktemp("alone"))
    return file.read_bytes(), source.contract


# --- TFLite Metadata ------------------------------------------------------------------------------


def labels_in(content: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return archive.read("labels.txt").decode().splitlines()


def test_metadata_describes_a_classifiers_frame_and_scores(alone):
    content, contract = alone
    described = tflite_metadata.described(content, contract)
    assert described == tflite_metadata.described(content, contract)
    (graph,) = metadata_of(described).tables(3)
    (frame,), (scores,) = graph.tables(2), graph.tables(3)
    assert frame.text(0) == "frame"
    image = frame.table(3)
    assert image.number(0, "Uint8") == IMAGE
    assert image.table(1).number(0, "Int8") == 1  # RGB
    size = image.table(1).table(1)
    assert [size.number(k, "Uint32") for k in (0, 1)] == [models.WIDTH, models.HEIGHT]
    (unit,) = frame.tables(4)
    assert unit.number(0, "Uint8") == 1
    assert (unit.table(1).floats(0), unit.table(1).floats(1)) == ([0.0], [1.0])
    assert scores.text(0) == "scores"
    (file,) = scores.tables(6)
    assert (file.text(0), file.number(2, "Int8")) == ("labels.txt", 2)
    assert labels_in(described) == list(models.LABELS)


def test_metadata_changes_no_output_and_can_be_replaced(alone):
    content, contract = alone
    described = tflite_metadata.described(content, contract)
    again = tflite_metadata.described(described, replace(contract, labels=("x", "y", "a\nb")))
    assert labels_in(again) == ["x", "y", "a b"]
    names = [entry.name for entry in parse(again).metadata]
    assert names.count(tflite_metadata.NAME) == 1
    assert again.count(b"M001") == 1  # nothing is left of the first
    frame = models.frames()[0]
    for file in (described, again):
        engine = runtimes.get("tflite").load({"tflite": file}, contract)
        answer, _ = engine.step({"frame": frame}, {})
        np.testing.assert_allclose(answer["scores"], models.expected(frame), atol=1e-6)


def test_metadata_describes_states(lowered):
    contract = lowered.source.contract
    content = lowered.files("tflite-int8")["tflite"]
    (graph,) = metadata_of(content).tables(3)
    model = parse(content)
    signature = model.signatureDefs[0]
    for slot, listed, ports in (
        (2, model.subgraphs[0].inputs, signature.inputs),
        (3, model.subgraphs[0].outputs, signature.outputs),
    ):
        names = {one.tensorIndex: one.name.decode() for one in ports}
        result: list[Fields] = graph.tables(slot)
        assert [one.text(0) for one in result] == [names[int(index)] for index in listed]
        for one in result:
            memory = one.text(0).startswith(("state_", "next_"))
            assert one.text(1).startswith("Memory: ") == memory
            kind = IMAGE if one.text(0) == "frame" else FEATURE
            assert one.table(3).number(0, "Uint8") == kind
    assert labels_in(content) == list(contract.labels)


# --- OpenVINO's model_info ------------------------------------------------------------------------


def info_of(files) -> dict[str, str]:
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().read_model(model=files["xml"], weights=files["bin"])
    return dict(model.get_rt_info("model_info").value)


def test_model_info_describes_a_classifier(lowered):
    files = lowered.files("openvino-int8")
    contract = lowered.source.contract
    info = info_of(files)
    assert info["labels"].split(" ") == list(contract.labels)
    assert info["resize_type"] == "standard"
    assert info["reverse_input_channels"] == "YES"
    assert not {"mean_values", "scale_values"} & info.keys()  # the graph does that
    assert "model_type" not in info  # Model API knows no memory
    odd = replace(
        contract,
        labels=("a b", '<"&'),
        states=(),
        temporal="none",
        inputs=(replace(contract.frame, fit="letterbox"),),
    )
    info = info_of({**files, "xml": openvino_metadata.described(_without(files["xml"]), odd)})
    assert info["labels"] == 'a_b <"&'
    assert (info["resize_type"], info["pad_value"]) == ("fit_to_window_letterbox", "114")
    assert info["model_type"] == "Classification"


def _without(xml: bytes) -> bytes:
    head, _, rest = xml.partition(b"<rt_info>")
    return head + rest.partition(b"</rt_info>")[2]


def test_raw_models_have_no_model_info(lowered):
    raw = replace(lowered.source.contract, task="raw", labels=())
    assert openvino_metadata.described(b"<net></net>", raw) == b"<net></net>"


# --- the readers themselves -----------------------------------------------------------------------

READERS = {
    "mediapipe": "mediapipe==1.2.2",
    "model_api": "openvino-model-api==0.4.7",
}
READ = {
    "mediapipe": """
import json, sys
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
with vision.ImageClassifier.create_from_options(options) as model:
    for frame in np.load(sys.argv[2]):
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame)
        best = model.classify(image).classifications[0].categories[0]
        print(json.dumps([best.category_name, best.score]))
""",
    "model_api": """
import json, sys
import numpy as np
from model_api.models import Model
model = Model.create_model(sys.argv[1], device="CPU")
for frame in np.load(sys.argv[2]):
    best = model(np.ascontiguousarray(frame[..., ::-1])).top_labels[0]  # as OpenCV has it
    print(json.dumps([best.name, float(best.confidence)]))
""",
}
ENDING = {"mediapipe": "tflite", "model_api": "xml"}


@pytest.fixture(scope="module")
def single(real_data, tmp_path_factory) -> Path:
    """A trained `cnn`, which looks at single frames, as a bundle."""
    folder = tmp_path_factory.mktemp("single")
    run, out = folder / "run", folder / "x.edgevid"
    shape = ("--image-size", 32, "--epochs", 6, "--batch", 8)
    for lines in (
        ("train", real_data, "--model", "cnn", "--out", run, *shape),
        ("convert", run, "-o", out),
    ):
        subprocess.run([sys.executable, "-m", "edgevid", *map(str, lines)], check=True)
    return out


@pytest.mark.soak
@pytest.mark.parametrize("reader", READERS)
def test_model_api_predicts_the_same_label(reader, single, real_data, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    wanted = READERS[reader]
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", wanted], capture_output=True)
    if done.returncode != 0:
        missing(f"the package {wanted}", "let pip reach a package index")
    bundle = Bundle.open(single)
    clips = sorted(real_data.glob("*/*.mp4"))[::4]
    frames = np.concatenate(
        [read_clip(clip, bundle.contract.frame, bundle.contract.rate_fps)[:2] for clip in clips]
    )
    np.save(tmp_path / "frames.npy", frames)
    for artifact in bundle.artifacts:
        files = bundle.files(artifact)
        if ENDING[reader] not in files:
            continue
        for ending, content in files.items():
            (tmp_path / f"model.{ending}").write_bytes(content)
        lines = [tmp_path / f"model.{ENDING[reader]}", tmp_path / "frames.npy"]
        done = subprocess.run(
            [python, "-c", READ[reader], *lines],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        given = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
        engine = runtimes.get(catalog.made_for(artifact.format)[0]).load(files, bundle.contract)
        own = [
            engine.step({bundle.contract.frame.name: frame[None]}, {})[0]["scores"][0]
            for frame in frames
        ]
        assert [label for label, _ in given] == [
            bundle.contract.labels[int(scores.argmax())] for scores in own
        ]
        assert len({label for label, _ in given}) == 3
        np.testing.assert_allclose([score for _, score in given], [s.max() for s in own], atol=0.02)
