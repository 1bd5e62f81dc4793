"""Processor time, waiting time and page faults of the measured processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgevid.system.counters import CounterSums, PolledFiles

MEASURED, OWN = ("cpu", "measured"), ("cpu", "own")
WAITED, INVOLUNTARY, FAULTS = ("waited",), ("involuntary",), ("faults",)


@dataclass(frozen=True)
class ProcessStat:
    """Fields of ``/proc/PID/stat``.

    Attributes:
        parent: Process id of its parent.
        faults: Major page faults.
        cpu_s: Its processor time.
        reaped_s: Processor time of its children that have ended.
        started: Start time in ticks since boot.
    """

    parent: int
    faults: int
    cpu_s: float
    reaped_s: float
    started: int

    @property
    def all_s(self) -> float:
        """Processor time of the process and of its children that have ended."""
        return self.cpu_s + self.reaped_s


def stat(content: str | None, tick_s: float) -> ProcessStat | None:
    """Parse ``/proc/PID/stat``, in which the name may contain spaces and parentheses."""
    fields = (content or "").rpartition(")")[2].split()
    try:
        parent, faults = int(fields[1]), int(fields[9])
        user, system, reaped_user, reaped_system = (int(field) for field in fields[11:15])
        started = int(fields[19])
    except (IndexError, ValueError):
        return None
    return ProcessStat(
        parent, faults, (user + system) * tick_s, (reaped_user + reaped_system) * tick_s, started
    )


class Processes:
    """Follows processes from look to look; they may start and end in between.

    The time of ended processes below this one is in its own account of ended children, once their
    parents have waited for them: nothing is lost between two looks or counted twice.
    """

    def __init__(self, files: PolledFiles, root: Path) -> None:
        self._files = files
        self._proc = str(root / "proc")
        self._own = os.getpid()
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self._known: dict[int, ProcessStat] = {}
        self._below: dict[int, bool] = {}  # whether they descend from this process
        self._threads: dict[int, set[str]] = {}
        self._kept_s = 0.0  # minus what ran before it was followed, plus what ended elsewhere
        self._measured_s: float | None = None
        self._looked_ticks: float | None = None

    def look(self, tally: CounterSums, pids: Iterable[int], full: bool) -> None:
        """Count.

        Args:
            tally: Takes the counts.
            pids: The measured processes.
            full: Whether to count everything; otherwise only what is lost when a process ends.
        """
        for pid in set(pids) - self._known.keys():
            self._meet(pid)
        measured_s = sum(self._follow(pid, tally, full) for pid in list(self._known))
        own = self._stat(self._own)
        if own is not None:
            if self._own not in self._known:
                measured_s += own.reaped_s
                tally.count(OWN, own.cpu_s)
            self._measured(tally, measured_s + self._kept_s)
        self._looked_ticks = time.clock_gettime(time.CLOCK_BOOTTIME) / self._tick_s

    def _measured(self, tally: CounterSums, now_s: float) -> None:
        # It may decrease: a child that ends during a look is counted twice until the next one.
        tally.add(MEASURED, 0.0 if self._measured_s is None else now_s - self._measured_s)
        self._measured_s = now_s

    def _stat(self, pid: int) -> ProcessStat | None:
        return stat(self._files.text(f"{self._proc}/{pid}/stat"), self._tick_s)

    def _meet(self, pid: int) -> None:
        found = self._stat(pid)
        if found is None:
            return
        self._known[pid] = found
        self._below[pid] = self._is_below(found)
        self._threads[pid] = set()
        if self._looked_ticks is not None and not self._new(found):
            self._kept_s -= found.all_s

    def _is_below(self, found: ProcessStat | None) -> bool:
        while found is not None and found.parent not in (self._own, 0):
            found = self._stat(found.parent)
        return found is not None and found.parent == self._own

    def _new(self, found: ProcessStat) -> bool:
        """Whether it started since the last look."""
        return self._looked_ticks is not None and found.started >= self._looked_ticks - 1

    def _follow(self, pid: int, tally: CounterSums, full: bool) -> float:
        """Its processor time in all; 0 once it has ended."""
        before, found = self._known[pid], self._stat(pid)
        if found is None or found.started != before.started:
            self._part(pid, before)
            return 0.0
        new = self._new(before)
        tally.count(FAULTS, found.faults, (pid, found.started), new=new)
        if full or new or found.cpu_s != before.cpu_s:  # idle processes are skipped
            self._look_at_threads(pid, tally, new, full)
        if found.parent != before.parent:
            self._below[pid] = self._is_below(found)
        self._known[pid] = found
        return found.all_s

    def _part(self, pid: int, last: ProcessStat) -> None:
        if not self._below.pop(pid):
            self._kept_s += last.all_s
        for thread in self._threads.pop(pid):
            self._forget_thread(pid, thread)
        self._files.forget(f"{self._proc}/{pid}/stat")
        del self._known[pid]

    def _look_at_threads(self, pid: int, tally: CounterSums, new: bool, full: bool) -> None:
        """Waiting time and switches are reported per thread only."""
        folder = f"{self._proc}/{pid}/task"
        known = self._threads[pid]
        try:
            now = set(os.listdir(folder))  # noqa: PTH208 - a fifth of the time
        except OSError:
            now = set()
        for thread in known - now:
            self._forget_thread(pid, thread)
        later = bool(known)  # a thread that appears after others of its process is new
        for thread in now:
            fresh = new or (later and thread not in known)
            self._count_thread(f"{folder}/{thread}", (pid, thread), tally, fresh, full)
        self._threads[pid] = now

    def _count_thread(
        self, folder: str, owner: tuple[int, str], tally: CounterSums, new: bool, full: bool
    ) -> None:
        times = (self._files.text(f"{folder}/schedstat") or "").split()
        if len(times) == 3:
            tally.count(WAITED, int(times[1]) / 1e9, owner, new=new)
        if full:
            content = self._files.text(f"{folder}/status") or ""
            count = content.rpartition("nonvoluntary_ctxt_switches:")[2].strip()
            if count.isdecimal():
                tally.count(INVOLUNTARY, int(count), owner, new=new)

    def _forget_thread(self, pid: int, thread: str) -> None:
        for name in ("schedstat", "status"):
            self._files.forget(f"{self._proc}/{pid}/task/{thread}/{name}")
