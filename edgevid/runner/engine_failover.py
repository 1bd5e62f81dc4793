"""Who serves a bundle: the engine that steps now, and the one that takes over when it fails.

A wanted accelerator serves from a process of its own; beside it a proven CPU engine stays loaded,
which is what makes the change instant. An accelerator can also begin to lie, so it is asked a
canary now and then: what it stepped since the last right answer counts as unconfirmed until the
next one. The memory of a stream lies with the caller, so nothing is lost in a change.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgevid import targets
from edgevid.errors import EdgevidError, EngineFailed
from edgevid.runner.accelerator_supervisor import AcceleratorSupervisor, BackoffPolicy, Candidate
from edgevid.runner.engines import Choice, open_engine, spares
from edgevid.runtimes import CPU

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.contract import Inputs, Tensors
    from edgevid.runtimes import Engine

__all__ = ["CHECK_S", "CHECK_STEPS", "BackoffPolicy", "EngineFailover"]

CHECK_STEPS, CHECK_S = 64, 0.5
"""A canary is due after so many unconfirmed steps, or so many seconds after the last one."""
CPU_STEP_S, GRACE_S = 30.0, 1.0
"""A CPU engine that steps for longer has hung; what a worker's deadline may be exceeded by."""


PATIENT = BackoffPolicy()


