"""Every sink of a run in a thread of its own, behind a bounded queue.

A sink that is slow, hangs or fails does not hold up other sinks or live streams. When a queue is
full, live streams drop its oldest live result, and finite streams wait: their scheduler skips them
until every queue has room.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgevid.errors import named_reason

if TYPE_CHECKING:
    from edgevid.results import Result
    from edgevid.sinks import Sink

RESULTS, FRAMES = 1024, 8
"""How many results a queue holds by default, without and with their frames."""
COLLECT_S = 0.05
"""How long a sink's thread waits for a batch of a finite stream to fill."""


class SinkThread(threading.Thread):
    """One sink with its queue.

    Every result that was put is either ``written``, ``failed``, ``dropped`` or still queued.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        sink: Sink,
        *,
        capacity: int | None = None,
        is_essential: bool = False,
        failed: Callable[[], object] = bool,
    ) -> None:
        """Prepare the thread; `start` it before the first `put`.

        Args:
            name: Name of the sink in the status.
            kind: Name of its plug-in.
            sink: The sink; closed by its thread.
            capacity: Results that the queue holds.
            is_essential: The run ends with the sink's first error, which is kept in ``fatal``.
            failed: Called when an essential sink failed, from its thread.
        """
        super().__init__(name=f"sink {name}", daemon=True)
        self.sink_name, self.kind, self.sink = name, kind, sink
        self.capacity = capacity or (FRAMES if sink.needs_frame else RESULTS)
        self.written = self.failed = self.dropped = 0
        self.error: str | None = None
        """Why the last result could not be written; None if it was."""
        self.fatal: BaseException | None = None
        self._is_essential, self._failed = is_essential, failed
        self._batch = max(1, self.capacity // 4)
        self._waiting: deque[tuple[Result, bool]] = deque()
        self._live_waiting = self._in_hand = 0
        self._work = threading.Condition()
        self._closing = self._reopening = False

    @property
    def queued(self) -> int:
        """Results that wait, or are being written."""
        return len(self._waiting) + self._in_hand

    def has_room(self) -> bool:
        """Whether a finite stream may put another result."""
        return len(self._waiting) < self.capacity

    def put(self, result: Result, *, live: bool) -> None:
        """Queue a result; never waits. A full queue drops its oldest live result for a live one."""
        with self._work:
            if live and len(self._waiting) >= self.capacity and not self._drop_oldest():
                self.dropped += 1
                return
            self._waiting.append((result, live))
            self._live_waiting += live
            # One wake-up per batch: for each result it would cost as much as writing it.
            if live or len(self._waiting) in (1, self._batch):
                self._work.notify()

    def _drop_oldest(self) -> bool:
        for position, (_, live) in enumerate(self._waiting):
            if live:
                del self._waiting[position]
                self._live_waiting -= 1
                self.dropped += 1
                return True
        return False

    def reopen(self) -> None:
        """Let the sink open its files again, soon."""
        with self._work:
            self._reopening = True
            self._work.notify()

    def finish(self) -> None:
        """Write what is queued, close the sink, and end the thread; returns at once."""
        with self._work:
            self._closing = True
            self._work.notify()

    def wait(self, stall_s: float, *, at_most_s: float | None = None) -> bool:
        """Wait for the end after `finish`, for as long as the sink makes progress.

        Args:
            stall_s: Give up after so long without a result written or failed.
            at_most_s: Give up after so long in any case.

        Returns:
            Whether it ended. What is still queued otherwise counts as dropped.
        """
        end_s = None if at_most_s is None else time.monotonic() + at_most_s
        done, since_s = -1, time.monotonic()
        while self.is_alive():
            self.join(0.05)
            now = time.monotonic()
            if self.written + self.failed != done:
                done, since_s = self.written + self.failed, now
            if now - since_s > stall_s or (end_s is not None and now > end_s):
                break
        if self.is_alive():
            with self._work:
                self.dropped += len(self._waiting)
                self._waiting.clear()
                self.error = self.error or "it did not finish in time"
            return False
        return True

    def run(self) -> None:
        """Write batches until `finish`; whatever the sink raises is counted and kept."""
        while batch := self._take():
            self._write(batch)
            with self._work:
                self._in_hand = 0
        self._try(self.sink.close)

    def _take(self) -> list[Result] | None:
        """Wait for a batch; None at the end."""
        while True:
            with self._work:
                self._work.wait_for(lambda: self._waiting or self._closing or self._reopening)
                if self._waiting and not self._live_waiting:
                    self._work.wait_for(self._is_due, COLLECT_S)
                reopening, self._reopening = self._reopening, False
                if not reopening:
                    count = min(len(self._waiting), self._batch)
                    taken = [self._waiting.popleft() for _ in range(count)]
                    self._live_waiting -= sum(live for _, live in taken)
                    self._in_hand = len(taken)
                    return [result for result, _ in taken] or None
            self._try(self.sink.reopen)

    def _is_due(self) -> bool:
        enough = len(self._waiting) >= self._batch
        return bool(enough or self._live_waiting or self._closing or self._reopening)

    def _write(self, batch: Sequence[Result]) -> None:
        if self.fatal is not None:
            self.failed += len(batch)
            return
        accepted = 0
        for result in batch:
            accepted += self._try(self.sink.write, result)
        flushed = not accepted or self._try(self.sink.flush)
        written = accepted if flushed else 0
        self.written += written
        self.failed += len(batch) - written
        if written == len(batch):
            self.error = None

    def _try(self, call: Callable[..., None], *args: Result) -> bool:
        """Call the sink; False, with the reason kept, if it raised."""
        try:
            call(*args)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - of a plug-in: counted and shown
            self.error = _reason(error)
            if self._is_essential and self.fatal is None:
                self.fatal = error
                self._failed()
            return False
        return True


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return named_reason(error)


class SinkFanOut:
    """All sinks of a run; every scheduler puts its results here."""

    def __init__(self, threads: Sequence[SinkThread] = ()) -> None:
        self.threads: tuple[SinkThread, ...] = ()
        self.needs_frame = False
        self.replace(threads)

    def replace(self, threads: Sequence[SinkThread]) -> None:
        """Use these sinks from now on."""
        self.threads = tuple(threads)
        self.needs_frame = any(one.sink.needs_frame for one in threads)

    def put(self, result: Result, *, live: bool) -> None:
        """Queue a result for every sink; the frame only where it is needed."""
        for thread in self.threads:
            if result.frame is not None and not thread.sink.needs_frame:
                thread.put(replace(result, frame=None), live=live)
            else:
                thread.put(result, live=live)

    def has_room(self) -> bool:
        """Whether every queue has room for a finite stream's next result."""
        return all(thread.has_room() for thread in self.threads)
