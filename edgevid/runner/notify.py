"""Messages to systemd by the sd_notify protocol, one datagram each.

Without systemd (no ``NOTIFY_SOCKET``) every call does nothing. No call raises or waits: a problem
of the service manager must not stop a camera.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

READY = "READY=1"
STOPPING = "STOPPING=1"
RELOADING = "RELOADING=1"
WATCHDOG = "WATCHDOG=1"


def notify(state: str) -> None:
    """Send ``state``: a constant of this module, ``STATUS=...``, or several, one per line.

    `RELOADING` is sent with its time, as newer versions of systemd require; the next `READY` ends
    it.
    """
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name.startswith("@"):  # an abstract socket
        name = "\0" + name[1:]
    elif not name.startswith("/"):
        return
    if RELOADING in state.splitlines():
        state += f"\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.sendto(state.encode(errors="replace"), name)


def watchdog_s() -> float | None:
    """Seconds between two `WATCHDOG`s: half of systemd's limit; None without a limit.

    A child process inherits the variables, but they apply only to the process that they name.
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdecimal() and int(microseconds) else None
