"""The sandbox of a child process that loads an artifact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevid import runtimes
from edgevid.isolation.sandbox import Sandbox, free_mb
from edgevid.runtimes import CPU

if TYPE_CHECKING:
    from edgevid.bundle import Bundle

BASE_MB, ACCELERATOR_MB = 1024, 1024
"""What Python and the libraries need, with room for a runtime's own copies of a small model; and
what an accelerator's compiler needs in addition."""
TIMES_FILES, PER_VALUE = 16, 4096
"""Added for a model: copies of its weights, and bytes per input value, enough for a thousand
float32 values at full resolution."""
LEAST_MB = 256


def sandbox_for(
    bundle: Bundle,
    artifact: str,
    runtime: str,
    accelerator: str = CPU,
    *,
    write: Sequence[Path] = (),
) -> Sandbox:
    """Return the sandbox of a child that loads an artifact.

    On the CPU it can read the bundle and none of the user's other files. The files and system calls
    that an accelerator's driver needs are not known, so only the resource limits apply there.

    Args:
        bundle: The bundle.
        artifact: Name of the artifact.
        runtime: Name of the runtime.
        accelerator: Name of the accelerator.
        write: Folders that it may write in.
    """
    found = runtimes.get(runtime).spec.accelerator(accelerator)
    imitated = accelerator == CPU or (found is not None and found.stand_in)
    return Sandbox(
        read=(str(bundle.path.resolve()),),
        write=tuple(str(one.resolve()) for one in write),
        memory_mb=memory_mb(bundle, artifact) + (0 if imitated else ACCELERATOR_MB),
        confined=imitated,
    )


def memory_mb(bundle: Bundle, artifact: str) -> int:
    """Return the private memory limit of a child that loads an artifact, in MB.

    It follows from the sizes of the artifact and its inputs, and is never more than is free.
    """
    values = sum(math.prod(one.shape) for one in bundle.contract.inputs)
    explained = BASE_MB + ((TIMES_FILES * bundle.size(artifact) + PER_VALUE * values) >> 20)
    return min(explained, free_mb(LEAST_MB) or explained)
