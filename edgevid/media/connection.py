"""One connection to a stream, in a thread that FFmpeg may block for as long as it likes."""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgevid.errors import BadVideo
from edgevid.media.decode import is_flush, video_stream
from edgevid.media.unavailable import Reason, Unavailable, unavailable

if TYPE_CHECKING:
    from edgevid.media.timing import StallDetector

POLL_S = 0.25
"""How soon a thread notices that its connection is no longer wanted."""
QUEUE_PACKETS = 64


@dataclass(frozen=True)
class OpenStream:
    """A connection that delivers video.

    Attributes:
        container: The `av` container.
        decoder: What decodes it, for the status.
        clockless: Its time stamps are meaningless, so frames are timed by their arrival.
        finite: It has an end, like a file.
        note: What people should know about it.
    """

    container: Any
    decoder: str = "software"
    clockless: bool = False
    finite: bool = False
    note: str = ""


class Connection(Protocol):
    """One attempt to connect."""

    def open(self, open_s: float, read_s: Any) -> OpenStream:
        """Open the stream. Blocks, in a thread of its own.

        Args:
            open_s: Seconds that FFmpeg may take to open it.
            read_s: Seconds that FFmpeg may take for a packet. Pass it on as it is: its value
                changes with the stream.

        Returns:
            The open stream.

        Raises:
            Unavailable: The peer cannot be used.
            av.FFmpegError: FFmpeg cannot open it.
        """

    def end(self) -> None:
        """End what runs beside the container. Any thread may call it, at any time, repeatedly."""


class Endpoint(Protocol):
    """What a kind of reconnecting source provides.

    Attributes:
        name: What people see; never with a password.
    """

    name: str

    def connection(self) -> Connection:
        """Prepare the next attempt."""


class ConnectionThread(threading.Thread):
    """Opens one connection and reads its packets into a queue.

    Attributes:
        items: What the connection delivers: the `OpenStream`, then packets with the
            `time.perf_counter` of their arrival, then the error that ended it.
    """

    def __init__(self, endpoint: Endpoint, stalls: StallDetector) -> None:
        super().__init__(name=f"connection to {endpoint.name}", daemon=True)
        self._connection, self._stalls = endpoint.connection(), stalls
        self._abandoned = threading.Event()
        self.items: queue.Queue[OpenStream | tuple[Any, float] | BaseException] = queue.Queue(
            QUEUE_PACKETS
        )

    def run(self) -> None:
        """Open and read until the connection ends or is abandoned; then close it."""
        import av

        opened: OpenStream | None = None
        try:
            opened = self._connection.open(self._stalls.limit_s, self._stalls)
            self._put(opened)
            self._read(opened.container)
        except av.FFmpegError as error:
            self._put(unavailable(error, opening=opened is None))
        except BadVideo as error:
            self._put(Unavailable(Reason.CODEC, str(error)))
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that iterates
            self._put(error)
        # The decoder belongs to the container, which must outlive it.
        self._abandoned.wait()
        if opened is not None:
            opened.container.close()
        self._connection.end()
        return_freed_memory()

    def _read(self, container: Any) -> None:
        stream = video_stream(container)
        while not self._abandoned.is_set():
            # PyAV reads the time limit once per iterator, so each packet gets its own iterator.
            packet = next(container.demux(stream), None)
            arrived_s = time.perf_counter()
            if packet is not None:
                self._put((packet, arrived_s))
            if packet is None or is_flush(packet):
                self._put(Unavailable(Reason.ENDED, "the stream ended"))
                return

    def _put(self, item: OpenStream | tuple[Any, float] | BaseException) -> None:
        while not self._abandoned.is_set():
            try:
                self.items.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            return

    def abandon(self) -> None:
        """Nobody decodes its packets any more; the thread ends as soon as FFmpeg returns."""
        self._abandoned.set()
        self._connection.end()


def return_freed_memory() -> None:
    """Return freed memory to the system, if the C library can.

    Each connection frees buffers of all sizes; kept for reuse they add some 7 MB to what one
    connection needs, for each camera.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
