"""HLS: the segments of a playlist over HTTP, as one stream of bytes.

FFmpeg would fetch whatever address a playlist names, and follow redirects from there. So the
segments are fetched here, only from the playlist's host, and FFmpeg reads them from memory.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgevid.media.logins import moved, same_host
from edgevid.media.unavailable import Reason, Unavailable

MARK = b"#EXTM3U"
LIST_BYTES = 1 << 20
PART_BYTES = 64 << 20
LIVE_PARTS = 3
"""A live stream starts this many segments before its end, as in other players."""
_ATTRIBUTE = re.compile(r'(?<![A-Z-])([A-Z-]+)=("[^"]*"|[^,]*)')
"""A name is tried only from its beginning, so a long line takes linear time: a search for a regular
expression blocks all other threads."""
_DIGITS = 18
"""The most digits of a number."""

Part = tuple[str, str]
"""A URL and the value of the Range header; empty for the whole resource."""


@dataclass
class Playlist:
    """A parsed playlist.

    Attributes:
        parts: Its segments.
        variants: Bits per second and URL of other playlists of the same content.
        sequence: The number of the first segment.
        target_s: The longest duration of a segment in seconds.
        ended: Whether the playlist is complete.
    """

    parts: list[Part] = field(default_factory=list)
    variants: list[tuple[int, str]] = field(default_factory=list)
    sequence: int = 0
    target_s: float = 2.0
    ended: bool = False


def parse(text: str, url: str) -> Playlist:
    """Parse a playlist.

    Args:
        text: Its text.
        url: Its URL, to which relative addresses refer.

    Returns:
        The playlist. A header that segments share (``EXT-X-MAP``) is a segment too.

    Raises:
        Unavailable: It names another host, or is encrypted.
    """
    found = Playlist()
    byte_range, bandwidth, header, offset = "", -1, None, 0

    def address(name: str) -> str:
        whole = moved(url, name)
        if not same_host(url, whole):
            raise Unavailable(Reason.REFUSED, "its playlist names another host; give that URL")
        return whole

    for line in map(str.strip, text.splitlines()):
        tag, _, value = line.partition(":")
        attributes = {key: held.strip('"') for key, held in _ATTRIBUTE.findall(value)}
        if tag == "#EXT-X-MEDIA-SEQUENCE" and value.isdecimal():
            found.sequence = int(value[:_DIGITS])
        elif tag == "#EXT-X-TARGETDURATION" and value.isdecimal():
            found.target_s = min(max(float(value[:4]), 0.5), 60.0)
        elif tag == "#EXT-X-ENDLIST":
            found.ended = True
        elif tag == "#EXT-X-KEY" and attributes.get("METHOD") != "NONE":
            raise Unavailable(
                Reason.CODEC, "its segments are encrypted; use another of its streams"
            )
        elif tag == "#EXT-X-MAP" and "URI" in attributes:
            part = (address(attributes["URI"]), _range(attributes.get("BYTERANGE", ""), 0)[0])
            if part != header:
                header = part
                found.parts.append(part)
        elif tag == "#EXT-X-BYTERANGE":
            byte_range, offset = _range(value, offset)
        elif tag == "#EXT-X-STREAM-INF":
            rate = attributes.get("BANDWIDTH", "0")
            bandwidth = int(rate[:12]) if rate.isdecimal() else 0
        elif line and not line.startswith("#"):
            if bandwidth >= 0:
                found.variants.append((bandwidth, address(line)))
                bandwidth = -1
            else:
                found.parts.append((address(line), byte_range))
                byte_range = ""
    return found


def _range(value: str, offset: int) -> tuple[str, int]:
    """The header Range for ``LENGTH[@OFFSET]``, and where the next one begins."""
    length, _, start = value.partition("@")
    if not length.isdecimal():
        return "", offset
    size = int(length[:_DIGITS])
    first = int(start[:_DIGITS]) if start.isdecimal() else offset
    return f"bytes={first}-{first + size - 1}", first + size


class HlsStream:
    """The bytes of all segments, as a file object for FFmpeg.

    Attributes:
        finite: Whether it has an end.
    """

    def __init__(self, fetch: Callable[[Part, int], bytes], url: str, silence_s: float) -> None:
        """Read the playlist.

        Args:
            fetch: Returns the content of a part, up to a number of bytes.
            url: The URL of the playlist.
            silence_s: How long a live stream may have no new segment, in seconds.

        Raises:
            OSError: It cannot be fetched.
            Unavailable: It cannot be used.
        """
        self._fetch, self._url, self._silence_s = fetch, url, silence_s
        first = self._list()
        if first.variants:
            self._url = max(first.variants)[1]
            first = self._list()
        if not first.parts:
            raise Unavailable(Reason.CODEC, "its playlist has no segments")
        self.finite = first.ended
        self._chunks, self._left = self._read(first), memoryview(b"")

    def _list(self) -> Playlist:
        content = self._fetch((self._url, ""), LIST_BYTES)
        return parse(content.decode(errors="replace"), self._url)

    def _read(self, first: Playlist) -> Iterator[bytes]:
        now, done = first, first.sequence
        if not first.ended:
            done += max(0, len(first.parts) - LIVE_PARTS)
        waited_s = 0.0
        while True:
            new = now.parts[max(0, done - now.sequence) :]
            for part in new:
                yield self._fetch(part, PART_BYTES)
            done = now.sequence + len(now.parts)
            waited_s = 0.0 if new else waited_s + now.target_s / 2
            if now.ended or waited_s > self._silence_s:
                return
            time.sleep(now.target_s / 2)
            now = self._list()

    def read(self, size: int) -> bytes:
        """The next bytes; empty at the end."""
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left = memoryview(chunk)
        taken, self._left = self._left[:size], self._left[size:]
        return bytes(taken)
