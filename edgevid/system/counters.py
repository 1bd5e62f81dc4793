"""Reading counters of ``/proc`` and ``/sys`` repeatedly and summing their increments."""

from __future__ import annotations

import os
from collections.abc import Hashable

from edgevid.system.kernel import clean

MOST_OPEN = 256
"""Many systems limit a process to 1024 descriptors; the rest is for what is measured."""
LARGEST = 16384
Key = tuple[str, ...]


class PolledFiles:
    """Keeps files of ``/proc`` and ``/sys`` open and reads them from the beginning each time."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def text(self, path: str) -> str | None:
        """The present content of a file; None if it cannot be read, which is retried each time."""
        try:
            descriptor = self._open.get(path)
            if descriptor is None:
                return self._first(path)
            return clean(os.pread(descriptor, LARGEST, 0))
        except OSError:  # the process has ended, for instance
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
    """Sums of the increments of counters owner threads, processes and cgroups come and go."""

    def __init__(self) -> None:
        self.sums: dict[Key, float] = {}
        self._last: dict[tuple[Key, Hashable], float] = {}

    def add(self, key: Key, more: float) -> None:
        """Add to a sum."""
        self.sums[key] = self.sums.get(key, 0) + more

    def count(self, key: Key, value: float, owner: Hashable = "", *, new: bool = False) -> None:
        """Add the increment of a counter since its last value.

        Args:
            key: The sum to add to.
            value: The counter's present value.
            owner: What the counter belongs to, such as a thread.
            new: Whether that started since the last look, so that its counter began at 0. Otherwise
                the first value adds nothing. A counter that has decreased was reset and adds
                nothing either.
        """
        last = self._last.get((key, owner), 0.0 if new else value)
        self._last[key, owner] = value
        self.add(key, max(0.0, value - last))

    def snapshot(self) -> dict[Key, float]:
        """A copy of all sums."""
        return dict(self.sums)
