"""A source behind a connection that may drop, freeze and come back.

    thread of each connection      open -> packets -> [queue]      FFmpeg may block as it likes
    thread that iterates           [queue] -> decoder -> frames    detects stalls, retries

A dead network only blocks a thread that nobody waits for: it ends at its own read time-out, while
the thread that iterates has long opened the next connection or has been stopped.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

from edgevid.errors import BadVideo
from edgevid.media.connection import POLL_S, ConnectionThread, Endpoint, OpenStream
from edgevid.media.decode import Arrivals
from edgevid.media.live_decoder import LiveDecoder
from edgevid.media.sources import Report, SourceOptions
from edgevid.media.timing import Backoff, StallDetector
from edgevid.media.unavailable import CHECK, Reason, Unavailable
from edgevid.results import Frame

DUE_MARGIN_S = 1.0
"""Margin of what `ReconnectingSource.due_s` promises."""
STEADY_S = 5.0
"""A connection that lasted this long was no failed attempt."""
FINITE_S = 20.0
"""A server of files may be silent for so long."""
NEEDS_PEOPLE = {Reason.AUTH, Reason.CERTIFICATE, Reason.NOT_FOUND, Reason.CODEC}
"""Reasons that only people can remove."""
FILE_ATTEMPTS = 5
"""Attempts to open the URL of a file, for reasons that may pass."""


class _Stopped(Exception):
    """`ReconnectingSource.stop` was called."""


class ReconnectingSource:
    """Frames of an endpoint until it is stopped, over as many connections as that takes.

    A finite stream, such as a file over HTTP, ends by itself. Whether it is `live` is decided
    once the first connection is open, and never changes.
    """

    CLOSE_S = 1.0

    def __init__(
        self,
        endpoint: Endpoint,
        options: SourceOptions,
        report: Report,
        backoff: Backoff | None = None,
        *,
        live: bool | None = True,
        is_file: bool = False,
    ) -> None:
        """Prepare; nothing is opened before the iteration.

        Args:
            endpoint: What to connect to.
            options: How to read it.
            report: Gets one line whenever the state of the stream changes.
            backoff: When to retry.
            live: Whether the stream is endless; None if that is known only once it is open.
            is_file: Whether the name is a file's, so that `decide` gives up where nothing is.
        """
        self.name = endpoint.name
        self.live = live
        self.truncated = False
        self.arrivals = Arrivals()
        self._endpoint, self._report_line = endpoint, report
        self._is_file = is_file
        self._backoff = backoff or Backoff()
        self._stalls = StallDetector(self._backoff, options.stall_s)
        self._decoder = LiveDecoder(self.name, self.arrivals, options, self._report)
        self._stopping = threading.Event()
        self._thread: ConnectionThread | None = None
        self._state, self._since_s = "connecting", time.monotonic()
        self._why: Unavailable | None = None
        self._reported: set[Reason] = set()
        self._got_frame = False
        self._connections = 0
        self._first: tuple[ConnectionThread, Any] | None = None
        self._promise(self._stalls.limit_s)

    def decide(self) -> None:
        """Open the first connection now, and wait until it is known whether the stream is live.

        If it cannot be opened in time, that stays unknown, and the iteration tries again.

        Raises:
            BadVideo: The name is a file's, and there is no such file or no way to it.
        """
        if self.live is not None or self._first is not None:
            return
        for attempts in itertools.count(1):
            thread, item = self._first = self._open_first()
            if not (isinstance(item, Unavailable) and self._is_file):
                break
            if item.reason in NEEDS_PEOPLE or attempts == FILE_ATTEMPTS:
                raise BadVideo(f"{self.name}: {item.detail}; {CHECK[item.reason]}")
            thread.abandon()
            self._connection_lost(item, "retrying a few times")
            self._wait(self._backoff.delay_s(item.reason, attempts))
        if isinstance(item, OpenStream):
            self.live = not item.finite

    def _open_first(self) -> tuple[ConnectionThread, Any]:
        """Start a connection and wait for its first item, or for what went wrong."""
        thread = self._thread = ConnectionThread(self._endpoint, self._stalls)
        thread.start()
        try:
            return thread, self._next(thread, time.perf_counter())
        except (Unavailable, _Stopped) as error:
            return thread, error.with_traceback(None)

    def __iter__(self) -> Iterator[Frame]:
        attempts = 0
        try:
            while True:
                began, self._got_frame = time.monotonic(), False
                why = yield from self._attempt()
                if self.live is False:
                    self.truncated = why.reason is not Reason.ENDED or self._decoder.incomplete
                    if not self._decoder.frames:
                        raise BadVideo(
                            f"{self.name}: no frame could be decoded ({why.detail}); download the "
                            "file and run that"
                        )
                    break
                steady = self._got_frame and time.monotonic() - began > STEADY_S
                attempts = 0 if steady else attempts + 1
                self._connection_lost(why)
                self._wait(self._backoff.delay_s(why.reason, attempts))
        except _Stopped:
            pass
        finally:
            self._enter("ended")

    def _attempt(self) -> Generator[Frame, None, Unavailable]:
        """Read one connection from its opening to its end, and return what ended it."""
        if self._stopping.is_set():
            raise _Stopped
        self._stalls.begin()
        thread, opened = self._first or (ConnectionThread(self._endpoint, self._stalls), None)
        self._thread, self._first = thread, None
        if opened is None:
            thread.start()
        try:
            yield from self._read(thread, opened)
        except Unavailable as why:
            return Unavailable(why.reason, why.detail)  # without its traceback
        finally:
            thread.abandon()
        raise AssertionError("a connection ends with a reason")

    def _read(self, thread: ConnectionThread, opened: Any) -> Generator[Frame, None, None]:
        if opened is None:
            opened = self._next(thread, time.perf_counter())
        if isinstance(opened, BaseException):
            raise opened
        if self.live is None:
            self.live = not opened.finite
        if not self.live:
            self._stalls.least_s = FINITE_S
        self._decoder.begin(opened)
        self._stalls.declare(self._decoder.declared_fps)
        if opened.note and not self._connections:
            self._report(opened.note)
        last_s = time.perf_counter()
        try:
            while True:
                # A file waits for its reader, so its silence begins when the reader waits.
                since_s = last_s if self.live else time.perf_counter()
                packet, last_s = self._next(thread, since_s)
                self._stalls.packet(last_s)
                for frame in self._decoder.take(packet, last_s, self.live):
                    self._connected()
                    yield frame
        finally:
            self._decoder.end()

    def _next(self, thread: ConnectionThread, since_s: float) -> Any:
        """Wait for the connection's next item for as long as the camera may be silent."""
        limit_s = self._stalls.limit_s
        while not self._stopping.is_set():
            left_s = max(0.0, since_s + limit_s - time.perf_counter())
            self._promise(left_s)
            try:
                item = thread.items.get(block=left_s > 0, timeout=min(left_s, POLL_S))
            except queue.Empty:
                if left_s > 0:
                    continue
                self._stalls.stalled()
                raise Unavailable(Reason.TIME_OUT, f"silent for {limit_s:.1f} s") from None
            if isinstance(item, BaseException):
                try:
                    raise item
                finally:
                    del item  # its traceback holds this frame: a cycle that keeps the decoder alive
            return item
        raise _Stopped

    def _promise(self, seconds: float) -> None:
        self.due_s = time.monotonic() + seconds + DUE_MARGIN_S

    def _enter(self, state: str) -> None:
        if state != self._state:
            self._state, self._since_s = state, time.monotonic()

    def _connected(self) -> None:
        """The first frame of a connection, which is reported once."""
        if self._got_frame:
            return
        self._got_frame = True
        self._connections += 1
        ago_s = time.monotonic() - self._since_s
        self._report("open" if self._connections == 1 else f"back after {ago_s:.1f} s")
        self._enter("open")
        self._why = None
        self._reported.clear()

    def _connection_lost(self, why: Unavailable, how: str = "retrying until it is back") -> None:
        """Report the loss once, and once more for each reason that only people can remove."""
        self._why = why
        self._enter("waiting")
        new = why.reason not in self._reported
        if not self._reported or (new and why.reason in NEEDS_PEOPLE):
            self._reported.add(why.reason)
            self._report(f"{why.reason}: {why.detail}; {how}")

    def _report(self, what: str) -> None:
        self._report_line(f"{self.name}: {what}")

    def _wait(self, delay_s: float) -> None:
        self._promise(delay_s)
        self._stopping.wait(delay_s)

    def stop(self) -> None:
        """Request the end, from any thread; the iteration ends within `POLL_S`."""
        self._stopping.set()

    def close(self) -> None:
        """Wait a moment for the connection to close; a dead one is not waited for."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.abandon()
            self._thread.join(self.CLOSE_S)

    def status(self) -> dict[str, Any]:
        """The state as plain data; ``since_s`` is how long it has lasted."""
        why = self._why
        return {
            "state": self._state,
            "reason": str(why.reason) if why else None,
            "detail": why.detail if why else "",
            "reconnects": max(0, self._connections - 1),
            "since_s": round(time.monotonic() - self._since_s, 1),
            **self._decoder.status(),
        }
