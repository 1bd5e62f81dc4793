"""What quantisation gains: sizes, and step times measured side by side.

    python benchmarks/conversion.py cnn.edgevid --rounds 40

Each round steps every artifact of a format in turn, so that a disturbance affects all of them; a
ratio is taken within a round. Prints one JSON document: for each artifact its bytes, its share of
float32's bytes, its step time, and its speed-up over float32 with a 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgevid import runtimes
from edgevid.bundle import Artifact, Bundle
from edgevid.proof import Golden
from edgevid.proof.verify import runtimes_for
from edgevid.runtimes import zero_state

PLAIN = "float32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=100, help="steps of one artifact in a round")
    options = parser.parse_args()
    found = {path.name: measure(path, options.rounds, options.steps) for path in options.bundle}
    print(json.dumps(found, indent=2))


def measure(path: Path, rounds: int, steps: int) -> dict[str, Any]:
    """Every artifact of a bundle that this machine executes, by name."""
    bundle = Bundle.open(path)
    here = [one for one in bundle.artifacts if runtimes_for(one.format)]
    engines = {one.name: _engine(bundle, one) for one in here}
    recorded = Golden.read(bundle).trajectories[0]
    state = zero_state(bundle.contract)
    taken_us: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds + 1):
        for name, engine in engines.items():
            begun = time.perf_counter()
            for step in range(steps):
                engine.step(recorded.inputs_at(step % len(recorded)), state)
            if number:  # the first round warms up
                taken_us[name].append((time.perf_counter() - begun) / steps * 1e6)
    return {one.name: _figures(one, here, taken_us) for one in here}


def _engine(bundle: Bundle, artifact: Artifact) -> Any:
    runtime = runtimes.get(runtimes_for(artifact.format)[0])
    return runtime.load(bundle.files(artifact), bundle.contract)


def _figures(
    artifact: Artifact, all_of_them: list[Artifact], taken_us: dict[str, list[float]]
) -> dict[str, Any]:
    own = np.array(taken_us[artifact.name])
    told = {"bytes": artifact.bytes, "step_us": round(float(np.median(own)), 1)}
    plain = [one for one in all_of_them if (one.format, one.quantize) == (artifact.format, PLAIN)]
    if not plain or plain[0] is artifact:
        return told
    times = np.array(taken_us[plain[0].name]) / own
    rng = np.random.default_rng(0)
    middles = np.median(rng.choice(times, (2000, len(times))), axis=1)
    low, high = np.percentile(middles, (2.5, 97.5))
    return {
        **told,
        "share_of_float32": round(artifact.bytes / plain[0].bytes, 3),
        "times_as_fast": [round(float(v), 2) for v in (np.median(times), low, high)],
    }


if __name__ == "__main__":
    main()
