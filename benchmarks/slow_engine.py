"""A camera at 25 frames/s and an engine that takes 200 ms: does latency stay flat?

    python benchmarks/slow_engine.py demo/motion.edgevid --seconds 300

Latency is measured from the arrival of a frame to the arrival of its result on the service's
output. It must stay below two steps and a frame, however long the run lasts. The engine is the
stand-in around a real artifact; the camera is a real RTSP server, or ``--source``. Prints one
JSON document; exits 1 if the limit is exceeded.
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
    options = parser.parse_args()
    found = machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = options.source
        if source is None:
            film = camera_film(720, FPS, int(options.seconds) + WARM_S + 30)
            source = stack.enter_context(RtspCamera(camera=film)).url("camera")
        tables = f"""
[[bundle]]
path = "{options.bundle.resolve()}"
{ENGINES[options.engine]}
rate = "all"

[[camera]]
name = "camera"
source = "{source}"
"""
        slow = json.dumps({"latency_ms": STEP_MS})
        run = stack.enter_context(Running(folder, tables, EDGEVID_NULL=slow))
        run.wait(options.engine)
        time.sleep(WARM_S)
        first = len(run.lines)
        time.sleep(options.seconds)
        lines, accounts = run.lines[first:], run.accounts()["camera"]
        run.stop()
    began = lines[0][0]
    windows = [
        [line for line in lines if start <= line[0] - began < start + WINDOW_S]
        for start in range(0, int(options.seconds), WINDOW_S)
    ]
    found |= {
        "seconds": options.seconds,
        "source": "rtsp" if options.source is None else source,
        "engine": options.engine,
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
