"""Transfer of blobs to a device: only what is missing there, resumed, and as one stream.

Requests are pipelined, so that the link is never idle: the device hashes and syncs one blob while
the next one is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edgevid.errors import EnvironmentFailed
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.package import size_of
from edgevid.flash.replies import BLOB, MISSING, offsets
from edgevid.progress import Progress, silent

CHUNK = 1 << 18
_STEPS_A_SECOND = 10  # of a limited transfer, so that it flows evenly


class RateLimit:
    """Limits a stream to a number of kilobits a second; None: no limit."""

    def __init__(
        self,
        kbit: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_a_second = None if kbit is None else kbit * 1000 / 8
        self._clock, self._sleep = clock, sleep
        self._due: float | None = None

    @property
    def chunk(self) -> int:
        """The number of bytes to send at once."""
        if self._bytes_a_second is None:
            return CHUNK
        return max(1, min(CHUNK, int(self._bytes_a_second / _STEPS_A_SECOND)))

    def wait(self, count: int) -> None:
        """Wait until ``count`` more bytes may be sent; a pause elsewhere is not made up for."""
        if self._bytes_a_second is None:
            return
        now = self._clock()
        due = now if self._due is None else max(self._due, now)
        self._due = due + count / self._bytes_a_second
        if due > now:
            self._sleep(due - now)


def missing_blobs(
    device: AgentClient, sizes: Mapping[str, int], beside: str | None = None
) -> dict[str, int]:
    """Ask which blobs the device does not have whole.

    Args:
        device: The device.
        sizes: The size of each blob in bytes, by its sha256.
        beside: Another folder of edgevid there, which may have them.

    Returns:
        How many bytes of each the device has.

    Raises:
        DeviceFailed: The device cannot be reached, or its answer cannot be read.
    """
    fields = {"blobs": dict(sizes), **({} if beside is None else {"beside": beside})}
    return offsets(device.call(MISSING, fields), sizes, device.name)


def send(
    device: AgentClient,
    blobs: Mapping[str, Path | bytes],
    missing: Mapping[str, int],
    *,
    limit_kbit: float | None = None,
    progress: Progress = silent,
) -> int:
    """Send the rest of each missing blob.

    Args:
        device: The device.
        blobs: The contents, by their sha256.
        missing: How many bytes of each missing blob the device has; see `missing_blobs`.
        limit_kbit: The largest rate, kilobits a second.
        progress: Receives the number of bytes sent.

    Returns:
        The number of bytes sent.

    Raises:
        EnvironmentFailed: A file has become shorter meanwhile.
        BadInput: The device refuses a blob.
        DeviceFailed: The link or the device fails.
    """
    rests = {sha256: size_of(blobs[sha256]) - missing[sha256] for sha256 in missing}
    ordered = sorted(rests, key=lambda sha256: (rests[sha256], sha256))
    total, sent = sum(rests.values()), 0
    limit, began = RateLimit(limit_kbit), time.monotonic()

    def counted(sha256: str) -> Iterator[bytes]:
        nonlocal sent
        for chunk in _rest(blobs[sha256], missing[sha256], rests[sha256], limit):
            yield chunk
            sent += len(chunk)
            progress("sending", sent, total, _rate(sent, time.monotonic() - began))

    waiting = 0
    for sha256 in ordered:
        size, offset = missing[sha256] + rests[sha256], missing[sha256]
        head = {"sha256": sha256, "size": size, "offset": offset}
        device.post(BLOB, {**head, "bytes": rests[sha256]}, counted(sha256))
        waiting += 1
        while waiting and device.replied():
            device.reply(BLOB)
            waiting -= 1
    for _ in range(waiting):
        device.reply(BLOB)
    return total


def _rest(blob: Path | bytes, offset: int, count: int, limit: RateLimit) -> Iterator[bytes]:
    """Yield ``count`` bytes from ``offset`` on, in chunks, at the rate of ``limit``."""
    for chunk in _chunks(blob, offset, count, limit.chunk):
        limit.wait(len(chunk))
        yield chunk
        count -= len(chunk)
    if count:
        raise EnvironmentFailed(f"{blob!s}: has become shorter while it was sent; flash again")


def _chunks(blob: Path | bytes, offset: int, count: int, size: int) -> Iterator[bytes]:
    if isinstance(blob, bytes):
        for start in range(offset, offset + count, size):
            yield blob[start : min(start + size, offset + count)]
        return
    with blob.open("rb") as file:
        file.seek(offset)
        while count and (chunk := file.read(min(size, count))):
            yield chunk
            count -= len(chunk)


def _rate(sent: int, elapsed_s: float) -> str:
    return f"bytes, {8e-6 * sent / max(elapsed_s, 1e-3):.1f} Mbit/s"
