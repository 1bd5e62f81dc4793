"""Memory of a service with TFLite and one 720p camera, all processes together.

    python benchmarks/footprint.py demo/motion.edgevid --seconds 60

``pss`` counts each shared page once across processes, ``rss`` counts it in each process: for a
single process it is an upper bound. Measured with the engine in the service's own process, and in
a worker, as accelerators are (with the stand-in accelerator). Prints one JSON document; exits 1
if the first is over 130 MB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from footage import camera_film
from running import ENGINES, Running, machine

from rigs.rtsp import RtspCamera

FPS, LIMIT_MB = 15, 130


def trial(bundle: Path, engine: str, source: str, seconds: float) -> dict:
    tables = f"""
[[bundle]]
path = "{bundle.resolve()}"
{ENGINES[engine]}

[[camera]]
name = "camera"
source = "{source}"
"""
    with tempfile.TemporaryDirectory() as folder, Running(Path(folder), tables) as run:
        run.wait(engine)
        seen = []
        for _ in range(int(seconds)):
            time.sleep(1)
            seen.append(run.memory_mb())
        accounts = run.accounts()["camera"]
        served = run.status()["bundles"][0]["engine"]["serving"]
        run.stop()
    return {
        "serving": served,
        "processes": seen[-1]["processes"],
        "most_mb": {kind: max(one[kind] for one in seen) for kind in ("pss", "rss")},
        "last_mb": {kind: seen[-1][kind] for kind in ("pss", "rss")},
        "accounts": accounts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    found = machine()
    with RtspCamera(camera=camera_film(720, FPS, 2 * int(options.seconds) + 60)) as server:
        for engine in ("cpu", "slow worker"):
            found[engine] = trial(options.bundle, engine, server.url("camera"), options.seconds)
    most_mb = found["cpu"]["most_mb"]["pss"]
    found |= {"limit_mb": LIMIT_MB, "within": most_mb <= LIMIT_MB}
    print(json.dumps(found, indent=2))
    sys.exit(not found["within"])


if __name__ == "__main__":
    main()
