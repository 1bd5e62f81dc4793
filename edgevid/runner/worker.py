"""An engine in a process of its own, because native libraries abort, hang and leak.

``python -m edgevid.runner.worker`` loads one artifact, replays the golden trajectory on it, says
that it is ready, or why not, and then answers steps. One-byte messages go over a socket pair,
tensors through shared memory. The parent waits for each answer with a deadline, and kills what does
not keep it; the child dies with the thread that started it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.children import die_with_parent, environment, kill_group, python_module
from edgevid.errors import CheckFailed, EdgevidError, EngineFailed
from edgevid.proof.child import Outcome
from edgevid.runner.shared import Block

if TYPE_CHECKING:
    from edgevid.contract import Contract, Inputs, Tensors
    from edgevid.runtimes import Engine

MODULE = "edgevid.runner.worker"
STEP, DONE, FAILED = b"s", b"d", b"!"
MESSAGE_BYTES, TAIL_BYTES = 1 << 14, 1 << 12
DRAIN_STEPS = 64
"""After so many steps what the child wrote to its standard error is read, so that it finds room."""
READY_S, GONE_S = 60.0, 5.0


def deadline_s(slowest_s: float) -> float:
    """How long to wait for a step, from the slowest one of the proof.

    Not less than a second: on a busy board a healthy worker may have to wait for the processor.
    """
    return max(1.0, min(1.5, 10 * slowest_s), 3 * slowest_s)


class WorkerEngine:
    """The parent's side: an engine like any other, whose every call ends in time.

    It is started at once, in a process group of its own, and serves after `prove`. The thread that
    makes it must live as long as it does.
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
        self.deadline_s = READY_S
        self._name = f"{artifact} in {runtime} on {accelerator}"
        self._busy = False
        self._steps = 0
        task = {
            "bundle": str(bundle.path.resolve()),
            "key": bundle.key,
            "artifact": artifact,
            "runtime": runtime,
            "accelerator": accelerator,
            "threads": threads,
        }
        try:
            with ExitStack() as stack:
                self._start(bundle.contract, task, stack)
                stack.pop_all()
        except OSError as error:  # no memory, no descriptors, no processes left
            raise EngineFailed(f"{self._name} cannot be started: {error.strerror}") from error

    def _start(self, contract: Contract, task: dict[str, Any], stack: ExitStack) -> None:
        """Start the child and tell it its task; ``stack`` lets go of what was made, if it fails."""
        self._block = stack.enter_context(closing(Block(contract)))
        self._stderr = stack.enter_context(closing(_Tail()))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = stack.enter_context(ours)
        with theirs:
            self._process = subprocess.Popen(
                python_module(MODULE, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=self._stderr.writer,
                stderr=self._stderr.writer,
                pass_fds=(theirs.fileno(), self._block.fd),
                start_new_session=True,
                env=environment(),
            )
        with suppress(BrokenPipeError, ConnectionResetError):  # which `prove` will tell
            task |= {"memory": self._block.fd, "parent": os.getpid()}
            self._socket.send(json.dumps(task).encode())
        self._stderr.forget_writer()
        self._block.forget_descriptor()

    @property
    def pid(self) -> int:
        """The process, which leads a group of its own."""
        return self._process.pid

    def prove(self, timeout_s: float = READY_S) -> None:
        """Wait until the child has loaded the artifact and replayed the golden trajectory on it.

        Raises `CheckFailed` where it answered wrongly, `EngineFailed` where it crashed, hung or
        could not load, and what the child raised on purpose.
        """
        self.deadline_s = timeout_s
        told = json.loads(self._receive_ready(time.monotonic() + timeout_s))
        if "error" in told:
            self.kill()
            kind = CheckFailed if told["error"] == "CheckFailed" else EngineFailed
            raise kind(f"{self._name}: {told['message']}")
        self.precision = str(told["precision"])
        self.deadline_s = deadline_s(float(told["slowest_s"]))
        self._socket.settimeout(self.deadline_s)

    def _receive_ready(self, until_s: float) -> bytes:
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

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`.

        After an `EngineFailed` that the child did not raise on purpose, the child is gone.
        """
        if self._busy:  # it failed, or the caller was interrupted: its answer would come late
            self.kill()
            raise EngineFailed(f"{self._name} serves no longer")
        self._busy = True
        try:
            self._block.write_inputs(inputs, state)
            self._socket.send(STEP)
            answer = self._socket.recv(MESSAGE_BYTES)
        except TimeoutError:
            raise self._failed(hung=True) from None
        except OSError:
            raise self._failed(hung=False) from None
        except (KeyError, ValueError) as error:  # not the contract's tensors; nothing was sent
            self._busy = False
            what = f"no array for {error}" if isinstance(error, KeyError) else str(error)
            raise EngineFailed(f"{self._name}: {what}") from None
        if not answer:
            raise self._failed(hung=False)
        self._busy = False
        self._steps += 1
        if self._steps % DRAIN_STEPS == 0:
            self._stderr.read()
        if answer != DONE:
            raise EngineFailed(f"{self._name}: {answer[1:].decode(errors='replace')}")
        return self._block.read_outputs()

    def _failed(self, *, hung: bool) -> EngineFailed:
        """Kill the child, and say in words what became of it."""
        self._busy = True
        self.kill()
        code = None
        if not hung:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(1)
        outcome = Outcome(code, b"", self._stderr.text())
        return EngineFailed(f"{self._name} {outcome.describe(round(self.deadline_s, 2))}")

    def kill(self) -> None:
        """Kill the process and all that it started, from any thread; `close` waits for the end."""
        if self._process.returncode is None:
            kill_group(self._process.pid)

    def close(self) -> None:
        """Kill the process, wait for its end, and let go of everything; twice is as once."""
        if self._socket.fileno() < 0:
            return
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # a driver may hold it for as long as it likes
            self._process.wait(GONE_S)
        self._busy = True
        self._socket.close()
        self._stderr.close()
        self._block.close()


class _Tail:
    """The last few kilobytes of what a process writes, through a pipe that never blocks it.

    What finds no room, because nobody reads, is lost to the writer.
    """

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        self._tail = b""

    def read(self) -> bool:
        """Take what is there; False once nothing can come any more."""
        with suppress(BlockingIOError):
            while new := os.read(self.reader, 1 << 16):
                self._tail = (self._tail + new)[-TAIL_BYTES:]
            return False
        return True

    def text(self) -> bytes:
        """The tail, up to now."""
        self.read()
        return self._tail

    def forget_writer(self) -> None:
        """Close the end that the process has inherited."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def close(self) -> None:
        """Let go of the pipe."""
        self.forget_writer()
        os.close(self.reader)


# --- the child ------------------------------------------------------------------------------------


class _Timed:
    """An engine that notes how long its steps take."""

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


def _open(task: dict[str, Any], bundle: Bundle) -> tuple[Engine, dict[str, Any]]:
    """Load and prove; gives the engine and what to tell the parent."""
    from edgevid.proof import Golden, replay_artifact

    name = task["artifact"]
    engine = runtimes.get(task["runtime"]).load(
        bundle.files(name),
        bundle.contract,
        accelerator=task["accelerator"],
        threads=task["threads"],
    )
    timed = _Timed(engine)
    check, _ = replay_artifact(timed, Golden.read(bundle, name), bundle, name)
    if not check.ok:
        raise CheckFailed(str(check.reason))
    warm = timed.seconds[1:] or timed.seconds  # the first step may compile something
    return engine, {"precision": check.precision, "slowest_s": max(warm)}


def _serve(engine: Engine, block: Block, parent: socket.socket) -> None:
    """Answer steps until the parent is gone."""
    while parent.recv(1):
        try:
            block.write_outputs(*engine.step(block.inputs, block.state))
        except EdgevidError as error:
            parent.send(FAILED + str(error).encode()[: MESSAGE_BYTES // 2])
        else:
            parent.send(DONE)


def main(descriptor: int) -> None:
    """Be the child whose end of the socket pair is ``descriptor``."""
    with socket.socket(fileno=descriptor) as parent:
        task = json.loads(parent.recv(MESSAGE_BYTES) or "null")
        if task is None:
            return
        die_with_parent(task["parent"])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the parent decides what ends
        for inherited in (descriptor, task["memory"]):
            os.set_inheritable(inherited, False)
        try:
            bundle = Bundle.open(Path(task["bundle"]))
            if bundle.key != task["key"]:
                raise EngineFailed(f"{bundle.path} is another bundle now; start again")
            block = Block(bundle.contract, task["memory"])
            engine, ready = _open(task, bundle)
        except EdgevidError as error:
            told = {"error": type(error).__name__, "message": str(error)[:2000]}
            parent.send(json.dumps(told).encode())
            return
        parent.send(json.dumps(ready).encode())
        _serve(engine, block, parent)


if __name__ == "__main__":
    main(int(sys.argv[1]))
