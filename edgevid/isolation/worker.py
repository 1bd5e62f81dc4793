"""A child process that answers short messages, each within a deadline.

Messages go over a socket pair, bulk data through descriptors that the child inherits, such as
shared memory. A child that misses a deadline or ends is killed with everything it started; it dies
with the thread that started it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from edgevid.errors import EngineFailed
from edgevid.isolation.child_task import ChildOutcome
from edgevid.isolation.process import die_with_parent, environment, kill_group, python_module

if TYPE_CHECKING:
    from edgevid.isolation.sandbox import Sandbox

MESSAGE_BYTES, TAIL_BYTES = 1 << 14, 1 << 12
DRAIN_REQUESTS = 64
"""After this many requests the child's standard error is read, so that the pipe has room."""
GONE_S = 5.0


class WorkerProcess:
    """The parent's end of a worker; see `worker_task` for the child's.

    Its thread must live as long as it does. After any failure the child is gone.

    Args:
        module: The module to run as ``python -m module DESCRIPTOR``.
        name: What the worker does, for error messages.
        task: Plain data, the child's input.
        sandbox: What the child may do; the module is imported within it.
        fds: Descriptors that the child inherits.

    Raises:
        EngineFailed: The process cannot be started.
    """

    def __init__(
        self,
        module: str,
        name: str,
        task: Mapping[str, Any],
        sandbox: Sandbox,
        fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.deadline_s = 0.0
        self._busy = False
        self._requests = 0
        try:
            with ExitStack() as stack:
                self._start(module, task, sandbox, fds, stack)
                stack.pop_all()
        except OSError as error:  # out of memory, descriptors or processes
            raise EngineFailed(f"{name} cannot be started: {error.strerror}") from error

    def _start(
        self,
        module: str,
        task: Mapping[str, Any],
        sandbox: Sandbox,
        fds: Sequence[int],
        stack: ExitStack,
    ) -> None:
        """Start the child and send its task; ``stack`` frees what was made if it fails."""
        self._stderr = stack.enter_context(closing(_Tail()))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = stack.enter_context(ours)
        with theirs:
            self._process = subprocess.Popen(
                python_module(module, sandbox, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=self._stderr.writer,
                stderr=self._stderr.writer,
                pass_fds=(theirs.fileno(), *fds),
                start_new_session=True,
                env=environment(),
            )
        with suppress(BrokenPipeError, ConnectionResetError):  # `ready` reports it
            message = {"task": dict(task), "fds": list(fds), "parent": os.getpid()}
            self._socket.send(json.dumps(message).encode())
        self._stderr.close_writer()

    @property
    def pid(self) -> int:
        """Id of the process, which leads a process group."""
        return self._process.pid

    def ready(self, timeout_s: float) -> bytes:
        """Wait for the child's first message.

        Args:
            timeout_s: How long to wait, in seconds.

        Raises:
            EngineFailed: The child ended, or sent nothing in time.
        """
        self.deadline_s = timeout_s
        until_s = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._stderr.reader, select.POLLIN)
        while (left_s := until_s - time.monotonic()) > 0:
            ready = [fd for fd, _ in poll.poll(left_s * 1000)]
            if self._socket.fileno() in ready:
                with suppress(OSError):
                    if message := self._socket.recv(MESSAGE_BYTES):
                        return message
                raise self._failed(hung=False)
            if ready and not self._stderr.read():
                poll.unregister(self._stderr.reader)
        raise self._failed(hung=True)

    def set_deadline(self, deadline_s: float) -> None:
        """Set how long `request` waits for a response, in seconds."""
        self.deadline_s = deadline_s
        self._socket.settimeout(deadline_s)

    def request(self, message: bytes) -> bytes:
        """Send a message and return the response.

        Raises:
            EngineFailed: The child ended or missed the deadline, now or before, or an earlier
                request was interrupted so that its response may still come; it is killed.
        """
        if self._busy:
            self.kill()
            raise EngineFailed(f"{self.name} serves no longer")
        self._busy = True
        try:
            self._socket.send(message)
            response = self._socket.recv(MESSAGE_BYTES)
        except TimeoutError:
            raise self._failed(hung=True) from None
        except OSError:
            raise self._failed(hung=False) from None
        if not response:
            raise self._failed(hung=False)
        self._busy = False
        self._requests += 1
        if self._requests % DRAIN_REQUESTS == 0:
            self._stderr.read()
        return response

    def _failed(self, *, hung: bool) -> EngineFailed:
        """Kill the child and describe what happened to it."""
        self._busy = True
        self.kill()
        code = None
        if not hung:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(1)
        outcome = ChildOutcome(code, b"", self._stderr.text())
        return EngineFailed(f"{self.name} {outcome.describe(round(self.deadline_s, 2))}")

    def kill(self) -> None:
        """Kill the process group, from any thread; `close` waits for its end."""
        if self._process.returncode is None:
            kill_group(self._process.pid)

    def close(self) -> None:
        """Kill the process, wait for its end and free everything; may be called twice."""
        if self._socket.fileno() < 0:
            return
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # a driver may keep it in the kernel for long
            self._process.wait(GONE_S)
        self._busy = True
        self._socket.close()
        self._stderr.close()


class _Tail:
    """The last few kilobytes of what a process writes, through a pipe that never blocks it.

    Output that finds no room in the pipe is lost.
    """

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        self._tail = b""

    def read(self) -> bool:
        """Read what has arrived; False once nothing more can come."""
        with suppress(BlockingIOError):
            while new := os.read(self.reader, 1 << 16):
                self._tail = (self._tail + new)[-TAIL_BYTES:]
            return False
        return True

    def text(self) -> bytes:
        """The tail so far."""
        self.read()
        return self._tail

    def close_writer(self) -> None:
        """Close the end that the process has inherited."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def close(self) -> None:
        """Close the pipe."""
        self.close_writer()
        os.close(self.reader)


@contextmanager
def worker_task(descriptor: int) -> Iterator[tuple[socket.socket, dict[str, Any] | None]]:
    """The child's end of `WorkerProcess`: yield the socket to the parent and the task.

    The task is None if the parent has gone. Signals that end a program are ignored, because the
    parent decides when the worker ends; the process dies with its parent.

    Args:
        descriptor: The child's end of the socket pair, its only argument.
    """
    with socket.socket(fileno=descriptor) as parent:
        message = json.loads(parent.recv(MESSAGE_BYTES) or "null")
        if message is None:
            yield parent, None
            return
        die_with_parent(message["parent"])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for inherited in (descriptor, *message["fds"]):
            os.set_inheritable(inherited, False)
        yield parent, message["task"]
