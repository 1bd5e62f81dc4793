"""Work in a child process that may crash, hang or babble, and what became of it in words."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from edgevid import errors
from edgevid.children import (
    die_with_parent,
    environment,
    kill_group,
    python_module,
    signal_name,
)
from edgevid.errors import EdgevidError, EnvironmentFailed
from edgevid.files import canonical_json


@dataclass(frozen=True)
class Outcome:
    """How a child process ended; ``returncode`` is None where it was stopped at its time limit."""

    returncode: int | None
    stdout: bytes
    stderr: bytes

    def describe(self, timeout_s: float) -> str:
        """Say in words how it failed, with the last line that it said."""
        last = last_line(self.stderr)
        if self.returncode is None:
            return f"gave no answer in {timeout_s:g} s{last}"
        if self.returncode < 0:
            return f"crashed with {signal_name(-self.returncode)}{last}"
        if self.returncode > 0:
            return f"failed with exit code {self.returncode}{last}"
        return f"ended without a readable answer{last}"

    def answer(self) -> dict[str, Any] | None:
        """What the child answered; None where it crashed, hung or babbled.

        Raises the error that the child raised on purpose.
        """
        if self.returncode != 0:
            return None
        try:
            answer = json.loads(self.stdout)
        except ValueError:
            return None
        if not isinstance(answer, dict):
            return None
        if set(answer) == {"error", "message"}:
            raise _error(str(answer["error"]))(answer["message"])
        return answer


def last_line(stderr: bytes) -> str:
    """The last line of more than information and warnings, in parentheses; else nothing."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines()]
    told = (line for line in reversed(lines) if line and not line.startswith(("INFO:", "WARNING:")))
    return next((f" ({line[:300]})" for line in told), "")


def _error(name: str) -> type[EdgevidError]:
    """The class of an error by its name."""
    kind = getattr(errors, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, EdgevidError) else EdgevidError


def run_child(
    module: str, task: Mapping[str, Any], timeout_s: float, env: Mapping[str, str] | None = None
) -> Outcome:
    """Run ``python -m module`` with ``task`` as JSON on stdin, in a process group of its own.

    It can import what this process can. The whole group is killed at the time limit, when this
    process is interrupted, and when the child ends: nothing that it started outlives it.
    """
    child = subprocess.Popen(
        python_module(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(env),
    )
    threading.Thread(target=_end_group_with, args=(child.pid,), daemon=True).start()
    with child:
        try:
            stdout, stderr = child.communicate(json.dumps(task).encode(), timeout=timeout_s)
        except subprocess.TimeoutExpired:
            kill_group(child.pid)
            stdout, stderr = child.communicate()
            return Outcome(None, stdout, stderr)
        except BaseException:
            kill_group(child.pid)
            raise
    return Outcome(child.returncode, stdout, stderr)


def _end_group_with(pid: int) -> None:
    """Kill what a process left behind, at its end: it would keep the pipes, and so its reader."""
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        kill_group(pid)


class Talk:
    """A child process that is asked again and again, and lives in between; see `child_talk`.

    JSON lines both ways. Each answer has a deadline; a child that misses it, dies or babbles is
    killed with all that it started, as it is at `close`. The thread that makes it must live as
    long as it does.
    """

    def __init__(self, module: str, name: str, env: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._said = b""
        self._child = subprocess.Popen(
            python_module(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            env=environment(env),
        )

    @property
    def pid(self) -> int:
        """The process, which leads a group of its own."""
        return self._child.pid

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Give the answer to one request.

        Raises what the child raised on purpose, and `EnvironmentFailed`, with its last words,
        where it is gone or gave no answer.
        """
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # which the missing answer tells
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
        try:
            line = self._line(time.monotonic() + timeout_s)
        except TimeoutError:
            raise self._failed(None, timeout_s) from None
        answer = Outcome(0, line, b"").answer()
        if answer is None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(1)
            raise self._failed(self._child.returncode or 0, timeout_s)
        return answer

    def _line(self, until_s: float) -> bytes:
        """The next whole line; empty where the child ended."""
        assert self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        while b"\n" not in self._said:
            left_s = max(0.0, until_s - time.monotonic())
            if not select.select([descriptor], [], [], left_s)[0]:
                raise TimeoutError
            read = os.read(descriptor, 1 << 20)
            if not read:
                return b""
            self._said += read
        line, _, self._said = self._said.partition(b"\n")
        return line

    def _failed(self, code: int | None, timeout_s: float) -> EnvironmentFailed:
        self.kill()
        self._stderr.seek(0)
        outcome = Outcome(code, b"", self._stderr.read())
        return EnvironmentFailed(f"{self._name} {outcome.describe(timeout_s)}")

    def kill(self) -> None:
        """Kill the process and all that it started."""
        if self._child.returncode is None:
            kill_group(self._child.pid)

    def close(self) -> None:
        """Kill the process, and wait for its end."""
        self.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout, self._stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def _own_output() -> Iterator[IO[bytes]]:
    """A child's way to its parent: what libraries print goes to standard error instead."""
    answer_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    die_with_parent()
    with answer_to:
        yield answer_to


def _told(error: EdgevidError) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}


@contextmanager
def child_task() -> Iterator[tuple[dict[str, Any], Any]]:
    """The other end of `run_child`: yields the task and a function that gives the answer.

    Standard output becomes standard error, so that what libraries print cannot spoil the answer,
    and the process dies with its parent and at its own time limit (``task["timeout_s"]``).
    """
    with _own_output() as answer_to:
        task = json.load(sys.stdin)
        signal.alarm(int(task["timeout_s"]) + 5)
        try:
            yield task, lambda answer: answer_to.write(canonical_json(answer))
        except EdgevidError as error:
            answer_to.write(canonical_json(_told(error)))


def child_talk(give: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """The other end of `Talk`: answer each request with what ``give`` gives, or with its error.

    Ends when the parent closes the conversation, and dies with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what ends
    with _own_output() as answer_to:
        for line in sys.stdin:
            try:
                answer = give(json.loads(line))
            except EdgevidError as error:
                answer = _told(error)
            answer_to.write(json.dumps(answer).encode() + b"\n")
            answer_to.flush()
