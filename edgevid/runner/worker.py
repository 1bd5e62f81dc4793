"""An engine in a process of its own, because native libraries abort, hang and leak.

``python -m edgevid.runner.worker`` loads one artifact, replays the golden trajectory on it, reports
that it is ready, or why not, and then takes steps. Requests are one-byte messages; the tensors lie
in shared memory. See `edgevid.isolation.worker` for deadlines and the end of the process.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.errors import CheckFailed, EdgevidError, EngineFailed, shorten
from edgevid.files import text_bytes
from edgevid.isolation.child_task import error_to_json
from edgevid.isolation.worker import WorkerProcess, worker_task
from edgevid.runner.step_memory import StepMemory

if TYPE_CHECKING:
    from edgevid.contract import Inputs, Tensors
    from edgevid.runtimes import Engine

MODULE = "edgevid.runner.worker"
STEP, DONE, FAILED = b"s", b"d", b"!"
READY_S = 60.0
ERROR_CHARACTERS = 2000


def deadline_s(slowest_s: float) -> float:
    """Return how long to wait for a step, in seconds, from the slowest step of the proof.

    Not less than a second: on a busy board a healthy worker may have to wait for the processor.
    """
    return max(1.0, min(1.5, 10 * slowest_s), 3 * slowest_s)


class WorkerEngine:
    """The parent's end: an engine like any other, whose every call ends in time.

    The process starts at once and serves after `prove`. The thread that creates it must live as
    long as it does.

    Args:
        bundle: The bundle that has the artifact.
        artifact: Name of the artifact.
        runtime: Name of the runtime.
        accelerator: Name of the accelerator.
        threads: Number of CPU threads.

    Raises:
        EngineFailed: The process cannot be started.
    """

    def __init__(
        self,
        bundle: Bundle,
        artifact: str,
        runtime: str,
        accelerator: str = "cpu",
        *,
        threads: int | None = None,
    ) -> None:
        self.runtime, self.accelerator, self.precision = runtime, accelerator, ""
        self._name = f"{artifact} in {runtime} on {accelerator}"
        try:
            self._memory = StepMemory(bundle.contract)
        except OSError as error:
            raise EngineFailed(f"{self._name} cannot be started: {error.strerror}") from error
        task = {
            "bundle": str(bundle.path.resolve()),
            "key": bundle.key,
            "artifact": artifact,
            "runtime": runtime,
            "accelerator": accelerator,
            "threads": threads,
            "memory": self._memory.fd,
        }
        try:
            from edgevid.proof.sandboxes import sandbox_for

            sandbox = sandbox_for(bundle, artifact, runtime, accelerator)
            self.process = WorkerProcess(MODULE, self._name, task, sandbox, [self._memory.fd])
        except BaseException:
            self._memory.close()
            raise
        self._memory.close_descriptor()
        self.process.deadline_s = READY_S

    @property
    def pid(self) -> int:
        """Id of the process, which leads a process group."""
        return self.process.pid

    @property
    def deadline_s(self) -> float:
        """How long a step may take, in seconds."""
        return self.process.deadline_s

    def prove(self, timeout_s: float = READY_S) -> None:
        """Wait until the child has loaded the artifact and replayed the golden trajectory on it.

        Args:
            timeout_s: How long to wait, in seconds.

        Raises:
            CheckFailed: The engine's outputs were wrong.
            EngineFailed: The child crashed, hung or could not load the artifact.
        """
        report = json.loads(self.process.ready(timeout_s))
        if "error" in report:
            self.kill()
            kind = CheckFailed if report["error"] == CheckFailed.__name__ else EngineFailed
            raise kind(f"{self._name}: {report['message']}")
        self.precision = str(report["precision"])
        self.process.set_deadline(deadline_s(float(report["slowest_s"])))

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`.

        After an `EngineFailed` that the engine itself did not raise, the child is gone.
        """
        try:
            self._memory.write_inputs(inputs, state)
        except (KeyError, ValueError) as error:  # not the contract's tensors; nothing was sent
            reason = f"no array for {error}" if isinstance(error, KeyError) else str(error)
            raise EngineFailed(f"{self._name}: {reason}") from None
        response = self.process.request(STEP)
        if response != DONE:
            raise EngineFailed(f"{self._name}: {response[1:].decode(errors='replace')}")
        return self._memory.read_outputs()

    def kill(self) -> None:
        """Kill the process group, from any thread; `close` waits for its end."""
        self.process.kill()

    def close(self) -> None:
        """Kill the process, wait for its end and free everything; may be called twice."""
        self.process.close()
        self._memory.close()


# --- the child ------------------------------------------------------------------------------------


class _TimedEngine:
    """An engine that records how long its steps take."""

    def __init__(self, inner: Engine) -> None:
        self.runtime, self.accelerator = inner.runtime, inner.accelerator
        self.precision = inner.precision
        self.seconds: list[float] = []
        self._inner = inner
        self.close = inner.close

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take the inner engine's step."""
        began = time.perf_counter()
        try:
            return self._inner.step(inputs, state)
        finally:
            self.seconds.append(time.perf_counter() - began)


def _open(task: dict[str, Any]) -> Bundle:
    bundle = Bundle.open(Path(task["bundle"]))
    if bundle.key != task["key"]:
        raise EngineFailed(f"{bundle.path} is another bundle now; start again")
    return bundle


def _load(task: dict[str, Any], bundle: Bundle) -> tuple[Engine, dict[str, Any]]:
    """Load and prove the engine; return it and what the parent learns about it."""
    from edgevid.proof import Golden, replay_artifact

    name = task["artifact"]
    engine = runtimes.get(task["runtime"]).load(
        bundle.files(name),
        bundle.contract,
        accelerator=task["accelerator"],
        threads=task["threads"],
    )
    timed = _TimedEngine(engine)
    check, _ = replay_artifact(timed, Golden.read(bundle, name), bundle, name)
    if not check.ok:
        raise CheckFailed(str(check.reason))
    warm = timed.seconds[1:] or timed.seconds  # the first step may compile something
    return engine, {"precision": check.precision, "slowest_s": max(warm)}


def _serve(engine: Engine, memory: StepMemory, parent: socket.socket) -> None:
    """Take steps until the parent is gone."""
    while parent.recv(1):
        try:
            memory.write_outputs(*engine.step(memory.inputs, memory.state))
        except EdgevidError as error:
            parent.send(FAILED + text_bytes(shorten(str(error), ERROR_CHARACTERS)))
        else:
            parent.send(DONE)


def main(descriptor: int) -> None:
    """Run the child whose end of the socket pair is ``descriptor``."""
    with worker_task(descriptor) as (parent, task):
        if task is None:
            return
        try:
            bundle = _open(task)
            memory = StepMemory(bundle.contract, task["memory"])
            engine, report = _load(task, bundle)
        except EdgevidError as error:
            failure = error_to_json(error)
            failure["message"] = shorten(failure["message"], ERROR_CHARACTERS)
            parent.send(json.dumps(failure).encode())
            return
        parent.send(json.dumps(report).encode())
        _serve(engine, memory, parent)


if __name__ == "__main__":
    main(int(sys.argv[1]))
