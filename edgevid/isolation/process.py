"""Start and end child processes that cannot outlive their parent.

    python -m edgevid.isolation.process PROGRAM ARG...

runs any program so that it dies with the process that started it: the kernel's parent-death signal
survives ``exec``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevid.isolation.sandbox import Sandbox


def python_module(module: str, sandbox: Sandbox, *args: str) -> list[str]:
    """Return the command that runs a module in a sandbox with this Python interpreter."""
    confined = "edgevid.isolation.confined"
    return [sys.executable, "-P", "-m", confined, json.dumps(sandbox.to_json()), module, *args]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which a child can import what this process can.

    Args:
        more: Variables to add.
    """
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, **(more or {}), "PYTHONPATH": path}


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent dies; only on Linux.

    The kernel watches the thread that started this process, not the whole parent process.

    Args:
        parent: Process id of the parent. If it has already died, this process ends here. By default
            whatever the parent is now.
    """
    if sys.platform != "linux":
        return
    expected = os.getppid() if parent is None else parent
    set_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != expected:  # it died before the call
        os._exit(1)


def leave_interrupts_to_parent() -> None:
    """Ignore SIGINT, which reaches the whole process group, and die with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def kill_group(pid: int) -> None:
    """Kill a process group by its leader's id; does nothing if the group has ended."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def signal_name(number: int) -> str:
    """Return the name of a signal, such as ``SIGABRT`` for 6."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    leave_interrupts_to_parent()
    os.execvp(sys.argv[1], sys.argv[1:])
