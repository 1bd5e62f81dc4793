"""Work in a child process that may crash, hang or babble, and what became of it in words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgevid import errors
from edgevid.children import (
    die_with_parent,
    environment,
    kill_group,
    python_module,
    signal_name,
)
from edgevid.errors import EdgevidError
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

    It can import what this process can. The whole group is killed at the time limit, and when this
    process is interrupted.
    """
    child = subprocess.Popen(
        python_module(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(env),
    )
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


@contextmanager
def child_task() -> Iterator[tuple[dict[str, Any], Any]]:
    """The other end of `run_child`: yields the task and a function that gives the answer.

    Standard output becomes standard error, so that what libraries print cannot spoil the answer,
    and the process dies with its parent and at its own time limit (``task["timeout_s"]``).
    """
    answer_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    die_with_parent()
    task = json.load(sys.stdin)
    signal.alarm(int(task["timeout_s"]) + 5)
    with answer_to:
        try:
            yield task, lambda answer: answer_to.write(canonical_json(answer))
        except EdgevidError as error:
            answer_to.write(canonical_json({"error": type(error).__name__, "message": str(error)}))
