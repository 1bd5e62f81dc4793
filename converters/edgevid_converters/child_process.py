"""Runs the tasks of a conversion in child processes, within limits of time and memory.

Converters abort, hang and leave threads behind, so each task of
`edgevid_converters.child_tasks` gets a process of its own. Those that need TensorFlow are forked
from a server that has imported it, see `edgevid_converters.fork_server`; the others start afresh.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgevid import registry
from edgevid.errors import BadInput, ConverterFailed
from edgevid.isolation.child_task import ChildOutcome, run_child
from edgevid.isolation.sandbox import Sandbox, free_mb
from edgevid_converters import logs
from edgevid_converters.fork_server import ForkServer, ServerLost

ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONHASHSEED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # oneDNN's order of summation depends on the machine, and so would calibrated int8 files.
    "TF_ENABLE_ONEDNN_OPTS": "0",
}
PRELOADED = ("tensorflow", "keras")
"""What the server of a conversion imports."""
DOING = "doing "
"""Prefix of the line on which a child announces its next step, in case the step kills it."""
MEASURING = "measuring its layers"
LOWERING = "lowering to "
"""Prefix of such a step: the form follows."""
LEAST_MB = 1024


class ChildFailed(ConverterFailed):
    """A child process failed.

    Attributes:
        at: The step it had announced last, if any.
        failure: What happened, a phrase without a remedy that ends with the path of the log.
    """

    def __init__(self, message: str, at: str = "", failure: str = "") -> None:
        super().__init__(message)
        self.at, self.failure = at, failure or message


@dataclass(frozen=True)
class Limits:
    """Limits of one child process.

    Attributes:
        time_s: Wall-clock time in seconds.
        memory_mb: Private memory in MB; None: most of the free memory.
    """

    time_s: float = 1200.0
    memory_mb: int | None = None

    def check(self) -> None:
        """Check the values.

        Raises:
            BadInput: A limit is not positive, or too small for any converter.
        """
        if not self.time_s > 0:
            raise BadInput(f"--time-limit {self.time_s:g} is too short; use seconds above 0")
        if self.memory_mb is not None and self.memory_mb < LEAST_MB:
            raise BadInput(
                f"--memory-limit {self.memory_mb} is too small for any converter; "
                f"use {LEAST_MB} or more"
            )


DEFAULT_LIMITS = Limits()
_limits: ContextVar[Limits] = ContextVar("limits", default=DEFAULT_LIMITS)


class _Servers:
    """The fork server of a conversion, started for the first task that needs it."""

    def __init__(self) -> None:
        self._server: ForkServer | None = None
        self._lost = not sys.platform.startswith("linux")

    def start(self) -> ForkServer | None:
        """Return the server, still importing if it is new; None where there can be none."""
        if self._server is None and not self._lost:
            self._server = ForkServer(PRELOADED, ENVIRONMENT)
        return self._server

    def run(
        self, task: Mapping[str, Any], timeout_s: float, sandbox: Sandbox
    ) -> ChildOutcome | None:
        """Run a task in a child of the server; None where it needs a process of its own."""
        server = self.start()
        if server is None:
            return None
        try:
            return server.run(task, timeout_s, sandbox)
        except ServerLost:
            self._lost = True
            self.close()
            return None

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.close()
            self._server = None


_servers: ContextVar[_Servers | None] = ContextVar("servers", default=None)


@contextmanager
def served() -> Iterator[None]:
    """Fork the children of this context that need TensorFlow from one server."""
    servers = _Servers()
    token = _servers.set(servers)
    try:
        yield
    finally:
        _servers.reset(token)
        servers.close()


def preload(task: Mapping[str, Any]) -> None:
    """Begin to import what a later task will need, beside whatever comes before it."""
    servers = _servers.get()
    if servers is not None and needs_tensorflow(task):
        servers.start()


def needs_tensorflow(task: Mapping[str, Any]) -> bool:
    """Whether a task of `child_tasks` loads TensorFlow."""
    if "format" in task:
        return PRELOADED[0] in registry.row("converter", task["format"]).needs
    if "saved_model" in task.get("forms", ()) or task.get("kind") == "run":
        return True
    return PRELOADED[0] in registry.row("importer", task["kind"]).needs


def _run(task: Mapping[str, Any], timeout_s: float, sandbox: Sandbox) -> ChildOutcome:
    servers = _servers.get()
    if servers is not None and needs_tensorflow(task):
        outcome = servers.run(task, timeout_s, sandbox)
        if outcome is not None:
            return outcome
    return run_child("edgevid_converters.child_tasks", task, timeout_s, sandbox, ENVIRONMENT)


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Apply ``limits`` to every child process that is started within this context."""
    limits.check()
    token = _limits.set(limits)
    try:
        yield
    finally:
        _limits.reset(token)


