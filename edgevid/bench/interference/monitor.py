"""A thread that monitors the machine while something is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from edgevid.bench.interference.record import MonitorLook, MonitorRecord, Quota, Span
from edgevid.system import cgroups, load, processes
from edgevid.system.cgroups import Cgroups
from edgevid.system.counters import CounterSums, Key, PolledFiles
from edgevid.system.load import SystemCounters, core_count
from edgevid.system.power import Power
from edgevid.system.processes import Processes
from edgevid.system.thermal import TOO_HOT, Heat

LOOK_S = 0.2
MOVES = 5
"""Every fifth look also checks whether processes were moved to other cgroups."""
LONGEST = 20_000
"""So many looks are kept, more than an hour's; then every second one is dropped."""
ENERGY, LOOKS, LOOKING = ("energy",), ("looks",), ("looking",)


class Monitor:
    """Looks at the machine five times a second, in a thread of its own.

    Args:
        pids: Returns the measured processes, with their children; called from that thread. This
            process need not be among them.
        root: Where the file system begins.
    """

    def __init__(self, pids: Callable[[], Iterable[int]], root: Path = Path("/")) -> None:
        self._pids = pids
        self._files, self._tally = PolledFiles(), CounterSums()
        self._processes = Processes(self._files, root)
        self._cgroups = Cgroups(self._files, root)
        self._system = SystemCounters(self._files, root)
        self._heat = Heat(self._files, root)
        self._power = Power(self._files, root)
        self._cores = core_count(root)
        self._timeline: list[MonitorLook] = []
        self._stride = 1
        self._spans: list[Span] = []
        self._label, self._began, self._begin = "", 0.0, dict[Key, float]()
        self._started = self._looked = 0.0
        self._gap = 0.0
        self._count = 0
        self._record: MonitorRecord | None = None
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="conditions", daemon=True)

    def start(self) -> None:
        """Start with a span that has no label."""
        self._started = self._looked = time.monotonic()
        with self._lock:
            self._look(full=True)
            self._began, self._begin = self._looked, self._tally.snapshot()
        self._thread.start()

    def mark(self, label: str) -> None:
        """End the current span and begin one with this label; labels may repeat."""
        with self._lock:
            self._close_span(label)

    def stop(self) -> MonitorRecord:
        """End the last span and the thread; a second call returns the same record."""
        with self._lock:
            if self._record is not None:
                return self._record
            self._close_span("")
            self._record = self._finished()
            self._end.set()
        self._thread.join()
        self._files.close()
        return self._record

    def __enter__(self) -> Monitor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._end.wait(LOOK_S):
            with self._lock:
                if self._record is None:
                    self._count += 1
                    self._look(moves=self._count % MOVES == 0)

    def _look(self, *, full: bool = False, moves: bool = False) -> None:
        """Read what changes or ends unnoticed; with ``full`` also the counts, which can wait."""
        began_s = time.thread_time()
        now, tally = time.monotonic(), self._tally
        before, self._looked = self._looked, now
        self._gap = max(self._gap, now - before)
        pids = list(self._pids())
        self._processes.look(tally, pids, full)
        heat = self._heat.look(tally, full)
        watts = self._power.look(now)
        if watts is not None:
            tally.add(ENERGY, watts * (now - before))
        if full or moves:
            self._cgroups.look(tally, pids)
        if full:
            self._system.look(tally)
        t_s, power_w = round(now - self._started, 3), None if watts is None else round(watts, 3)
        self._note(MonitorLook(t_s, self._label, **heat, power_w=power_w))
        tally.add(LOOKS, 1)
        tally.add(LOOKING, time.thread_time() - began_s)

    def _note(self, look: MonitorLook) -> None:
        if self._count % self._stride == 0:
            self._timeline.append(look)
        if len(self._timeline) >= LONGEST:
            del self._timeline[::2]
            self._stride *= 2

    def _close_span(self, next_label: str) -> None:
        self._look(full=True)
        end = self._tally.snapshot()
        self._spans.append(self._span(end))
        self._label, self._began, self._begin, self._gap = next_label, self._looked, end, 0.0

    def _span(self, end: dict[Key, float]) -> Span:
        begin = self._begin
        rose = {key: value - begin.get(key, 0.0) for key, value in end.items()}
        return Span(
            label=self._label,
            started_s=round(self._began - self._started, 3),
            elapsed_s=self._looked - self._began,
            looks=int(rose.get(LOOKS, 0)),
            cores=self._cores,
            busy_s=rose.get(load.BUSY),
            steal_s=rose.get(load.STEAL),
            measured_s=max(0.0, rose.get(processes.MEASURED, 0.0)),
            own_s=rose.get(processes.OWN, 0.0),
            waited_s=rose.get(processes.WAITED),
            involuntary=int(rose.get(processes.INVOLUNTARY, 0)),
            major_faults=int(rose.get(processes.FAULTS, 0)),
            swapped_in=_whole(rose.get(load.SWAPPED)),
            pressure_s={key[1]: value for key, value in rose.items() if key[0] == "pressure"},
            quotas=self._quotas(rose),
            throttled=_throttled(rose),
            slept_s=rose.get(load.SLEPT, 0.0),
            gap_s=self._gap,
            energy_j=rose.get(ENERGY),
            looking_s=rose.get(LOOKING, 0.0),
        )

    def _quotas(self, rose: dict[Key, float]) -> dict[str, Quota]:
        names = [key[1] for key in rose if key[0] == "quota" and key[2] == cgroups.PERIODS]
        quotas = {
            name: Quota(
                self._cgroups.limits.get(name),
                int(rose["quota", name, cgroups.PERIODS]),
                int(rose["quota", name, cgroups.STOPPED]),
                rose["quota", name, cgroups.STOPPED_S],
            )
            for name in names
        }
        return {
            name: quota
            for name, quota in quotas.items()
            if quota.periods or quota.limit_cores is not None
        }

    def _finished(self) -> MonitorRecord:
        zone = self._heat.zone
        return MonitorRecord(
            self._spans,
            self._timeline,
            None if zone is None else zone.name,
            zone is not None and zone.reported,
            self._power.name,
        )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _throttled(rose: dict[Key, float]) -> dict[str, int]:
    found = {key[1]: int(n) for key, n in sorted(rose.items()) if key[0] == "throttled" and n >= 1}
    # All cores of one package count the same events.
    counted = int(max((value for key, value in rose.items() if key[0] == TOO_HOT), default=0))
    return {**found, TOO_HOT: counted} if counted else found
