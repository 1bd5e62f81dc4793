"""Processes on the device: start them detached, find them by their environment, end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from . import probe

TERM_S = 5.0
KILL_S = 5.0


def detach(args: list[str]) -> None:
    """Start a process that is independent of this one."""
    between = "import subprocess,sys;subprocess.Popen(sys.argv[1:],start_new_session=True)"
    subprocess.run(
        [sys.executable, "-I", "-c", between, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


def kill(pid: int, number: int) -> None:
    """Send a signal, unless the process has ended."""
    if pid > 1:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def end_stragglers(root: Path) -> None:
    """End every process that serves from the folder ``root``; their supervisor was killed."""
    end_marked("EDGEVID_ROOT", str(root))


def end_marked(mark: str, value: str, *, now: bool = False) -> None:
    """End every process whose environment has ``mark`` set to ``value``.

    They get SIGTERM for five seconds and then SIGKILL; with ``now``, SIGKILL at once. It gives up
    after a while, since any user can start processes with such an environment.
    """
    until = time.monotonic() + (0.0 if now else TERM_S)
    while time.monotonic() < until + KILL_S:
        pids = [pid for pid in _processes() if environment(pid).get(mark) == value]
        if not pids:
            return
        for pid in pids:
            kill(pid, signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
        time.sleep(0.05)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def user_of(pid: int) -> int | None:
    """The user ID of a process; None if it has ended.

    The owner of its folder in /proc is no substitute: it is root for a process that changed its
    user.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None
    numbers = [line.split()[1] for line in status.splitlines() if line.startswith("Uid:")]
    return int(numbers[0]) if numbers else None


def environment(pid: int) -> dict[str, str]:
    """The environment with which a process was started; empty if it may not be read."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in content.split("\0") if "=" in line)


def output_of(*command: str) -> str:
    """What a program writes to stdout; empty if it fails or is not installed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=probe.with_bus(),
        )
    except OSError:
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
