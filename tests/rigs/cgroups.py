"""Real cgroups with CPU quotas, in whichever version this machine has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgevid.system.cgroups import hierarchies
from rigs.need import missing, need_root
from rigs.processes import wait_for


class Cgroup:
    """A cgroup that can limit the CPU; processes may be moved there."""

    def __init__(self, folder: Path, version: int) -> None:
        self.folder, self._version = folder, version
        folder.mkdir()

    def take(self, pid: int) -> None:
        """Move a process here."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def limit(self, cores: float | None) -> None:
        """Allow so many cores, in periods of 0.1 s."""
        quota = None if cores is None else round(100_000 * cores)
        if self._version == 2:
            (self.folder / "cpu.max").write_text(f"{'max' if quota is None else quota} 100000")
        else:
            (self.folder / "cpu.cfs_quota_us").write_text(str(-1 if quota is None else quota))

    def below(self, name: str) -> Cgroup:
        """A cgroup within this one."""
        if self._version == 2:
            (self.folder / "cgroup.subtree_control").write_text("+cpu")
        return Cgroup(self.folder / name, self._version)


@contextmanager
def cgroup() -> Iterator[Cgroup]:
    """Make a cgroup, and remove it with all below it; its processes are moved out."""
    need_root()
    top = _with_quotas()
    made = Cgroup(top[0] / f"edgevid-test-{os.getpid()}", top[1])
    try:
        yield made
    finally:
        inner = sorted((path for path in made.folder.rglob("*") if path.is_dir()), reverse=True)
        for folder in (*inner, made.folder):
            wait_for(lambda folder=folder: _removed(folder, top[0]))


def _with_quotas() -> tuple[Path, int]:
    for hierarchy in hierarchies(Path("/")):
        if hierarchy.version == 1:
            if (hierarchy.folder / "cpu.cfs_quota_us").exists():
                return hierarchy.folder, 1
        else:
            with suppress(OSError):
                (hierarchy.folder / "cgroup.subtree_control").write_text("+cpu")
                return hierarchy.folder, 2
    missing("a cgroup with CPU quotas", "mount -t cgroup2 none /sys/fs/cgroup, or -t cgroup -o cpu")
    raise AssertionError


def _removed(folder: Path, top: Path) -> bool:
    for pid in (folder / "cgroup.procs").read_text().split():
        with suppress(OSError):
            (top / "cgroup.procs").write_text(pid)
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()
