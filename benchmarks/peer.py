"""One peer of `peers.py`: a process that plays a whole video each time it is asked to.

    python benchmarks/peer.py WAY MODEL VIDEO HEIGHT WIDTH

It loads its model once, writes ``{}`` or ``{"gflop"}``, and then for each line on stdin plays the
file and writes ``{"frames", "seconds"}``. It imports nothing of edgevid, so that other environments
can run it.

    decode       every frame, as fast as FFmpeg decodes
    bare         bare_pipeline.py
    cv2          cv2.VideoCapture, resize, TFLite's interpreter, argmax; no state is kept
    ultralytics  predict(VIDEO, stream=True) of a classifier; MODEL is passed to YOLO()
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

Play = Callable[[], "dict[str, float]"]


def decode(model: str, video: str, height: int, width: int) -> Play:
    import av

    def play() -> dict[str, float]:
        began = time.perf_counter()
        with av.open(video) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = sum(1 for _ in container.decode(stream))
        return {"frames": frames, "seconds": time.perf_counter() - began}

    return play


def bare(model: str, video: str, height: int, width: int) -> Play:
    import bare_pipeline

    step = bare_pipeline.loaded(model)

    def play() -> dict[str, float]:
        frames, seconds = bare_pipeline.play(step, video, height, width)
        return {"frames": frames, "seconds": seconds}

    return play


def cv2(model: str, video: str, height: int, width: int) -> Play:
    import cv2
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    given = next(d["index"] for d in interpreter.get_input_details() if d["dtype"] == np.uint8)
    asked = interpreter.get_output_details()[0]["index"]

    def play() -> dict[str, float]:
        began, frames = time.perf_counter(), 0
        capture = cv2.VideoCapture(video)
        while True:
            there, picture = capture.read()
            if not there:
                break
            small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            interpreter.set_tensor(given, cv2.cvtColor(small, cv2.COLOR_BGR2RGB)[None])
            interpreter.invoke()
            int(np.argmax(interpreter.get_tensor(asked)))
            frames += 1
        capture.release()
        return {"frames": frames, "seconds": time.perf_counter() - began}

    return play


def ultralytics(model: str, video: str, height: int, width: int) -> Play:
    from ultralytics import YOLO

    yolo = YOLO(model, task="classify")

    def play() -> dict[str, float]:
        began, frames, inference_ms = time.perf_counter(), 0, 0.0
        for result in yolo.predict(video, stream=True, verbose=False, imgsz=height, device="cpu"):
            int(result.probs.top1)
            inference_ms += result.speed["inference"]
            frames += 1
        seconds = time.perf_counter() - began
        return {"frames": frames, "seconds": seconds, "step_ms": inference_ms / frames}

    if model.endswith(".pt"):
        from ultralytics.utils.torch_utils import get_flops

        play.gflop = get_flops(yolo.model, height)  # type: ignore[attr-defined]
    return play


WAYS = {one.__name__: one for one in (decode, bare, cv2, ultralytics)}


def main() -> None:
    way, model, video, height, width = sys.argv[1:]
    said, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    play = WAYS[way](model, video, int(height), int(width))
    gflop = getattr(play, "gflop", None)
    print(json.dumps({"gflop": gflop} if gflop else {}), file=said, flush=True)
    for _ in sys.stdin:
        print(json.dumps(play()), file=said, flush=True)


if __name__ == "__main__":
    main()
