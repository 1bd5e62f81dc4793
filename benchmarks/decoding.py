"""The cost of decoding, and the savings from skipping what no step needs.

    python benchmarks/decoding.py [--rounds 5]

CPU milliseconds per frame, one decoding thread, on real footage with B-frames (as in files; most
cameras send none, and then only ``skip_loop_filter`` saves anything). The variants alternate, so
that a busy machine is busy for all of them. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from fractions import Fraction
from pathlib import Path

import av
from footage import OUT, clip

from edgevid.files import writing
from edgevid.media.sources import SourceOptions
from edgevid.media.video import open_file

FRAMES, FPS = 300, 25
WAYS = {
    "everything": SourceOptions(),
    "no loop filter": SourceOptions(skip_loop_filter=True),
    "at 10 fps": SourceOptions(rate_fps=10),
    "at 5 fps": SourceOptions(rate_fps=5),
    "at 5 fps, no loop filter": SourceOptions(rate_fps=5, skip_loop_filter=True),
}


def b_film(height: int) -> Path:
    path = OUT / f"bunny-{height}p-b.mp4"
    if path.exists():
        return path
    width = height * 16 // 9
    with av.open(str(clip("bigbuckbunny"))) as source:
        pictures = [p.reformat(width, height, "yuv420p") for p in source.decode(video=0)]
    with writing(path) as part, av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "fast", "crf": "23", "bf": "3", "b-adapt": "0"}
        for index in range(FRAMES):
            picture = pictures[index % len(pictures)]
            picture.pts, picture.time_base = index, Fraction(1, FPS)
            picture.pict_type = 0  # let the encoder choose; a decoded frame keeps its old type
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def cost_ms(path: Path, options: SourceOptions) -> tuple[float, int]:
    """CPU milliseconds per frame, and the number of frames not decoded."""
    began = time.process_time()
    with open_file(str(path), options) as source:
        source._stream.codec_context.thread_count = 1
        for _ in source:
            pass
    return (time.process_time() - began) * 1000 / FRAMES, source.arrivals.skipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    shown = {}
    for height in (720, 1080):
        path = b_film(height)
        costs: dict[str, list[float]] = {way: [] for way in WAYS}
        skipped = {}
        for _ in range(rounds):
            for way, options in WAYS.items():
                cost, skipped[way] = cost_ms(path, options)
                costs[way].append(cost)
        whole = statistics.median(costs["everything"])
        for way, each in costs.items():
            ms = statistics.median(each)
            saved = round(100 * (1 - ms / whole))
            shown[f"{height}p {way}"] = {"ms": round(ms, 2), "saved_percent": saved}
            print(
                f"{height}p {way:26} {ms:5.2f} ms a frame, {saved:3d} % saved, "
                f"{skipped[way]} of {FRAMES} undecoded"
            )
    print(json.dumps(shown))


if __name__ == "__main__":
    main()
