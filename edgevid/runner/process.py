"""What this very process costs, read from Linux' own books."""

from __future__ import annotations

import os
import time
from pathlib import Path


def age_s() -> float:
    """Seconds since this process was started, interpreter and imports included."""
    stat = Path("/proc/self/stat").read_text()
    # The name of the program, in parentheses, may hold spaces: count the fields after it.
    started_ticks = int(stat.rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")


def peak_rss_mb() -> float:
    """The most memory that was resident at once, in mebibytes.

    Not `resource.getrusage`: its maximum survives ``exec`` and would count the parent's memory.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
