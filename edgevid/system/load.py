"""What the whole machine did: its cores, its memory, its clock."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from edgevid.system.counters import CounterSums, PolledFiles

BUSY, STEAL, SWAPPED, SLEPT = ("cpu", "busy"), ("cpu", "steal"), ("swapped",), ("slept",)
PRESSURES = ("cpu", "memory", "io")


def core_count(root: Path) -> int:
    """How many cores work."""
    try:
        said = (root / "proc/stat").read_text()
    except OSError:
        said = ""
    return len(re.findall(r"^cpu\d+ ", said, re.MULTILINE)) or os.cpu_count() or 1


def suspended_s() -> float:
    """How long the machine was suspended since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


class SystemCounters:
    """Counts of the whole machine; they rise by themselves, so only marks need a look."""

    def __init__(self, files: PolledFiles, root: Path) -> None:
        self._files = files
        self._proc = root / "proc"
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")

    def look(self, tally: CounterSums) -> None:
        """Count."""
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
        words = self._text("stat").partition("\n")[0].split()
        if len(words) < 8 or words[0] != "cpu" or not all(word.isdecimal() for word in words[1:]):
            return
        user, nice, system, _, _, hard, soft = (int(word) for word in words[1:8])
        tally.count(BUSY, (user + nice + system + hard + soft) * self._tick_s)
        if len(words) > 8:
            tally.count(STEAL, int(words[8]) * self._tick_s)

    def _text(self, name: str) -> str:
        return self._files.text(str(self._proc / name)) or ""
