"""What a child process owes its parent."""

from __future__ import annotations

import ctypes
import signal
import sys


def die_with_parent() -> None:
    """Be killed when the parent dies, however it dies; on Linux, elsewhere nothing happens."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def leave_interrupts_to_parent() -> None:
    """Start as a worker: Ctrl-C reaches the whole group, but only the parent decides what ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
