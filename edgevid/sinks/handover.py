"""Hands results over to another thread of this process, which iterates over them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgevid.settings import NoOptions
from edgevid.sinks import Sink

if TYPE_CHECKING:
    from edgevid.results import Result

READ_AHEAD = 64
"""Results that are taken from the sink's queue before the reader asks for them."""


class Handover(Sink):
    """A sink whose results are read by iterating over it, in any one thread."""

    def __init__(self) -> None:
        super().__init__(NoOptions())
        self._capacity = 1 if self.needs_frame else READ_AHEAD
        self._waiting: deque[Result] = deque()
        self._changed = threading.Condition()
        self._ended = self._abandoned = False

    def write(self, result: Result) -> None:
        """Wait until the reader has taken earlier results, then hand over this one."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < self._capacity or self._abandoned)
            if not self._abandoned:
                self._waiting.append(result)
                self._changed.notify_all()

    def end(self) -> None:
        """No more results will come: the reader's iteration ends after those that wait."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """The reader takes no more results: drop them from now on."""
        with self._changed:
            self._abandoned = True
            self._waiting.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Result]:
        """Yield results as they come, until `end`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    return
                result = self._waiting.popleft()
                self._changed.notify_all()
            yield result


class FrameHandover(Handover):
    """The same, with the frame of each result."""

    needs_frame = True
