"""What a child process owes its parent, and what it gets from it.

    python -m edgevid.children PROGRAM WORD...

becomes a program that knows nothing of this, and dies with its parent all the same: what the kernel
was told outlives ``exec``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress


def python_module(module: str, *words: str) -> list[str]:
    """The command that runs a module of edgevid with this very Python."""
    return [sys.executable, "-P", "-m", module, *words]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment in which a child can import what this process can."""
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, **(more or {}), "PYTHONPATH": path}


def die_with_parent(parent: int | None = None) -> None:
    """Be killed when the parent dies, however it dies; on Linux, elsewhere nothing happens.

    The parent is, to be exact, the thread that started this process. ``parent`` is its process:
    where that has died already, this process ends here.
    """
    if sys.platform != "linux":
        return
    expected = os.getppid() if parent is None else parent
    set_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != expected:  # it died before the kernel was told
        os._exit(1)


def leave_interrupts_to_parent() -> None:
    """Start as a worker: Ctrl-C reaches the whole group, but only the parent decides what ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def kill_group(pid: int) -> None:
    """Kill a process that leads a group, and all that it started; none may be left already."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def signal_name(number: int) -> str:
    """``SIGABRT`` for 6."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    leave_interrupts_to_parent()
    os.execvp(sys.argv[1], sys.argv[1:])
