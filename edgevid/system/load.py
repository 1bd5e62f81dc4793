"""Counters of the whole machine: cores, memory, suspension."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from edgevid.system.counters import CounterSums, PolledFiles

BUSY, STEAL, SWAPPED, SLEPT = ("cpu", "busy"), ("cpu", "steal"), ("swapped",), ("slept",)
PRESSURES = ("cpu", "memory", "io")


def core_count(root: Path) -> int:
    """The number of cores that are online."""
    try:
        content = (root / "proc/stat").read_text()
    except OSError:
        content = ""
    return len(re.findall(r"^cpu\d+ ", content, re.MULTILINE)) or os.cpu_count() or 1


def suspended_s() -> float:
    """Seconds that the machine was suspended since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


class SystemCounters:
    """Counters of the whole machine; none is lost between two looks."""

    def __init__(self, files: PolledFiles, root: Path) -> None:
        self._files = files
        self._proc = root / "proc"
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")

    def look(self, tally: CounterSums) -> None:
        """Count; call it at the beginning and the end of what is measured."""
        tally.count(SLEPT, suspended_s())
        self._cores(tally)
        found = re.search(r"^pswpin (\d+)", self._text("vmstat"), re.MULTILINE)
        if found:
            tally.count(SWAPPED, int(found[1]))
        for name in PRESSURES:
            some = self._text(f"pressure/{name}").partition("\n")[0]
            total = some.rpartition("total=")[2]
            if some.startswith("some ") and total.isdecimal():
                tally.count(("pressure", name), int(total) / 1e6)

    def _cores(self, tally: CounterSums) -> None:
        fields = self._text("stat").partition("\n")[0].split()
        if len(fields) < 8 or fields[0] != "cpu" or not all(one.isdecimal() for one in fields[1:]):
            return
        user, nice, system, _, _, hard, soft = map(int, fields[1:8])
        tally.count(BUSY, (user + nice + system + hard + soft) * self._tick_s)
        if len(fields) > 8:
            tally.count(STEAL, int(fields[8]) * self._tick_s)

    def _text(self, name: str) -> str:
        return self._files.text(str(self._proc / name)) or ""
