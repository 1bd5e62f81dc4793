"""A camera at 25 frames/s before an engine that takes 200 ms: does the age of events stay flat?

    python benchmarks/slow_engine.py demo/motion.edgevid --seconds 300

The age is from the arrival of a frame to the arrival of its answer on the service's output. It must
stay under two steps and a frame; how long the run has lasted must make no difference. The engine is
the stand-in around a real artifact; the camera is a real RTSP server, or with
``--source`` what is named there. Prints one JSON document; exits 1 where an age is over the limit.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from footage import camera_film
from running import ENGINES, Running, ages, machine

from rigs.rtsp import RtspCamera

FPS, STEP_MS, WINDOW_S, WARM_S = 25, 200, 30, 3
LIMIT_MS = 2 * STEP_MS + 1000 / FPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--engine", choices=["slow cpu", "slow worker"], default="slow cpu")
    parser.add_argument("--source", help="for instance synthetic:1280x720@25")
    asked = parser.parse_args()
    found = machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = asked.source
        if source is None:
            film = camera_film(720, FPS, int(asked.seconds) + WARM_S + 30)
            source = stack.enter_context(RtspCamera(camera=film)).url("camera")
        tables = f"""
[[bundle]]
path = "{asked.bundle.resolve()}"
{ENGINES[asked.engine]}
rate = "all"

[[camera]]
name = "camera"
source = "{source}"
"""
        slow = json.dumps({"latency_ms": STEP_MS})
        run = stack.enter_context(Running(folder, tables, EDGEVID_NULL=slow))
        run.wait(asked.engine)
        time.sleep(WARM_S)
        first = len(run.lines)
        time.sleep(asked.seconds)
        lines, accounts = run.lines[first:], run.accounts()["camera"]
        run.stop()
    began = lines[0][0]
    windows = [
        [line for line in lines if start <= line[0] - began < start + WINDOW_S]
        for start in range(0, int(asked.seconds), WINDOW_S)
    ]
    found |= {
        "seconds": asked.seconds,
        "source": "rtsp" if asked.source is None else source,
        "engine": asked.engine,
        "answers": len(lines),
        "accounts": accounts,
        "limit_ms": LIMIT_MS,
        "age_ms": ages(lines),
        "age_ms_by_window": [ages(window) for window in windows if window],
        "within": ages(lines)["p99"] < LIMIT_MS,
    }
    print(json.dumps(found, indent=2))
    sys.exit(not found["within"])


if __name__ == "__main__":
    main()
