"""A process that imports heavy packages once and forks a child for each task.

Importing TensorFlow takes longer than most tasks that need it. A forked child starts where the
import ended, with nothing of any other task in it, so it makes the same bytes as a fresh process.

Forking is sound only while the process has one thread: locks that another thread holds would stay
locked in the child. Importing TensorFlow starts none, its first operation does. So the server runs
no operation, numerical libraries are limited to one thread, and it refuses to fork with more.

    python -m edgevid_converters.fork_server PACKAGE...
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from edgevid.isolation.child_task import MOST_BYTES, ChildOutcome, shortened
from edgevid.isolation.process import (
    die_with_parent,
    environment,
    kill_group,
    leave_interrupts_to_parent,
    python_module,
)
from edgevid.isolation.sandbox import LIMITS_ONLY, Sandbox
from edgevid.system import kernel

START_S = 180.0
"""How long importing the packages may take, in seconds."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class ServerLost(Exception):
    """The server has ended or never became ready; its tasks need another process."""


class ForkServer:
    """The parent's end. It must be used by the thread that starts it, with which it dies.

    Args:
        packages: What to import.
        env: Environment variables to add.
    """

    def __init__(self, packages: Sequence[str], env: Mapping[str, str]) -> None:
        self._ready = False
        self._read = b""
        self._process = subprocess.Popen(
            python_module("edgevid_converters.fork_server", LIMITS_ONLY, *packages),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment({**env, **ONE_THREAD}),
        )

    def run(self, task: Mapping[str, Any], timeout_s: float, sandbox: Sandbox) -> ChildOutcome:
        """Run a task of `child_tasks` in a forked child, in a process group of its own.

        Args:
            task: Plain data; ``timeout_s`` in it is the child's own time limit.
            timeout_s: Time limit in seconds.
            sandbox: What the child may do; it enters it before it reads its task.

        Raises:
            ServerLost: The server has ended, or cannot fork.
        """
        if not self._ready:
            self._answer("ready", time.monotonic() + START_S)
            self._ready = True
        with tempfile.TemporaryDirectory(prefix="edgevid-task-") as folder:
            files = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            files[0].write_text(json.dumps(task), encoding="utf-8")
            confined = sandbox.for_seconds(timeout_s)
            request = {"files": [str(file) for file in files], "sandbox": confined.to_json()}
            code = self._run(request, timeout_s)
            stdout, stderr = (_read(file) for file in files[1:])
            return ChildOutcome(code, stdout, stderr)

    def _run(self, request: Mapping[str, Any], timeout_s: float) -> int | None:
        """Run a task in a child; returns its exit code, None after a time-out."""
        until_s = time.monotonic() + timeout_s
        self._send(request)
        pid = self._answer("pid", time.monotonic() + timeout_s)
        try:
            return self._answer("code", until_s)
        except TimeoutError:
            kill_group(pid)
            self._answer("code", time.monotonic() + timeout_s)
            return None
        except BaseException:
            kill_group(pid)
            self.close()
            raise

    def _send(self, request: Mapping[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise ServerLost("it has ended") from None

    def _answer(self, key: str, until_s: float) -> int:
        answer = json.loads(self._line(until_s))
        if key not in answer:
            raise ServerLost(str(answer))
        return int(answer[key])

    def _line(self, until_s: float) -> bytes:
        """Read the next line; bytes beyond it stay in ``_read``, where select cannot see them."""
        stdout = self._process.stdout
        assert stdout is not None
        while b"\n" not in self._read:
            left_s = max(0.0, until_s - time.monotonic())
            if not select.select([stdout], [], [], left_s)[0]:
                raise TimeoutError
            new = os.read(stdout.fileno(), 1 << 16)
            if not new:
                raise ServerLost("it has ended")
            self._read += new
        line, _, self._read = self._read.partition(b"\n")
        return line

    def close(self) -> None:
        """End the server; may be called twice."""
        if self._process.returncode is None:
            kill_group(self._process.pid)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.wait()


def _read(file: Path) -> bytes:
    """Read a child's output file, as far as `shortened` keeps it."""
    if not file.exists():
        return b""
    size = file.stat().st_size
    with file.open("rb") as opened:
        begin = opened.read(MOST_BYTES)
        if size <= MOST_BYTES:
            return begin
        opened.seek(-MOST_BYTES, os.SEEK_END)
        return shortened(begin + opened.read())


# ---------------------------------------------------------------- the server


def main(packages: Sequence[str]) -> int:
    """Import the packages, then fork a child for each line on standard input."""
    leave_interrupts_to_parent()
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    for package in packages:
        import_module(package)
    import_module("edgevid_converters.child_tasks")
    gc.collect()
    gc.freeze()  # the children's collector leaves shared pages alone
    _send(answers, {"ready": 1})
    requests = os.fdopen(0, "rb", buffering=0, closefd=False)
    while line := requests.readline():
        if kernel.own_threads() > 1:
            _send(answers, {"error": "there is more than one thread"})
            continue
        pid = os.fork()
        if not pid:
            answers.close()
            _become_child(json.loads(line))
        _send(answers, {"pid": pid})
        _, status = os.waitpid(pid, 0)
        kill_group(pid)  # what it left behind
        _send(answers, {"code": os.waitstatus_to_exitcode(status)})
    return 0


def _send(answers: IO[bytes], answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")


def _become_child(request: Mapping[str, Any]) -> None:
    """Work on one task, in its sandbox, as in a fresh process; never returns."""
    code = 1
    try:
        os.setsid()
        die_with_parent(os.getppid())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for number, file in enumerate(request["files"]):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            opened = os.open(file, flags, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        Sandbox.from_json(request["sandbox"]).enter()
        tasks = import_module("edgevid_converters.child_tasks")
        code = tasks.main()
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
