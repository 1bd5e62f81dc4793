"""What systemd is told: the sd_notify protocol, one datagram a message.

Without systemd (no ``NOTIFY_SOCKET``) every call does nothing. No call raises or waits: a service
manager in trouble must not take a camera down with it.
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
    """Tell systemd ``state``: one of the words above, ``STATUS=...``, or several in lines.

    `RELOADING` is sent with the moment at which it began, as newer versions of systemd demand;
    it ends with the next `READY`.
    """
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name.startswith("@"):  # not a file, but a name of the kernel's own
        name = "\0" + name[1:]
    elif not name.startswith("/"):
        return
    if RELOADING in state.splitlines():
        state += f"\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.sendto(state.encode(errors="replace"), name)


def watchdog_s() -> float | None:
    """How often to send `WATCHDOG`, in seconds: half of what systemd waits; `None` if it doesn't.

    A child process inherits the variables, but they are meant for the process that they name.
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdecimal() and int(microseconds) else None