class EngineFailover:
    """The engine that serves one bundle now.

    One thread, the server's, calls `step`, `lost` and `check`; any thread may call `status`.
    """

    def __init__(
        self,
        bundle: Bundle,
        wanted: list[Choice],
        *,
        threads: int | None = None,
        say: Callable[[str], None],
        backoff: BackoffPolicy = PATIENT,
        wait: bool = True,
    ) -> None:
        """Open and prove the engines for ``wanted``, the preferred one first.

        Accelerators count up to the first CPU engine in ``wanted``. With ``wait`` they are proven
        before this returns; without it the CPU serves meanwhile, and `check` takes what was proven.
        Raises what `edgevid.runner.engines.open_engine` raises where nothing serves.
        """
        count = next((n for n, one in enumerate(wanted) if one.accelerator == CPU), len(wanted))
        self.bundle, self._threads, self._say = bundle, threads, say
        self._spares = wanted[count:]
        if count:
            self._spares = spares(bundle, targets.load("local"), wanted[0])
        self._cpu: Engine | None = None
        self._cpu_choice: Choice | None = None
        self._serving: Candidate | None = None
        self._unconfirmed, self._checked_s = 0, 0.0
        self._failovers = 0
        self.due_s = math.inf
        """`time.monotonic` at which the step that is under way will be over, one way or another."""
        missing = self._open_spare(unless=count > 0)
        self._supervisor = AcceleratorSupervisor(
            bundle, wanted[:count], backoff, threads=threads, say=self._told
        )
        if not count:
            return
        self._supervisor.start()
        if wait or missing:
            self._supervisor.wait_for_first()
            self._take()
        if missing and self._serving is None:
            self.close()
            raise missing

    def _open_spare(self, *, unless: bool) -> EdgevidError | None:
        """Load the next CPU engine; gives the error instead of raising it, with ``unless``."""
        try:
            self._cpu, self._cpu_choice = open_engine(
                self.bundle, self._spares, threads=self._threads, say=self._say
            )
        except EdgevidError as error:
            if not unless:
                raise
            return error
        self._spares = self._spares[self._spares.index(self._cpu_choice) + 1 :]
        return None

    @property
    def engine(self) -> Engine:
        """The engine that serves now."""
        serving = self._serving
        engine = serving.engine if serving else self._cpu
        assert engine is not None
        return engine

    @property
    def choice(self) -> Choice:
        """Who serves now."""
        serving = self._serving
        choice = self._supervisor.places[serving.rank].choice if serving else self._cpu_choice
        assert choice is not None
        return choice

    @property
    def precision(self) -> str:
        """The arithmetic that runs now."""
        return self.engine.precision

    @property
    def guarded(self) -> bool:
        """Whether an accelerator serves, so that its steps may yet turn out wrong."""
        return self._serving is not None

    @property
    def degraded(self) -> bool:
        """Whether an accelerator is wanted and the CPU serves."""
        return bool(self._supervisor.places) and self._serving is None

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`. Raises `EngineFailed`."""
        serving = self._serving
        if serving is None:
            self.due_s = time.monotonic() + CPU_STEP_S
            try:
                return self.engine.step(inputs, state)
            finally:
                self.due_s = math.inf
        self.due_s = time.monotonic() + serving.engine.deadline_s + GRACE_S
        try:
            answer, following = serving.engine.step(inputs, state)
        finally:
            self.due_s = math.inf
        self._unconfirmed += 1
        if not _are_numbers(answer) or not _are_numbers(following):
            raise EngineFailed(f"{self.choice} answered with values that are not numbers")
        return answer, following

    def lost(self, error: EngineFailed) -> None:
        """Move to the CPU, because a step raised ``error``; raises it where nothing is left."""
        if self._serving is not None:
            self._fall(error)
            return
        failed = self._cpu
        if failed is None or not self._spares or self._open_spare(unless=True):
            raise error
        failed.close()
        self._failovers += 1
        self._say(f"{error}; {self._cpu_choice} serves")

    def _fall(self, error: EngineFailed) -> None:
        """Let the CPU serve in the accelerator's place."""
        serving, self._serving = self._serving, None
        assert serving is not None
        self._supervisor.bury(serving.engine)
        then = self._supervisor.failed(str(error))
        self._unconfirmed = 0
        self._failovers += 1
        if self._cpu is None:
            raise error
        self._told(str(error), then)

    def _told(self, failed: str, then: str) -> None:
        """Say what failed, who serves, and what happens next."""
        serves = f"{self._cpu_choice} serves" if self._cpu else "nothing else serves"
        self._say("; ".join((failed, *([serves] if self._serving is None else []), then)))

    def check(self, *, idle: bool = False) -> bool | None:
        """Between two steps: confirm what was stepped, and take a proven accelerator.

        None: nothing was due. True: every step so far is confirmed. False: the engine answered a
        canary wrongly, or died of it; the CPU serves now, and what was stepped since the last True
        must be stepped again. ``idle`` says that there is nothing else to do.
        """
        confirmed = None
        if self._serving is not None and self._unconfirmed:
            waited_s = time.monotonic() - self._checked_s
            wanted = idle or self._supervisor.is_waiting
            if wanted or self._unconfirmed >= CHECK_STEPS or waited_s >= CHECK_S:
                confirmed = self._ask(self._serving)
        if confirmed is not False and self._supervisor.is_waiting:
            self._take()
        return confirmed

    def _ask(self, serving: Candidate) -> bool:
        self.due_s = time.monotonic() + serving.engine.deadline_s + GRACE_S
        try:
            wrong = serving.canaries.check(serving.engine)
        except EngineFailed as error:
            self._fall(error)
            return False
        finally:
            self.due_s = math.inf
        if wrong is not None:
            self._fall(EngineFailed(f"{self.choice} answers otherwise than it did: {wrong}"))
            return False
        self._unconfirmed, self._checked_s = 0, time.monotonic()
        return True

    def _take(self) -> None:
        """Let the proven accelerator serve that waits, if one does."""
        before, candidate = self._serving, self._supervisor.take()
        if candidate is None:
            return
        self._serving = candidate
        self._unconfirmed, self._checked_s = 0, time.monotonic()
        if before is not None:
            self._supervisor.bury(before.engine)
        self._say(f"{self.choice} serves")

    def status(self) -> dict[str, Any]:
        """Who serves, who could, and why others do not; plain data for JSON."""
        places = self._supervisor.status()
        troubled = [place for place in places if place["reason"]]
        given_up = [place for place in places if place["state"] == "given up"]
        serving = vars(self.choice)
        if self._cpu_choice is not None:
            state = "standby" if self._serving else "serving"
            places.append({**vars(self._cpu_choice), "state": state, "reason": None, "failures": 0})
        return {
            "serving": {**serving, "precision": self.precision},
            "degraded": self.degraded,
            "reason": troubled[0]["reason"] if self.degraded and troubled else None,
            "alarm": _alarm(given_up[0]) if given_up else None,
            "places": places,
            "failovers": self._failovers,
        }

    def close(self) -> None:
        """End every process, and let go of every engine."""
        if self._serving is not None:
            self._supervisor.bury(self._serving.engine)
        if self._supervisor.is_alive():
            self._supervisor.close()
        if self._cpu is not None:
            self._cpu.close()


def _alarm(place: dict[str, Any]) -> str:
    name = f"{place['artifact']} in {place['runtime']} on {place['accelerator']}"
    return f"{name} is given up after {place['failures']} failures: {place['reason']}"


def _are_numbers(tensors: Tensors) -> bool:
    import numpy as np

    return all(bool(np.isfinite(values).all()) for values in tensors.values())
