"""The limit of a pipeline: a decoding thread, one AREA scaling, a bare invoke, and nothing else.

As a program it prints one JSON line with frames and frames per second:

    python benchmarks/bare_pipeline.py MODEL.tflite VIDEO HEIGHT WIDTH

It keeps no state, reads no output, writes nothing and handles no errors.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Callable

import av
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from av.video.reformatter import VideoReformatter


def loaded(model: str) -> Callable[[np.ndarray], None]:
    """A function that sets the frame and invokes the model."""
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    frame_index = next(
        d["index"] for d in interpreter.get_input_details() if d["dtype"] == np.uint8
    )

    def step(pixels: np.ndarray) -> None:
        interpreter.set_tensor(frame_index, pixels)
        interpreter.invoke()

    return step


def play(
    step: Callable[[np.ndarray], None], video: str, height: int, width: int
) -> tuple[int, float]:
    """Frames and seconds of one file."""
    container = av.open(video)
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    waiting: queue.Queue = queue.Queue(3)

    def decode() -> None:
        for picture in container.decode(stream):
            waiting.put(picture)
        waiting.put(None)

    reformatter = VideoReformatter()
    frames = 0
    began = time.perf_counter()
    threading.Thread(target=decode, daemon=True).start()
    while (picture := waiting.get()) is not None:
        small = reformatter.reformat(
            picture, width=width, height=height, format="rgb24", interpolation="AREA"
        )
        plane = small.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
        step(rows[:, : width * 3].reshape(1, height, width, 3))
        frames += 1
    return frames, time.perf_counter() - began


def main(model: str, video: str, height: int, width: int) -> None:
    frames, seconds = play(loaded(model), video, height, width)
    print(json.dumps({"frames": frames, "fps": frames / seconds}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
