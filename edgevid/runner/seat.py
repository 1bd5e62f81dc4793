"""Who serves a bundle: the engine that steps now, and the one that takes over when it fails."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid.runner.engines import Choice, open_engine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.bundle import Bundle
    from edgevid.contract import Tensors
    from edgevid.errors import EngineFailed

CHECK_STEPS, CHECK_S = 64, 0.5
"""A guarded engine answers a canary after so many steps, or so many seconds, since the last one."""
CPU_STEP_S = 30.0
"""A CPU engine that steps for longer than this has hung."""


@dataclass(frozen=True)
class Patience:
    """How long to wait before a failed accelerator is tried again, and how often."""

    first_s: float = 5.0
    longest_s: float = 300.0
    flaps: int = 3
    within_s: float = 600.0
    proof_s: float = 60.0


class Seat:
    """The engine that serves one bundle, and its successor.

    One thread, the server's, calls `step`, `lost`, `check` and `close`; any may call `status`.
    """

    def __init__(
        self,
        bundle: Bundle,
        wanted: list[Choice],
        *,
        threads: int | None = None,
        say: Callable[[str], None],
        patience: Patience = Patience(),  # noqa: B008 - frozen
        wait: bool = True,
    ) -> None:
        self._engine, self.choice = open_engine(bundle, wanted, threads=threads, say=say)
        self.due_s = math.inf

    @property
    def precision(self) -> str:
        """The arithmetic that runs now."""
        return self._engine.precision

    @property
    def guarded(self) -> bool:
        """Whether an accelerator serves, so that its steps may yet turn out wrong."""
        return False

    @property
    def degraded(self) -> bool:
        """Whether a wanted accelerator that this machine has does not serve."""
        return False

    def step(self, frame: NDArray[np.uint8], state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`. Raises `EngineFailed`."""
        self.due_s = time.monotonic() + CPU_STEP_S
        try:
            return self._engine.step(frame, state)
        finally:
            self.due_s = math.inf

    def lost(self, error: EngineFailed) -> None:
        """Move to the CPU, because a step raised ``error``; raises it where nothing is left."""
        raise error

    def check(self, *, idle: bool = False) -> bool | None:
        """Ask a guarded engine for a canary, when it is due; see the module's text."""
        return None

    def status(self) -> dict[str, Any]:
        """Who serves, who could, and why others do not; plain data for JSON."""
        serving = {
            "artifact": self.choice.artifact,
            "runtime": self.choice.runtime,
            "accelerator": self.choice.accelerator,
        }
        return {
            "serving": {**serving, "precision": self.precision},
            "degraded": self.degraded,
            "reason": None,
            "alarm": None,
            "places": [{**serving, "state": "serving", "reason": None, "failures": 0}],
            "failovers": 0,
        }

    def close(self) -> None:
        """Let go of every engine."""
        self._engine.close()
