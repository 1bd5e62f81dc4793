"""CPU quotas of the cgroups above a process, version 1, version 2, or both."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgevid.system.counters import CounterSums, PolledFiles
from edgevid.system.kernel import text, whole

PERIODS, STOPPED, STOPPED_S = "periods", "stopped", "stopped_s"


@dataclass(frozen=True)
class Hierarchy:
    """A mounted hierarchy of cgroups that can limit the CPU.

    Attributes:
        version: 1 or 2.
        folder: Where it is mounted.
        top: The cgroup at the mount point.
    """

    version: int
    folder: Path
    top: str


def hierarchies(root: Path) -> list[Hierarchy]:
    """The hierarchies that this process sees, at most one per version."""
    found: dict[int, Hierarchy] = {}
    for line in (text(root / "proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        mount, system = left.split(), right.split()
        if len(mount) < 5 or len(system) < 3:
            continue
        version = {"cgroup": 1, "cgroup2": 2}.get(system[0])
        if version is None or (version == 1 and "cpu" not in system[2].split(",")):
            continue
        folder = root / _unescaped(mount[4]).lstrip("/")
        found.setdefault(version, Hierarchy(version, folder, _unescaped(mount[3])))
    return list(found.values())


def _unescaped(path: str) -> str:
    """Decode the octal escapes of mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def above(hierarchy: Hierarchy, membership: str) -> list[tuple[str, Path]]:
    """The cgroup of a process and all its parents.

    Args:
        hierarchy: The hierarchy to search.
        membership: The content of ``/proc/PID/cgroup``.

    Returns:
        Name and folder of each, the innermost first.
    """
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if hierarchy.version == 2 and number == "0" and not controllers:
            return _up(hierarchy, name)
        if hierarchy.version == 1 and "cpu" in controllers.split(","):
            return _up(hierarchy, name)
    return []


def _up(hierarchy: Hierarchy, name: str) -> list[tuple[str, Path]]:
    path, top = PurePosixPath(name), PurePosixPath(hierarchy.top)
    try:
        below = path.relative_to(top)
    except ValueError:  # outside what is mounted here: only the top is visible
        below = PurePosixPath()
    if ".." in below.parts:
        below = PurePosixPath()
    chain = [below, *below.parents] if below.parts else [below]
    return [(str(top / one), hierarchy.folder / one) for one in chain]


def limit(folder: Path) -> float | None:
    """The number of cores that a cgroup may use; None if unlimited."""
    content = text(folder / "cpu.max")
    if content is not None:
        quota, _, period = content.partition(" ")
    else:
        quota = text(folder / "cpu.cfs_quota_us") or ""
        period = text(folder / "cpu.cfs_period_us") or ""
    used, of = whole(quota), whole(period)
    return used / of if used and of and used > 0 else None


def lowest_limit(root: Path, pid: str = "self") -> float | None:
    """The lowest limit of all cgroups above a process, in cores; None if unlimited."""
    membership = text(root / f"proc/{pid}/cgroup") or ""
    limits = [
        limit(folder)
        for hierarchy in hierarchies(root)
        for _, folder in above(hierarchy, membership)
    ]
    return min((one for one in limits if one is not None), default=None)


class Cgroups:
    """Follows the quotas of the cgroups above some processes, which may be moved at any time.

    Attributes:
        limits: The latest quota of each cgroup that has had one, in cores.
    """

    def __init__(self, files: PolledFiles, root: Path) -> None:
        self._files, self._root = files, root
        self._hierarchies = hierarchies(root)
        self._memberships: set[str] = set()
        self._groups: dict[Path, str] = {}
        self._periods: dict[Path, int] = {}
        self.limits: dict[str, float] = {}

    def look(self, tally: CounterSums, pids: Iterable[int]) -> None:
        """Count the periods in which processes were throttled; call it regularly."""
        for pid in pids:
            membership = self._files.text(str(self._root / f"proc/{pid}/cgroup")) or ""
            if membership not in self._memberships:
                self._memberships.add(membership)
                for hierarchy in self._hierarchies:
                    self._groups.update((f, name) for name, f in above(hierarchy, membership))
        for folder, name in self._groups.items():
            self._count(folder, name, tally)

    def _count(self, folder: Path, name: str, tally: CounterSums) -> None:
        content = self._files.text(str(folder / "cpu.stat")) or ""
        stats = dict(line.split() for line in content.splitlines() if len(line.split()) == 2)
        periods, stopped = whole(stats.get("nr_periods")), whole(stats.get("nr_throttled"))
        if periods is None or stopped is None:
            return
        seconds = (whole(stats.get("throttled_usec")) or 0) / 1e6
        seconds += (whole(stats.get("throttled_time")) or 0) / 1e9  # the name in version 1
        tally.count(("quota", name, PERIODS), periods, folder)
        tally.count(("quota", name, STOPPED), stopped, folder)
        tally.count(("quota", name, STOPPED_S), seconds, folder)
        if self._periods.get(folder) != periods:  # periods are counted only while there is a quota
            self._periods[folder] = periods
            cores = limit(folder)
            if cores is not None:
                self.limits[name] = cores
