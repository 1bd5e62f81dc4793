"""Where operators run: on the accelerator, or on the CPU.

The runtime's own profiler reports it in a short separate pass, in a process of its own
(``python -m edgevid.bench.operators``), so that it disturbs no measurement and may crash.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import runtimes
from edgevid.bench.result import OperatorKind, OperatorProfile, UnknownProfile
from edgevid.bundle import Bundle
from edgevid.errors import EdgevidError
from edgevid.isolation.child_task import child_task, run_child
from edgevid.proof import Golden
from edgevid.proof.sandboxes import sandbox_for
from edgevid.runtimes import CPU, Operator

if TYPE_CHECKING:
    from edgevid.bench.job import Job

RUNS = 50
TIMEOUT_S = 60.0
BORDER = ("CAST", "DEQUANTIZE", "QUANTIZE")
"""Conversions to and from the accelerator's types; they do not count as left to the CPU."""


def profile(bundle: Bundle, job: Job) -> OperatorProfile | UnknownProfile:
    """Profile a job's engine in a process of its own."""
    task = {
        "bundle": str(bundle.path.resolve()),
        "artifact": job.artifact,
        "runtime": job.runtime,
        "accelerator": job.accelerator,
        "threads": job.threads,
        "timeout_s": TIMEOUT_S,
    }
    sandbox = sandbox_for(bundle, job.artifact, job.runtime, job.accelerator)
    outcome = run_child("edgevid.bench.operators", task, TIMEOUT_S, sandbox)
    try:
        answer = outcome.result()
    except EdgevidError as error:
        return UnknownProfile(str(error))
    if answer is None:
        return UnknownProfile(f"the profiler {outcome.describe(TIMEOUT_S)}")
    return summary([Operator(**one) for one in answer["operators"]])


def summary(operators: Sequence[Operator]) -> OperatorProfile:
    """Add up a profile by kind and place, the slowest first."""
    counts = Counter((one.kind, one.place) for one in operators)
    spent: dict[tuple[str, str], float | None] = {}
    for one in operators:
        if one.mean_ms is not None:
            key = one.kind, one.place
            spent[key] = (spent.get(key) or 0.0) + one.mean_ms
    ordered = sorted(counts, key=lambda key: -(spent.get(key) or 0.0))
    kinds = tuple(OperatorKind(*key, counts[key], _rounded(spent.get(key))) for key in ordered)
    on_cpu = sum(one.place == CPU for one in operators)
    return OperatorProfile(len(operators) - on_cpu, on_cpu, kinds)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def fallen_back(found: OperatorProfile | UnknownProfile | None, accelerator: str) -> str | None:
    """Why a result is invalid: the operators that an accelerator left to the CPU, if any."""
    if accelerator == CPU or found is None:
        return None
    if isinstance(found, UnknownProfile):
        return f"which operators ran on {accelerator} is not known: {found.unknown}"
    left = [one for one in found.kinds if one.place == CPU and one.kind not in BORDER]
    count = sum(one.count for one in left)
    if not count:
        return None
    names = ", ".join(f"{one.kind} ({one.count})" for one in left[:5])
    more = f" and {len(left) - 5} other kinds" if len(left) > 5 else ""
    total = found.accelerated + found.on_cpu
    return f"{count} of {total} operators ran on the CPU and not on {accelerator}: {names}{more}"


def _profile_here(task: Mapping[str, Any]) -> list[Operator]:
    """Profile in this process."""
    bundle = Bundle.open(Path(task["bundle"]))
    golden = Golden.read(bundle)
    steps = (one.inputs_at(n) for one in golden.trajectories for n in range(len(one)))
    return runtimes.get(task["runtime"]).profile(
        bundle.files(task["artifact"]),
        bundle.contract,
        islice(cycle(steps), RUNS),
        accelerator=task["accelerator"],
        threads=task["threads"],
    )


def _main() -> int:
    with child_task() as (task, answer):
        answer({"operators": [asdict(one) for one in _profile_here(task)]})
    return 0


if __name__ == "__main__":
    sys.exit(_main())
