"""Throughput of `edgevid run --rate all` against a bare decode-scale-step loop.

    python benchmarks/pipeline.py demo/motion.edgevid --pairs 12

The bare loop, `run`, and `run` with `--skip-loop-filter` alternate in fresh processes on the same
video; ratios are within a round. Prints one JSON document: for each video the median ratios with
their 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from footage import film
from measure import median_interval, run_json

from edgevid.bundle import Bundle

HERE = Path(__file__).parent


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
        for command in ways.values():
            run_json(*command)  # once unmeasured: page cache, and the engine's proof
        found = []
        for number in range(pairs):
            order = list(ways)[number % 3 :] + list(ways)[: number % 3]
            found.append({name: run_json(*ways[name])["fps"] for name in order})
    result: dict = {"video": video.name, "pairs": pairs}
    for name in ways:
        result[f"{name}_fps"] = round(statistics.median(one[name] for one in found), 1)
    for name in list(ways)[1:]:
        ratios = [one[name] / one["bare"] for one in found]
        result[f"{name}_ratio"] = round(statistics.median(ratios), 4)
        result[f"{name}_ratio_95"] = [round(bound, 4) for bound in median_interval(ratios)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--pairs", type=int, default=12)
    options = parser.parse_args()
    results = [
        compare(options.bundle, options.artifact, film(height), options.pairs)
        for height in (720, 1080)
    ]
    print(json.dumps({"results": results}, indent=2))


if __name__ == "__main__":
    main()
