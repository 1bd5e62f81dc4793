"""The child process of a proof: load an engine, replay, check the pixels, return the verdict."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.errors import EngineFailed
from edgevid.isolation.child_task import child_task, says_out_of_memory
from edgevid.isolation.sandbox import memory_limit_mb
from edgevid.proof.golden import Golden, write_recorded
from edgevid.proof.replay import check_pixels, replay, replay_artifact, source_tolerances
from edgevid.proof.verdict import Verdict


def _prove_here(task: Mapping[str, Any]) -> Verdict:
    """Load the engine, replay the golden trajectories and check the pixels."""
    bundle = Bundle.open(Path(task["bundle"]))
    name, runtime, accelerator = task["artifact"], task["runtime"], task["accelerator"]
    golden = Golden.read(bundle, name)
    try:
        engine = runtimes.get(runtime).load(
            bundle.files(name), bundle.contract, accelerator=accelerator
        )
        if task["record"]:
            described = bundle.artifact(name)
            result, recorded = replay(
                engine,
                golden,
                bundle.contract,
                tolerances=source_tolerances(described.quantize),
                wider=described.tensor_tolerance,
            )
        else:
            result, recorded = replay_artifact(engine, golden, bundle, name)
        engine.close()
    except EngineFailed as error:
        return Verdict(name, runtime, accelerator, ok=False, reason=_with_limit(error))
    if task["record"]:
        write_recorded(Path(task["record"]), recorded)
    reason = result.reason or check_pixels(golden, bundle.contract)
    return Verdict(
        name,
        runtime,
        accelerator,
        ok=reason is None,
        precision=result.precision,
        max_abs=result.max_abs if result.max_abs == result.max_abs else None,
        tolerance=result.tolerance,
        agreement=result.agreement,
        reason=reason,
        tensor=result.tensor,
        steps=result.steps,
    )


def _with_limit(error: EngineFailed) -> str:
    """Why an engine failed, with the memory limit if that may be the cause."""
    said, limit_mb = str(error.__cause__ or error), memory_limit_mb()
    if limit_mb is None or (said.strip() and not says_out_of_memory(said.encode())):
        return str(error)
    return f"{error}; it needs more than the {limit_mb} MB of memory that a model of its size gets"


def main() -> int:
    """Prove one engine, as the parent asks; returns the exit code."""
    with child_task() as (task, send):
        send(_prove_here(task).to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