def ask(
    what: str,
    task: Mapping[str, Any],
    *,
    read: Sequence[Path | str],
    write: Path | None = None,
    starts: bool = False,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """Run a task in a child process, in a sandbox.

    Args:
        what: Names the task in errors and in the log's file name.
        task: Plain data; ``do`` names one of `child_tasks.TASKS`.
        read: Files and whole folders that it may read.
        write: The folder that it may write to. Default: a temporary one.
        starts: Whether it runs tasks in children of its own.
        timeout_s: Time limit in seconds. Default: that of `limited`.

    Returns:
        The child's answer.

    Raises:
        ChildFailed: The child crashed, hung, ran out of memory or gave no readable answer; the
            message has the cause, a remedy and the path of the log.
        EdgevidError: The child raised it on purpose.
    """
    limits = _limits.get()
    timeout_s = limits.time_s if timeout_s is None else timeout_s
    memory_mb = limits.memory_mb or free_mb(LEAST_MB)
    task = {**task, "timeout_s": timeout_s, "logs": str(logs.folder())}
    with ExitStack() as stack:
        if write is None:
            write = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgevid-task-")))
        sandbox = Sandbox(
            tuple(str(Path(path).resolve()) for path in read),
            (str(write.resolve()),),
            programs=(sys.executable,) if starts else (),
            memory_mb=memory_mb,
        )
        outcome = _run(task, timeout_s, sandbox)
        logs.collect(Path(sandbox.scratch))
    answer = outcome.result()
    if answer is not None:
        return answer
    log = logs.write(f"{what.replace(' ', '-')}.log", outcome.stderr)
    lines = outcome.stderr.decode(errors="replace").splitlines()
    doing = [line.removeprefix(DOING) for line in lines if line.startswith(DOING)]
    rest = replace(outcome, stderr=_without(lines, DOING))
    last = doing[-1] if doing else ""
    at = f" at {last}" if last else ""
    failure, remedy = failure_cause(rest, timeout_s, memory_mb)
    where = f"its log is {log}"
    message = "; ".join(part for part in (f"{what}{at} {failure}", remedy, where) if part)
    raise ChildFailed(message, last, f"{failure}; {where}")


def failure_cause(
    outcome: ChildOutcome, timeout_s: float, memory_mb: int | None
) -> tuple[str, str]:
    """Describe how a child failed, and the remedy, which is empty if there is none."""
    failure = outcome.describe(timeout_s)
    code = outcome.returncode
    if code is None:
        return failure, "raise --time-limit, or convert a smaller model"
    if code == -signal.SIGKILL:
        return f"{failure}: most likely this machine ran out of memory", MEMORY_REMEDY
    if outcome.out_of_memory:
        return f"needs more than the {memory_mb} MB of its memory limit", MEMORY_REMEDY
    return failure, CRASH_REMEDY if code < 0 else ""


MEMORY_REMEDY = "raise --memory-limit, free some memory, or convert a smaller model"
CRASH_REMEDY = (
    "leave this format or quantisation out, or build the model's recurrent layers with unroll=True "
    "(TensorFlow's quantiser crashes on loops)"
)


def _without(lines: Sequence[str], beginning: str) -> bytes:
    return "\n".join(line for line in lines if not line.startswith(beginning)).encode()
