"""Blobs to a device: only what it lacks, from where it stopped, as one stream.

Requests follow one another without waiting for answers, so that the link is never idle: what the
device does with one blob (hashing, fsync) happens while the next one travels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edgevid.errors import EnvironmentFailed
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.package import size_of
from edgevid.progress import Progress, silent

CHUNK = 1 << 18
_STEPS_A_SECOND = 10  # of a capped transfer, so that it flows evenly


class RateLimit:
    """Holds a stream to so many kilobits a second, counted from its first byte; None: no cap."""

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
        """How many bytes to send at once."""
        if self._bytes_a_second is None:
            return CHUNK
        return max(1, min(CHUNK, int(self._bytes_a_second / _STEPS_A_SECOND)))

    def wait(self, count: int) -> None:
        """Wait until ``count`` more bytes may go; a pause elsewhere is not made up for."""
        if self._bytes_a_second is None:
            return
        now = self._clock()
        due = now if self._due is None else max(self._due, now)
        self._due = due + count / self._bytes_a_second
        if due > now:
            self._sleep(due - now)


def send(
    device: AgentClient,
    blobs: Mapping[str, Path | bytes],
    missing: Mapping[str, int],
    *,
    limit_kbit: float | None = None,
    progress: Progress = silent,
) -> int:
    """Send the rest of each missing blob from its offset on; gives how many bytes that were.

    ``blobs`` are contents by their sha256, ``missing`` what `AgentClient.call` of ``missing`` gave.
    Raises `EnvironmentFailed` where a file is not what it was, and what the device says no to.
    """
    rests = {sha256: size_of(blobs[sha256]) - missing[sha256] for sha256 in missing}
    ordered = sorted(rests, key=lambda sha256: (rests[sha256], sha256))
    total, sent = sum(rests.values()), 0
    cap, began = RateLimit(limit_kbit), time.monotonic()

    def counted(sha256: str) -> Iterator[bytes]:
        nonlocal sent
        for chunk in _rest(blobs[sha256], missing[sha256], rests[sha256], cap):
            yield chunk
            sent += len(chunk)
            progress("sending", sent, total, _rate(sent, time.monotonic() - began))

    waiting = 0
    for sha256 in ordered:
        size, offset = missing[sha256] + rests[sha256], missing[sha256]
        head = {"do": "blob", "sha256": sha256, "size": size, "offset": offset}
        device.post({**head, "bytes": rests[sha256]}, counted(sha256))
        waiting += 1
        while device.answered():
            device.answer()
            waiting -= 1
    for _ in range(waiting):
        device.answer()
    return total


def _rest(blob: Path | bytes, offset: int, count: int, cap: RateLimit) -> Iterator[bytes]:
    """Give ``count`` bytes from ``offset`` on, in chunks, at the pace of ``cap``."""
    for chunk in _chunks(blob, offset, count, cap.chunk):
        cap.wait(len(chunk))
        yield chunk
        count -= len(chunk)
    if count:
        raise EnvironmentFailed(f"{blob!s}: became shorter while it was sent; flash again")


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
