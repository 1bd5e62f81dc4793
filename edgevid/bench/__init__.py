"""How fast a bundle's artifacts are, end to end, on this machine.

Every artifact is measured in a fresh process of its own, which runs the very pipeline that serves:
what is reported is what a user will feel.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import proof
from edgevid.errors import SurroundingsFailed
from edgevid.progress import Progress, silent
from edgevid.runner.meters import STAGES, percentiles_ms

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.runner.engines import Choice

TIMEOUT_S = 600.0
SAMPLES = 700  # a p99 says nothing below 662 samples (MLPerf's early-stopping rule)
WARM_UP = 50


def bench(
    bundle: Bundle,
    wanted: list[Choice],
    source: Path,
    *,
    samples: int = SAMPLES,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure each of ``wanted`` on the video ``source``, every frame of it.

    Raises `GateRefused` for an engine that does not pass its proof, and `SurroundingsFailed` where
    a measuring process fails, with its last line.
    """
    results = []
    for done, choice in enumerate(wanted):
        progress("bench", done, len(wanted), str(choice))
        # Proven beforehand, as it is from a device's second start on: the first answer is timed.
        proof.require(bundle, choice.artifact, choice.runtime, choice.accelerator)
        results.append(_measure(bundle.path, choice, source, samples))
    progress("bench", len(wanted), len(wanted))
    return {"bundle": str(bundle.path), "source": str(source), "results": results}


def _measure(bundle: Path, choice: Choice, source: Path, samples: int) -> dict[str, Any]:
    job = {**asdict(choice), "bundle": str(bundle), "source": str(source), "samples": samples}
    command = [sys.executable, "-m", "edgevid.bench.child"]
    try:
        done = subprocess.run(
            command, input=json.dumps(job), capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise SurroundingsFailed(
            f"measuring {choice} took over {TIMEOUT_S:.0f} s; give a shorter --source"
        ) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SurroundingsFailed(f"measuring {choice} failed: {last}")
    return {**asdict(choice), **_statistics(json.loads(done.stdout))}


def _statistics(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a child's raw seconds into what is reported; the warm-up is left out of it."""
    latencies = raw["latency_s"][WARM_UP:]
    stages = {name: raw["stages_s"][name][WARM_UP:] for name in STAGES}
    return {
        "precision": raw["precision"],
        "fps": round(raw["frames"] / raw["elapsed_s"], 2),
        "latency_ms": percentiles_ms(latencies),
        "step_ms": percentiles_ms(stages["step"]),
        "stages_ms": {name: _mean_ms(seconds) for name, seconds in stages.items()},
        "peak_rss_mb": raw["peak_rss_mb"],
        "first_answer_s": raw["first_answer_s"],
        "samples": len(latencies),
        "warm_up": WARM_UP,
    }


def _mean_ms(seconds: list[float]) -> float:
    return round(1000 * sum(seconds) / max(len(seconds), 1), 4)
