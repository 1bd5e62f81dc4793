"""A child process that answers many requests: JSON lines both ways."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edgevid.errors import EdgevidError, EnvironmentFailed
from edgevid.isolation.child_task import (
    MOST_BYTES,
    ChildOutcome,
    error_to_json,
    private_stdout,
    shortened,
)
from edgevid.isolation.process import environment, kill_group, python_module

if TYPE_CHECKING:
    from edgevid.isolation.sandbox import Sandbox

READ_BYTES = 1 << 20
EXIT_WAIT_S = 1.0


class JsonRpcProcess:
    """A child process that serves requests with `serve_json_rpc`.

    Every request has a deadline. A child that misses it, dies or writes nonsense is killed with
    everything it started, as it is by `close`. The thread that creates it must live as long as it
    does: the child dies with that thread.

    Args:
        module: The module to run as ``python -m``.
        name: What the process does, for error messages.
        sandbox: What the child may do; the module is imported within it.
        env: Environment variables to add.
    """

    def __init__(
        self, module: str, name: str, sandbox: Sandbox, env: Mapping[str, str] | None = None
    ) -> None:
        self._name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._received = b""
        self._child = subprocess.Popen(
            python_module(module, sandbox),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            env=environment(env),
        )

    @property
    def pid(self) -> int:
        """Id of the process, which leads a process group."""
        return self._child.pid

    def call(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send one request and wait for its response.

        Args:
            request: Plain data.
            timeout_s: Deadline in seconds.

        Raises:
            EnvironmentFailed: The child is gone or missed the deadline.
            EdgevidError: The child raised it on purpose.
        """
        self._send(request)
        try:
            line = self._line(time.monotonic() + timeout_s)
        except TimeoutError:
            raise self._failed(None, timeout_s) from None
        response = ChildOutcome(0, line, b"").result()
        if response is None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(EXIT_WAIT_S)
            raise self._failed(self._child.returncode or 0, timeout_s)
        return response

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # then there is no response, which `call` reports
            self._child.stdin.write(json.dumps(message).encode() + b"\n")
            self._child.stdin.flush()

    def _line(self, until_s: float) -> bytes:
        """The next whole line; empty if the child has ended."""
        assert self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        while b"\n" not in self._received:
            left_s = max(0.0, until_s - time.monotonic())
            if not select.select([descriptor], [], [], left_s)[0]:
                raise TimeoutError
            read = os.read(descriptor, READ_BYTES)
            if not read:
                return b""
            self._received += read
            if len(self._received) > 4 * MOST_BYTES:
                return b""
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _failed(self, code: int | None, timeout_s: float) -> EnvironmentFailed:
        self.kill()
        self._stderr.seek(0)
        outcome = ChildOutcome(code, b"", shortened(self._stderr.read()))
        return EnvironmentFailed(f"{self._name} {outcome.describe(timeout_s)}")

    def kill(self) -> None:
        """Kill the process and everything it started."""
        if self._child.returncode is None:
            kill_group(self._child.pid)

    def close(self) -> None:
        """Kill the process and wait for its end."""
        self.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout, self._stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> JsonRpcProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def serve_json_rpc(handle: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """The child's end of `JsonRpcProcess`; returns when the parent closes the connection.

    Args:
        handle: Maps a request to its response. An `EdgevidError` that it raises reaches the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    with private_stdout() as stdout:
        for line in sys.stdin:
            try:
                response = handle(json.loads(line))
            except EdgevidError as error:
                response = error_to_json(error)
            stdout.write(json.dumps(response).encode() + b"\n")
            stdout.flush()
