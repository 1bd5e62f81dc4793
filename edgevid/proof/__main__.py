"""What the child process of a proof does: load, replay, check the pixels, give the verdict."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.errors import EngineFailed
from edgevid.isolation.child_task import child_task
from edgevid.proof.golden import Golden, write_taken
from edgevid.proof.replay import check_pixels, replay, replay_artifact, source_tolerances
from edgevid.proof.verdict import Verdict


def _prove_here(task: Mapping[str, Any]) -> Verdict:
    """What the child does: load, replay, check the pixels."""
    bundle = Bundle.open(Path(task["bundle"]))
    name, runtime, accelerator = task["artifact"], task["runtime"], task["accelerator"]
    golden = Golden.read(bundle, name)
    try:
        engine = runtimes.get(runtime).load(
            bundle.files(name), bundle.contract, accelerator=accelerator
        )
        if task["record"]:
            allowed = source_tolerances(bundle.artifact(name).quantize)
            check, taken = replay(engine, golden, bundle.contract, tolerances=allowed)
        else:
            check, taken = replay_artifact(engine, golden, bundle, name)
        engine.close()
    except EngineFailed as error:
        return Verdict(name, runtime, accelerator, ok=False, reason=str(error))
    if task["record"]:
        write_taken(Path(task["record"]), taken)
    reason = check.reason or check_pixels(golden, bundle.contract)
    return Verdict(
        name,
        runtime,
        accelerator,
        ok=reason is None,
        precision=check.precision,
        max_abs=check.max_abs if check.max_abs == check.max_abs else None,
        tolerance=check.tolerance,
        agreement=check.agreement,
        reason=reason,
    )


def _main() -> int:
    with child_task() as (task, answer):
        answer(_prove_here(task).to_json())
    return 0


if __name__ == "__main__":
    sys.exit(_main())
