"""The process that measures one artifact: ``python -m edgevid.bench.child``, JSON in, JSON out.

It imports what a serving process imports and nothing more, so that its memory and its first answer
are those of a serving process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edgevid.bundle import Bundle
from edgevid.errors import EdgevidError
from edgevid.media.video import open_file
from edgevid.runner.engines import Choice, open_engine
from edgevid.runner.meters import Meters
from edgevid.runner.pipeline import run
from edgevid.runner.process import first_answer_age_s, peak_rss_mb


def main() -> None:
    """Read the job from stdin, measure, and print the raw samples."""
    try:
        print(json.dumps(measure(json.load(sys.stdin))))
    except EdgevidError as error:
        sys.exit(str(error))


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Answer every frame of the source, again and again, until there are enough samples."""
    bundle = Bundle.open(Path(job["bundle"]))
    choice = Choice(job["artifact"], job["runtime"], job["accelerator"])
    engine, _ = open_engine(bundle, [choice], say=lambda line: None)
    meters = Meters(capacity=4 * job["samples"])
    while meters.latency.count < job["samples"]:
        with open_file(job["source"]) as source:
            run(source, bundle.contract, engine, [], rate_fps=None, meters=meters)
    return {
        "precision": engine.precision,
        "frames": meters.frames.captured,
        "elapsed_s": meters.elapsed_s,
        "latency_s": list(meters.latency.seconds()),
        "stages_s": {name: list(stage.seconds()) for name, stage in meters.stages.items()},
        "first_answer_s": first_answer_age_s([meters.first_answer_s]),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


if __name__ == "__main__":
    main()
