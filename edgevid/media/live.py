"""A source that is somewhere else: it drops, freezes, comes back, and one goes on with it.

    thread of each connection      open -> packets -> [queue]     FFmpeg may block here as it likes
    thread that iterates           [queue] -> decoder -> pictures; says when to give up, and waits

So a dead network holds up a thread that nobody waits for: it ends at its own read time-out, while
the one that iterates has long taken the next connection, or has been stopped.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

from edgevid.media.connection import POLL_S, Camera, Feed
from edgevid.media.decode import Arrivals
from edgevid.media.pace import Patience, Rhythm
from edgevid.media.pictures import Pictures
from edgevid.media.sources import Reason, Say, SourceOptions, Unavailable
from edgevid.media.video import Captured

DUE_S = 1.0  # what is promised is promised with this much to spare
STEADY_S = 5.0  # a connection that lasted is no failed attempt


MENDABLE = {Reason.AUTH, Reason.NOT_FOUND, Reason.CODEC}


class _Stopped(Exception):
    """`LiveSource.stop` was called."""


class LiveSource:
    """Pictures of a camera for as long as nobody stops it, over as many connections as it takes."""

    CLOSE_S = 1.0

    def __init__(
        self, camera: Camera, options: SourceOptions, say: Say, patience: Patience | None = None
    ) -> None:
        self.name = camera.name
        self.live = True
        self.truncated = False
        self.arrivals = Arrivals()
        self._camera, self._say = camera, say
        self._patience = patience or Patience()
        self._rhythm = Rhythm(self._patience, options.stall_s)
        self._pictures = Pictures(self.arrivals, options, self._tell)
        self._stopping = threading.Event()
        self._feed: Feed | None = None
        self._state, self._since = "connecting", time.monotonic()
        self._why: Unavailable | None = None
        self._told: set[Reason] = set()
        self._opened = self._finite = False
        self._connections = 0
        self._promise(self._rhythm.limit_s)

    def __iter__(self) -> Iterator[Captured]:
        attempts = 0
        try:
            while True:
                began, self._opened = time.monotonic(), False
                why = yield from self._attempt()
                if self._finite:
                    self.truncated = why.reason is not Reason.ENDED or not self._pictures.shown
                    break
                steady = self._opened and time.monotonic() - began > STEADY_S
                attempts = 0 if steady else attempts + 1
                self._lost(why)
                self._wait(self._patience.delay_s(why.reason, attempts))
        except _Stopped:
            pass
        finally:
            self._enter("ended")

    def _attempt(self) -> Generator[Captured, None, Unavailable]:
        """Take one connection from its opening to its end, and say what ended it."""
        if self._stopping.is_set():
            raise _Stopped
        self._rhythm.begin()
        feed = self._feed = Feed(self._camera, self._rhythm)
        feed.start()
        try:
            yield from self._connection(feed)
        except Unavailable as why:
            return Unavailable(why.reason, why.detail)  # without its traceback
        finally:
            feed.let_go()
        raise AssertionError("a connection ends with a reason")

    def _connection(self, feed: Feed) -> Generator[Captured, None, None]:
        opened: Any = self._next(feed, time.perf_counter())
        self._pictures.begin(opened)
        self._rhythm.declare(self._pictures.declared_fps)
        self._finite, self.live = opened.finite, not opened.finite
        last_s = time.perf_counter()
        try:
            while True:
                packet, last_s = self._next(feed, last_s)
                self._rhythm.beat(last_s)
                for captured in self._pictures.take(packet, last_s, self.live):
                    self._found()
                    yield captured
        finally:
            self._pictures.end()

    def _next(self, feed: Feed, since_s: float) -> Any:
        """Wait for what ``feed`` hands over, as long as the camera may be silent."""
        limit_s = self._rhythm.limit_s
        while not self._stopping.is_set():
            left_s = max(0.0, since_s + limit_s - time.perf_counter())
            self._promise(left_s)
            try:
                item = feed.items.get(block=left_s > 0, timeout=min(left_s, POLL_S))
            except queue.Empty:
                if left_s > 0:
                    continue
                self._rhythm.missed()
                raise Unavailable(Reason.TIME_OUT, f"silent for {limit_s:.1f} s") from None
            if isinstance(item, BaseException):
                try:
                    raise item
                finally:
                    del item  # its traceback holds this frame: else a circle, decoder and all
            return item
        raise _Stopped

    def _promise(self, seconds: float) -> None:
        self.due_s = time.monotonic() + seconds + DUE_S

    def _enter(self, state: str) -> None:
        if state != self._state:
            self._state, self._since = state, time.monotonic()

    def _found(self) -> None:
        """A picture, so it is open; told once."""
        if self._opened:
            return
        self._opened = True
        self._connections += 1
        ago_s = time.monotonic() - self._since
        self._tell("open" if self._connections == 1 else f"back after {ago_s:.1f} s")
        self._enter("open")
        self._why = None
        self._told.clear()

    def _lost(self, why: Unavailable) -> None:
        """No picture: told once, and once more for what only people can mend."""
        self._why = why
        self._enter("waiting")
        if not self._told or (why.reason in MENDABLE and why.reason not in self._told):
            self._told.add(why.reason)
            self._tell(f"{why.reason}: {why.detail}; trying again until it is back")

    def _tell(self, what: str) -> None:
        self._say(f"{self.name}: {what}")

    def _wait(self, delay_s: float) -> None:
        self._promise(delay_s)
        self._stopping.wait(delay_s)

    def stop(self) -> None:
        """Ask for the end, from any thread; the iteration ends within `POLL_S`."""
        self._stopping.set()

    def close(self) -> None:
        """Wait a moment for the connection to say goodbye; a dead one is not waited for."""
        self._stopping.set()
        if self._feed is not None:
            self._feed.let_go()
            self._feed.join(self.CLOSE_S)

    def status(self) -> dict[str, Any]:
        """Say how it is, as plain data; ``since_s`` it was last found, or lost."""
        why = self._why
        return {
            "state": self._state,
            "reason": str(why.reason) if why else None,
            "detail": why.detail if why else "",
            "reconnects": max(0, self._connections - 1),
            "since_s": round(time.monotonic() - self._since, 1),
            **self._pictures.status(),
        }
