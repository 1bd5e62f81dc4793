"""The engines of one model: the one that steps now, and those that replace it when it fails.

A preferred accelerator runs in a process of its own. A proven CPU engine stays loaded next to it,
which makes the change instant. An accelerator can also start to compute wrong results, so it
repeats a canary step at intervals: what it stepped since the last correct canary is unconfirmed
until the next one. The state of a stream is kept by the caller, so nothing is lost in a change.
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
"""A CPU engine that steps for longer hangs; by how much a worker may exceed its deadline."""

BACKOFF = BackoffPolicy()


class EngineFailover:
    """The engine that serves one model now.

    One thread, the scheduler's, calls `step`, `lost` and `check`; any thread may call `status`.
    """

    def __init__(
        self,
        bundle: Bundle,
        wanted: list[Choice],
        *,
        threads: int | None = None,
        report: Callable[[str], None],
        backoff: BackoffPolicy = BACKOFF,
        wait: bool = True,
    ) -> None:
        """Open and prove the engines.

        Args:
            bundle: The model's bundle.
            wanted: The engines, preferred ones first. Accelerators after the first CPU engine are
                not used.
            threads: Threads of a CPU engine.
            report: Gets one line for each change.
            backoff: When a failed accelerator is tried again.
            wait: Prove an accelerator before returning. If false, the CPU serves meanwhile, and
                `check` changes over to the accelerator once it is proven.

        Raises:
            EngineFailed: No engine works.
            CheckFailed: No engine passes its proof.
            MissingExtra: The library of the only runtime is not installed.
        """
        count = next((n for n, one in enumerate(wanted) if one.accelerator == CPU), len(wanted))
        self.bundle, self._threads, self._report = bundle, threads, report
        self._spares = wanted[count:]
        if count:
            self._spares = spares(bundle, targets.load("local"), wanted[0])
        self._cpu: Engine | None = None
        self._cpu_choice: Choice | None = None
        self._serving: Candidate | None = None
        self._unconfirmed, self._checked_s = 0, 0.0
        self._failovers = 0
        self.due_s = math.inf
        """`time.monotonic` at which the current step will have ended or timed out."""
        missing = self._open_spare(unless=count > 0)
        self._supervisor = AcceleratorSupervisor(
            bundle, wanted[:count], backoff, threads=threads, report=self._report_failure
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
        """Load the next CPU engine; with ``unless`` the error is returned instead of raised."""
        try:
            self._cpu, self._cpu_choice = open_engine(
                self.bundle, self._spares, threads=self._threads, report=self._report
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
        """The artifact, runtime and accelerator that serve now."""
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
        """Whether an accelerator serves, whose steps may turn out wrong later."""
        return self._serving is not None

    @property
    def degraded(self) -> bool:
        """Whether the CPU serves in place of an accelerator."""
        return bool(self._supervisor.places) and self._serving is None

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`.

        Raises:
            EngineFailed: The engine failed, or an output or a state has a value that is not finite.
        """
        serving = self._serving
        if serving is None:
            self.due_s = time.monotonic() + CPU_STEP_S
            try:
                return self.engine.step(inputs, state)
            finally:
                self.due_s = math.inf
        self.due_s = time.monotonic() + serving.engine.deadline_s + GRACE_S
        try:
            outputs, following = serving.engine.step(inputs, state)
        finally:
            self.due_s = math.inf
        self._unconfirmed += 1
        if not _are_finite(outputs) or not _are_finite(following):
            raise EngineFailed(f"{self.choice} computed values that are not numbers")
        return outputs, following

    def lost(self, error: EngineFailed) -> None:
        """Change to the next engine, because a step raised ``error``.

        Raises:
            EngineFailed: That error, if no engine is left.
        """
        if self._serving is not None:
            self._fall_back(error)
            return
        failed = self._cpu
        if failed is None or not self._spares or self._open_spare(unless=True):
            raise error
        failed.close()
        self._failovers += 1
        self._report(f"{error}; {self._cpu_choice} serves")

    def _fall_back(self, error: EngineFailed) -> None:
        """Change from the accelerator to the CPU."""
        serving, self._serving = self._serving, None
        assert serving is not None
        self._supervisor.retire(serving.engine)
        then = self._supervisor.failed(str(error))
        self._unconfirmed = 0
        self._failovers += 1
        if self._cpu is None:
            raise error
        self._report_failure(str(error), then)

    def _report_failure(self, failed: str, then: str) -> None:
        """Report what failed, what serves now, and what happens next."""
        serves = f"{self._cpu_choice} serves" if self._cpu else "no other engine can serve"
        self._report("; ".join((failed, *([serves] if self._serving is None else []), then)))

    def check(self, *, idle: bool = False) -> bool | None:
        """Check past steps if a check is due, and change to an accelerator that was proven.

        Call it between two steps.

        Args:
            idle: There is no frame to step, so a check costs nothing.

        Returns:
            None: no check was due. True: all steps so far are confirmed. False: the accelerator
            failed its canary; the CPU serves now, and the steps since the last True must be
            rerun.
        """
        confirmed = None
        if self._serving is not None and self._unconfirmed:
            waited_s = time.monotonic() - self._checked_s
            wanted = idle or self._supervisor.is_waiting
            if wanted or self._unconfirmed >= CHECK_STEPS or waited_s >= CHECK_S:
                confirmed = self._run_canary(self._serving)
        if confirmed is not False and self._supervisor.is_waiting:
            self._take()
        return confirmed

    def _run_canary(self, serving: Candidate) -> bool:
        self.due_s = time.monotonic() + serving.engine.deadline_s + GRACE_S
        try:
            wrong = serving.canaries.check(serving.engine)
        except EngineFailed as error:
            self._fall_back(error)
            return False
        finally:
            self.due_s = math.inf
        if wrong is not None:
            self._fall_back(
                EngineFailed(f"{self.choice} no longer reproduces its own outputs: {wrong}")
            )
            return False
        self._unconfirmed, self._checked_s = 0, time.monotonic()
        return True

    def _take(self) -> None:
        """Change to the accelerator that was proven, if there is one."""
        before, candidate = self._serving, self._supervisor.take()
        if candidate is None:
            return
        self._serving = candidate
        self._unconfirmed, self._checked_s = 0, time.monotonic()
        if before is not None:
            self._supervisor.retire(before.engine)
        self._report(f"{self.choice} serves")

    def status(self) -> dict[str, Any]:
        """The engine that serves, the others, and why they do not; plain data for JSON."""
        places = self._supervisor.status()
        failed = [place for place in places if place["reason"]]
        given_up = [place for place in places if place["state"] == "given up"]
        serving = vars(self.choice)
        if self._cpu_choice is not None:
            state = "standby" if self._serving else "serving"
            places.append({**vars(self._cpu_choice), "state": state, "reason": None, "failures": 0})
        return {
            "serving": {**serving, "precision": self.precision},
            "degraded": self.degraded,
            "reason": failed[0]["reason"] if self.degraded and failed else None,
            "alarm": _alarm(given_up[0]) if given_up else None,
            "places": places,
            "failovers": self._failovers,
        }

    def close(self) -> None:
        """End every process and release every engine."""
        if self._serving is not None:
            self._supervisor.retire(self._serving.engine)
        if self._supervisor.is_alive():
            self._supervisor.close()
        if self._cpu is not None:
            self._cpu.close()


def _alarm(place: dict[str, Any]) -> str:
    name = f"{place['artifact']} in {place['runtime']} on {place['accelerator']}"
    return f"{name} failed {place['failures']} times and is not retried: {place['reason']}"


def _are_finite(tensors: Tensors) -> bool:
    import numpy as np

    return all(bool(np.isfinite(values).all()) for values in tensors.values())
