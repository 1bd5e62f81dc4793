"""Small files that are read again and again, and counts that only rise."""

from __future__ import annotations

import os
from collections.abc import Hashable

from edgevid.system.kernel import clean

MOST_OPEN = 256
"""Many systems give a process 1024 descriptors; the rest is for those who measure."""
LARGEST = 16384
Key = tuple[str, ...]


class PolledFiles:
    """Reads files of ``/proc`` and ``/sys`` from their beginning, and keeps them open.

    A file that vanished or may not be read is None, and is tried again the next time.
    """

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def text(self, path: str) -> str | None:
        """What a file holds now."""
        try:
            descriptor = self._open.get(path)
            if descriptor is None:
                return self._first(path)
            return clean(os.pread(descriptor, LARGEST, 0))
        except OSError:  # among them: that process has ended
            self.forget(path)
            return None

    def _first(self, path: str) -> str:
        descriptor = os.open(path, os.O_RDONLY)
        if len(self._open) < MOST_OPEN:
            self._open[path] = descriptor
            return clean(os.pread(descriptor, LARGEST, 0))
        try:
            return clean(os.pread(descriptor, LARGEST, 0))
        finally:
            os.close(descriptor)

    def forget(self, path: str) -> None:
        """Close one file."""
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Close all files."""
        for path in list(self._open):
            self.forget(path)


class CounterSums:
    """Sums of what counts of many things rose by: of threads and cgroups that come and go."""

    def __init__(self) -> None:
        self.sums: dict[Key, float] = {}
        self._last: dict[tuple[Key, Hashable], float] = {}

    def add(self, key: Key, more: float) -> None:
        """Add to a sum."""
        self.sums[key] = self.sums.get(key, 0) + more

    def count(self, key: Key, value: float, whose: Hashable = "", *, new: bool = False) -> None:
        """Add what a count rose by since it was last seen.

        One that is seen for the first time is where it begins, unless it belongs to something
        ``new``, which began at 0. One that fell has begun anew, and is where it begins, too.
        """
        last = self._last.get((key, whose), 0.0 if new else value)
        self._last[key, whose] = value
        self.add(key, max(0.0, value - last))

    def snapshot(self) -> dict[Key, float]:
        """All sums as they are now."""
        return dict(self.sums)
