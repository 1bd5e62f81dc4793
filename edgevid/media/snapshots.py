"""Cameras that answer each HTTP request with one image, fetched again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from edgevid.media.decode import is_flush

INTERVAL_S = 1.0
"""Time between two requests, unless the rate of a source is given."""
MAX_INTERVAL_S = 10.0


class Snapshots:
    """An endless stream of images, to its reader an `av` container with one video stream."""

    def __init__(
        self, container: Any, first: Any, reopen: Callable[[], Any], interval_s: float
    ) -> None:
        """Take over an open container.

        Args:
            container: The `av` container that held one picture.
            first: Its packet.
            reopen: Requests the next picture and gives an `av` container.
            interval_s: Time between two requests in seconds.
        """
        self._container, self._first, self._reopen = container, first, reopen
        self._interval_s, self._due_s = interval_s, time.monotonic() + interval_s
        self.streams, self.format = container.streams, container.format
        self.start_time = None

    def demux(self, stream: Any) -> Iterator[Any]:
        """Yield the next image's packet when it is due.

        Args:
            stream: The video stream that its decoder belongs to.

        Yields:
            One packet; none if the camera sends no picture any more.

        Raises:
            av.FFmpegError: The camera cannot be reached.
        """
        packet, self._first = self._first, None
        if packet is None:
            time.sleep(max(0.0, self._due_s - time.monotonic()))
            self._due_s = time.monotonic() + self._interval_s
            container = self._reopen()
            try:
                packet = next(container.demux(video=0), None)
            finally:
                container.close()
            if packet is None or is_flush(packet):
                return
            packet.stream = stream
        yield packet

    def close(self) -> None:
        """Close the first container, which owns the decoder."""
        self._container.close()


def only_picture(container: Any) -> tuple[Any, list[Any]]:
    """Read ahead in a stream of still images.

    Args:
        container: An open `av` container.

    Returns:
        The packet of its only picture, or None if there are more or none; and what was read.
    """
    read: list[Any] = []
    for packet in container.demux(video=0):
        if is_flush(packet):
            return (read[0] if len(read) == 1 else None), [*read, packet]
        read.append(packet)
        if len(read) == 2:
            break
    return None, read


class ReadAhead:
    """An `av` container from which some packets were read already."""

    def __init__(self, container: Any, packets: list[Any]) -> None:
        """Take over an open container.

        Args:
            container: The `av` container.
            packets: What was read, in order.
        """
        self._container, self._packets = container, packets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self, stream: Any) -> Iterator[Any]:
        """Yield the packets that were read, then the others."""
        while self._packets:
            yield self._packets.pop(0)
        yield from self._container.demux(stream)
