"""One task in a child process that may crash, hang or print nonsense."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from edgevid import errors
from edgevid.content import parse_nested
from edgevid.errors import EdgevidError, shorten
from edgevid.files import canonical_json
from edgevid.isolation.process import (
    die_with_parent,
    environment,
    kill_group,
    python_module,
    signal_name,
)

if TYPE_CHECKING:
    from edgevid.isolation.sandbox import Sandbox

OUT_OF_MEMORY = (b"MemoryError", b"bad_alloc", b"Cannot allocate memory", b"Unable to allocate")
"""What libraries print when an allocation fails."""
NOISE = re.compile(r"INFO:|WARNING:|warnings\.warn\(|\S+:\d+: \w*Warning:")
"""Beginnings of log lines that do not explain a failure."""
ALARM_GRACE_S = 5
MOST_BYTES = 16 << 20
"""How much of a child's output is kept; a child may write without end."""
DRAIN_S = 10.0
"""Time limit, in seconds, for reading what a child left in a pipe when it ended."""


@dataclass(frozen=True)
class ChildOutcome:
    """How a child process ended.

    Attributes:
        returncode: Its exit code, negative for a signal; None if it was killed at its time limit.
        stdout: What it wrote to standard output.
        stderr: What it wrote to standard error.
    """

    returncode: int | None
    stdout: bytes
    stderr: bytes

    @property
    def out_of_memory(self) -> bool:
        """Whether its stderr says that an allocation failed."""
        return says_out_of_memory(self.stderr)

    def describe(self, timeout_s: float) -> str:
        """Describe the failure as a phrase, with the last line of standard error."""
        last = last_line(self.stderr)
        if self.returncode is None:
            return f"did not respond within {timeout_s:g} s{last}"
        if self.returncode < 0:
            return f"crashed with {signal_name(-self.returncode)}{last}"
        if self.returncode > 0:
            return f"failed with exit code {self.returncode}{last}"
        return f"ended without a readable reply{last}"

    def result(self) -> dict[str, Any] | None:
        """Return the child's result; None if it crashed, hung or wrote something else.

        Raises:
            EdgevidError: The child raised it on purpose.
        """
        if self.returncode != 0:
            return None
        try:
            result = parse_nested(self.stdout)
        except ValueError:
            return None
        if not isinstance(result, dict):
            return None
        if set(result) == {"error", "message"}:
            raise error_from_json(result)
        return result


def says_out_of_memory(text: bytes) -> bool:
    """Whether a library's output says that an allocation failed."""
    return any(one in text for one in OUT_OF_MEMORY)


def last_line(stderr: bytes) -> str:
    """Return the last line above information and warnings in parentheses, or nothing.

    A long one is shortened in the middle.
    """
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines()]
    useful = (line for line in reversed(lines) if line and not NOISE.match(line))
    return next((f" ({shorten(line)})" for line in useful), "")


def error_to_json(error: EdgevidError) -> dict[str, str]:
    """Return an error as the plain data from which `ChildOutcome.result` raises it again.

    Of a class that another package defines the nearest one of `edgevid.errors` is named.
    """
    kinds = (kind.__name__ for kind in type(error).__mro__ if _error_class(kind.__name__) is kind)
    return {"error": next(kinds), "message": str(error)}


def error_from_json(data: Mapping[str, Any]) -> EdgevidError:
    """Return the error that `error_to_json` described."""
    return _error_class(str(data["error"]))(data["message"])


def _error_class(name: str) -> type[EdgevidError]:
    """The error class of this name; `EdgevidError` if there is none."""
    kind = getattr(errors, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, EdgevidError) else EdgevidError


def run_child(
    module: str,
    task: Mapping[str, Any],
    timeout_s: float,
    sandbox: Sandbox,
    env: Mapping[str, str] | None = None,
) -> ChildOutcome:
    """Run ``python -m module`` in a process group of its own.

    The whole group is killed at the time limit, when this process is interrupted, and when the
    child ends: nothing that it started outlives it.

    Args:
        module: A module whose main part uses `child_task`.
        task: Plain data, the child's input; ``timeout_s`` in it is the child's own time limit.
        timeout_s: Time limit in seconds.
        sandbox: What the child may do; the module is imported within it.
        env: Environment variables to add.
    """
    stdout, stderr = _Output(), _Output()
    with stdout.writing() as out, stderr.writing() as errors_out:
        child = subprocess.Popen(
            python_module(module, sandbox.for_seconds(timeout_s)),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=errors_out,
            start_new_session=True,
            env=environment(env),
        )
    threading.Thread(target=_end_group_with, args=(child.pid,), daemon=True).start()
    with child:
        try:
            message = json.dumps({**task, "parent": os.getpid()}).encode()
            child.communicate(message, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            kill_group(child.pid)
            child.communicate()
            return ChildOutcome(None, stdout.read(), stderr.read())
        except BaseException:
            kill_group(child.pid)
            raise
    return ChildOutcome(child.returncode, stdout.read(), stderr.read())


class _Output:
    """A child's output, read from a pipe by a thread; `shortened` limits how much is kept."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._kept = bytearray()

    @contextmanager
    def writing(self) -> Iterator[int]:
        """Yield the descriptor for the child to write to; reading starts once the child has it."""
        try:
            yield self._writer
        finally:
            os.close(self._writer)
            self._thread.start()

    def _run(self) -> None:
        with os.fdopen(self._reader, "rb", buffering=0) as pipe:
            while read := pipe.read(1 << 16):
                self._kept += read
                if len(self._kept) > 2 * MOST_BYTES:
                    self._kept[:] = shortened(self._kept)

    def read(self) -> bytes:
        """Wait for the end of the output; returns what was kept."""
        self._thread.join(DRAIN_S)
        return shortened(self._kept)


def shortened(output: bytes | bytearray) -> bytes:
    """Return the beginning and the end of what a child has written, if it is very long."""
    if len(output) <= MOST_BYTES:
        return bytes(output)
    half = MOST_BYTES // 2
    return bytes(output[:half]) + bytes(output[-half:])


def _end_group_with(pid: int) -> None:
    """Kill what a process leaves behind when it ends: it would hold the pipes open."""
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        kill_group(pid)


@contextmanager
def private_stdout() -> Iterator[IO[bytes]]:
    """Yield standard output, and send what libraries print to standard error instead.

    The process dies with its parent.
    """
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    die_with_parent()
    with stdout:
        yield stdout


@contextmanager
def child_task() -> Iterator[tuple[dict[str, Any], Callable[[Any], Any]]]:
    """The child's end of `run_child`: yield the task and a function that returns the result.

    The process dies with its parent, and shortly after its own time limit ``task["timeout_s"]``.
    An `EdgevidError` raised inside reaches the parent.
    """
    with private_stdout() as stdout:
        task = json.load(sys.stdin)
        die_with_parent(task.pop("parent", None))  # it may have died while this process started
        signal.alarm(int(task["timeout_s"]) + ALARM_GRACE_S)
        try:
            yield task, lambda result: stdout.write(canonical_json(result))
        except EdgevidError as error:
            stdout.write(canonical_json(error_to_json(error)))
