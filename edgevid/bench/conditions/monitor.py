"""Looks at the machine while something is measured on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from edgevid.bench.conditions.record import Record


class Monitor:
    """Looks five times a second, in a thread of its own.

    ``pids`` gives the processes that are measured, whenever it is asked (from that thread); their
    children must be among them if they have some. This process itself need not be.
    """

    def __init__(self, pids: Callable[[], Iterable[int]], root: Path = Path("/")) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Begin, with a span that has no name until the first mark."""
        raise NotImplementedError

    def mark(self, label: str) -> None:
        """End the span that runs, and begin one of that name; names may come again."""
        raise NotImplementedError

    def stop(self) -> Record:
        """End the last span, and the thread. A second call gives the same record."""
        raise NotImplementedError

    def __enter__(self) -> Monitor:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
