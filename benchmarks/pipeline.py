"""How much of the bare pipeline's frames per second `edgevid run --rate all` keeps.

    python benchmarks/pipeline.py demo/motion.edgevid --pairs 12

Both run in fresh processes, in turn, on the same file; the ratio is taken pair by pair. Prints one
JSON document: for each film the median ratio with a 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from footage import film

from edgevid.bundle import Bundle

HERE = Path(__file__).parent


def spoken(*words: object) -> dict:
    done = subprocess.run([*map(str, words)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def interval(values: list[float], draws: int = 10_000) -> tuple[float, float]:
    """A 95 % bootstrap interval of the median."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws)]


def compare(bundle: Path, artifact: str, video: Path, pairs: int) -> dict:
    opened = Bundle.open(bundle)
    frame = opened.contract.frame
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.tflite")
        model.write_bytes(opened.files(artifact)["tflite"])
        bare = [sys.executable, HERE / "bare_pipeline.py", model, video, frame.height, frame.width]
        run = [sys.executable, "-m", "edgevid", "run", bundle, video, "--artifact", artifact]
        run += ["--rate", "all", "--json", "--output", Path(folder, "answers.jsonl")]
        spoken(*bare), spoken(*run)  # once each unmeasured: page cache, and the engine's proof
        found = []
        for pair in range(pairs):
            both = {}
            for name in ("bare", "run") if pair % 2 else ("run", "bare"):
                both[name] = spoken(*(bare if name == "bare" else run))["fps"]
            found.append(both)
    ratios = [one["run"] / one["bare"] for one in found]
    low, high = interval(ratios)
    return {
        "video": video.name,
        "pairs": pairs,
        "bare_fps": round(statistics.median(one["bare"] for one in found), 1),
        "run_fps": round(statistics.median(one["run"] for one in found), 1),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_95": [round(low, 4), round(high, 4)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--pairs", type=int, default=12)
    asked = parser.parse_args()
    results = [
        compare(asked.bundle, asked.artifact, film(height), asked.pairs) for height in (720, 1080)
    ]
    print(json.dumps({"results": results}, indent=2))


if __name__ == "__main__":
    main()
