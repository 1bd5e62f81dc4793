"""One connection to a camera, in a thread that FFmpeg may block for as long as it likes."""

from __future__ import annotations

import ctypes
import errno
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgevid.media.sources import Reason, Unavailable

if TYPE_CHECKING:
    from edgevid.media.pace import Rhythm

POLL_S = 0.25  # how soon it is noticed that nobody wants a connection any more
QUEUE_PACKETS = 64


@dataclass(frozen=True)
class Opened:
    """A connection with pictures in it."""

    container: Any
    decoder: str = "software"
    clockless: bool = False
    """Its time stamps say nothing, so frames are timed by their arrival."""
    finite: bool = False
    """It has an end, like a file."""


class Connection(Protocol):
    """One attempt at a camera."""

    def open(self, open_s: float, read_s: Any) -> Opened:
        """Open it; raises `Unavailable` or `av.FFmpegError`.

        It blocks, in a thread of its own. ``open_s`` and ``read_s`` are the seconds that FFmpeg may
        take; the latter is to be handed on as it is, because it changes with the stream.
        """

    def end(self) -> None:
        """End what runs beside the container; from any thread, at any time, more than once."""


class Camera(Protocol):
    """What a kind of live source brings."""

    name: str

    def connection(self) -> Connection:
        """Give what makes the next attempt."""


class Feed(threading.Thread):
    """One connection, opened and read in a thread that may block for as long as it does."""

    def __init__(self, camera: Camera, rhythm: Rhythm) -> None:
        super().__init__(name=f"connection to {camera.name}", daemon=True)
        self._connection, self._rhythm = camera.connection(), rhythm
        self._unwanted = threading.Event()
        self.items: queue.Queue[Opened | tuple[Any, float] | BaseException] = queue.Queue(
            QUEUE_PACKETS
        )

    def run(self) -> None:
        """Open, read, and hand over; what ends it comes last. Closes when nobody wants it."""
        import av

        opened: Opened | None = None
        try:
            opened = self._connection.open(self._rhythm.limit_s, self._rhythm)
            self._put(opened)
            self._read(opened.container)
        except av.FFmpegError as error:
            self._put(unavailable(error, opening=opened is None))
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that iterates
            self._put(error)
        # The decoder belongs to the container, so it lives until nobody decodes any more.
        self._unwanted.wait()
        if opened is not None:
            opened.container.close()
        self._connection.end()
        give_back_memory()

    def _read(self, container: Any) -> None:
        stream = container.streams.video[0]
        while not self._unwanted.is_set():
            # PyAV asks for the time limit once for each iterator: so it is one for each packet.
            packet = next(container.demux(stream), None)
            arrived_s = time.perf_counter()
            if packet is not None:
                self._put((packet, arrived_s))
            if packet is None or not packet.size:  # without data: makes the decoder give the rest
                self._put(Unavailable(Reason.ENDED, "the stream ended"))
                return

    def _put(self, item: Opened | tuple[Any, float] | BaseException) -> None:
        while not self._unwanted.is_set():
            try:
                self.items.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            return

    def let_go(self) -> None:
        """Nobody decodes its packets any more; it ends when FFmpeg lets it."""
        self._unwanted.set()
        self._connection.end()


def give_back_memory() -> None:
    """Hand freed memory back to the system, where its C library can.

    Each connection frees buffers of all sizes; kept for reuse they settle at some 7 MB more than
    one connection needs, for each camera.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


REASONS = {
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.EBUSY: Reason.REFUSED,
    errno.EHOSTUNREACH: Reason.UNREACHABLE,
    errno.ENETUNREACH: Reason.UNREACHABLE,
    errno.ENETDOWN: Reason.UNREACHABLE,
    errno.EIO: Reason.UNREACHABLE,
    errno.EACCES: Reason.AUTH,
    errno.EPERM: Reason.AUTH,
    errno.ENOENT: Reason.NOT_FOUND,
    errno.ENODEV: Reason.NOT_FOUND,
    errno.ENXIO: Reason.NOT_FOUND,
    errno.ETIMEDOUT: Reason.TIME_OUT,
    errno.EINVAL: Reason.CODEC,
}
NAMED_REASONS = {
    "HTTPUnauthorizedError": Reason.AUTH,
    "HTTPForbiddenError": Reason.AUTH,
    "HTTPNotFoundError": Reason.NOT_FOUND,
    "HTTPClientError": Reason.REFUSED,
    "HTTPError": Reason.REFUSED,
    "ExitError": Reason.TIME_OUT,
    "InvalidDataError": Reason.CODEC,
    "LookupError": Reason.CODEC,
    "PatchWelcomeError": Reason.CODEC,
}
ADVICE = {Reason.AUTH: "check user and password", Reason.CODEC: "FFmpeg cannot read what it sends"}


def unavailable(error: Any, *, opening: bool) -> Unavailable:
    """What an FFmpeg error means. Its own text is left out: it holds the URL, password and all."""
    named = (NAMED_REASONS.get(kind.__name__) for kind in type(error).__mro__)
    reason = next((found for found in named if found), None) or REASONS.get(error.errno)
    if reason is Reason.TIME_OUT:
        return Unavailable(reason, "it stopped answering")
    if not opening or reason is None:
        return Unavailable(Reason.ENDED, f"the connection broke ({error.strerror})")
    advice = ADVICE.get(reason)
    return Unavailable(reason, f"{error.strerror}; {advice}" if advice else str(error.strerror))
