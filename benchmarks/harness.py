"""The overhead of measuring, and what the runner adds to a frame.

    python benchmarks/harness.py demo/motion.edgevid demo/video.mp4 --rounds 10

The overhead of the harness is measured on a null engine, per step, in microseconds. The runner's
share is everything in a frame except decoding, preprocessing and the step, for every artifact in
the scenario ``single``, in milliseconds. Prints one JSON document, with what disturbed it, if
anything.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgevid import targets
from edgevid.bench import BenchPlan, bench, jobs_of
from edgevid.bundle import Bundle
from edgevid.documents import to_json
from edgevid.runner import engines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    bundle = Bundle.open(options.bundle)
    jobs = jobs_of(bundle, engines.choices(bundle, targets.load("local")), ["single"])
    result = bench(bundle, jobs, options.video, plan=BenchPlan(rounds=options.rounds, starts=1))
    found = {
        "harness_us": result.harness.overhead_us,
        "runner_ms": {one.job.artifact: to_json(one.runner_ms) for one in result.results},
        "reasons": result.reasons,
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
