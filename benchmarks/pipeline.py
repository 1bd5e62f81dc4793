"""How much of the bare pipeline's frames per second `edgevid run --rate all` keeps.

    python benchmarks/pipeline.py demo/motion.edgevid --pairs 12

They run in fresh processes, in turn, on the same file: the bare pipeline, `run`, and `run` with
`--skip-loop-filter`; ratios are taken within each round. Prints one JSON document: for each film
the median ratios with 95 % bootstrap intervals.
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
        ways = {"bare": bare, "run": run, "run_skip_loop_filter": [*run, "--skip-loop-filter"]}
        for words in ways.values():
            spoken(*words)  # once unmeasured: page cache, and the engine's proof
        found = []
        for number in range(pairs):
            order = list(ways)[number % 3 :] + list(ways)[: number % 3]
            found.append({name: spoken(*ways[name])["fps"] for name in order})
    result: dict = {"video": video.name, "pairs": pairs}
    for name in ways:
        result[f"{name}_fps"] = round(statistics.median(one[name] for one in found), 1)
    for name in list(ways)[1:]:
        ratios = [one[name] / one["bare"] for one in found]
        result[f"{name}_ratio"] = round(statistics.median(ratios), 4)
        result[f"{name}_ratio_95"] = [round(bound, 4) for bound in interval(ratios)]
    return result


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
