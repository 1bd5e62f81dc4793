"""Time to the first result of a fresh process, its memory, and the time of `--help`.

    python benchmarks/start.py demo/motion.edgevid demo/video.mp4

Each figure is over several fresh processes, after one that proves the engine. Prints one JSON
document; `wall_s` is measured from outside, `first_answer_s` from the start of the process to its
first result.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAVY = ("cv2", "keras", "tensorflow", "torch")
WATCHED = """
import json, sys
from edgevid.cli import main
sys.argv[0] = "edgevid"
try:
    main()
finally:
    heavy = [name for name in {heavy!r} if name in sys.modules]
    print(json.dumps(heavy), file=sys.stderr)
"""


def runs(bundle: Path, video: Path, artifact: str, repeats: int) -> dict:
    words = ["run", bundle, video, "--artifact", artifact, "--json", "--output"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", WATCHED.format(heavy=HEAVY), *map(str, words)]
        command.append(str(Path(folder, "answers.jsonl")))
        # A cache of its own, so that the first process really proves the engine.
        env = {**os.environ, "XDG_CACHE_HOME": folder}
        said = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
            wall_s = time.perf_counter() - began
            heavy = json.loads(done.stderr.splitlines()[-1])
            said.append({**json.loads(done.stdout), "wall_s": wall_s, "heavy": heavy})
    first, *later = said
    answers = [one["first_answer_s"] for one in later]
    return {
        "artifact": artifact,
        "repeats": repeats,
        "first_answer_s_with_proof": first["first_answer_s"],
        "first_answer_s": {"median": statistics.median(answers), "max": max(answers)},
        "peak_rss_mb": max(one["peak_rss_mb"] for one in later),
        "heavy_imports": sorted({name for one in said for name in one["heavy"]}),
    }


def help_s(repeats: int) -> dict:
    script = Path(sys.executable).with_name("edgevid")
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([script, "--help"], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    return {"median": round(statistics.median(took), 4), "max": round(max(took), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    result = {
        "run": [
            runs(options.bundle, options.video, artifact, options.repeats)
            for artifact in ("tflite-int8", "openvino-int8")
        ],
        "help_s": help_s(options.repeats),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
