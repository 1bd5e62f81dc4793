"""The cost of exact pixels: decoding and scaling as a model gets them, against plain swscale.

    python benchmarks/scaling.py [--rounds 15]

CPU milliseconds per frame, one decoding thread, H.264. The ways alternate within each round, so
that a busy machine is busy for all of them, and ratios are those of one round:

    decode    decoding alone
    edgevid   decoding, and the pixels that a model gets (`Preprocessor`)
    swscale   decoding, and PyAV's own reformat to packed RGB with the filter ``area``, one context
              for all frames, copied into an array; colour has half the columns of its pixels

Prints JSON: for each form the medians, and the ratio of edgevid to swscale with the second lowest
and second highest of all rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter
from footage import film

from edgevid.contract import FrameInput
from edgevid.media.preprocessing import Preprocessor, scaled_size
from edgevid.media.video import open_file

FRAMES = 50
"""Frames of one way in one round."""
FORMS = (
    (1080, FrameInput("frame", 640, 640)),
    (720, FrameInput("frame", 640, 640)),
    (1080, FrameInput("frame", 640, 640, fit="letterbox")),
    (720, FrameInput("frame", 640, 640, fit="letterbox")),
    (1080, FrameInput("frame", 224, 224)),
    (720, FrameInput("frame", 224, 224)),
)
Apply = Callable[[Any], Any]


def by_swscale(frame: FrameInput) -> Apply:
    """PyAV's own scaling, with its result in the array that a model gets."""
    reformatter = VideoReformatter()
    pixels = np.full((1, frame.height, frame.width, 3), 114, np.uint8)

    def apply(image: Any) -> None:
        height, width = scaled_size((image.height, image.width), frame)
        scaled = reformatter.reformat(image, width, height, "rgb24", interpolation="AREA")
        plane = scaled.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        top, left = (frame.height - height) // 2, (frame.width - width) // 2
        place = pixels[0, top : top + height, left : left + width]
        place[:] = rows[:height, : 3 * width].reshape(height, width, 3)

    return apply


def cost_ms(path: Path, apply: Apply) -> float:
    """CPU milliseconds per frame of decoding and ``apply``."""
    with open_file(path) as source:
        source._stream.codec_context.thread_count = 1
        frames = iter(source)
        apply(next(frames).image)  # builds tables
        began = time.process_time()
        for _ in range(FRAMES):
            apply(next(frames).image)
        return (time.process_time() - began) * 1000 / FRAMES


def compare(lines: int, frame: FrameInput, rounds: int) -> dict[str, Any]:
    """Measure one form."""
    path = film(lines)
    ways: dict[str, Apply] = {
        "decode": lambda image: None,
        "edgevid": Preprocessor(frame).apply,
        "swscale": by_swscale(frame),
    }
    costs: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way in sorted(ways, reverse=bool(turn % 2)):
            costs[way].append(cost_ms(path, ways[way]))
    ratios = sorted(a / b for a, b in zip(costs["edgevid"], costs["swscale"], strict=True))
    return {
        "source": f"{lines}p",
        "model": f"{frame.width}x{frame.height} {frame.fit}",
        "ms": {way: round(statistics.median(each), 3) for way, each in costs.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_from": round(ratios[1], 3),
        "ratio_to": round(ratios[-2], 3),
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(json.dumps([compare(lines, frame, rounds) for lines, frame in FORMS], indent=2))


if __name__ == "__main__":
    main()
