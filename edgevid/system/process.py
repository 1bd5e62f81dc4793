"""Age and memory of processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path


def age_s() -> float:
    """Seconds since this process started, interpreter and imports included."""
    stat = Path("/proc/self/stat").read_text()
    # The program's name, in parentheses, may contain spaces: count the fields after it.
    started_ticks = int(stat.rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")


def first_answer_age_s(moments: Iterable[float | None]) -> float | None:
    """Seconds from the start of this process to the first of some events.

    Args:
        moments: `time.perf_counter` of each event; None for one that did not happen.

    Returns:
        Seconds; None if nothing happened.
    """
    known = [moment for moment in moments if moment is not None]
    return round(age_s() - (time.perf_counter() - min(known)), 3) if known else None


def peak_rss_mb(pid: int | str = "self") -> float:
    """The peak of a process's resident memory in MiB.

    Not `resource.getrusage`: its maximum survives ``exec`` and would count the parent's memory.
    """
    return _status_mb("VmHWM:", pid)


def rss_mb() -> float:
    """The resident memory of this process in MiB."""
    return _status_mb("VmRSS:")


def _status_mb(field: str, pid: int | str = "self") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0
