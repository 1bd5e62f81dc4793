"""Joined recordings in streams without time stamps, found by what the bitstream says.

In ``cat a.h264 b.h264 > c.h264`` nothing but the bitstream tells where ``b`` begins:

    parameters   size, profile or rate in the headers of a key frame differ from the ones before
    end          the stream is said to end (MPEG-2, MPEG-4, H.264 and HEVC have a code for that)
    time code    the time of day in the header of a group of pictures falls (MPEG-2, MPEG-4)
    encoder      the encoder introduces itself again, as x264 does once in a stream

Two recordings of one camera with equal settings may have none of these; then their frames follow
one another without a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

START = b"\0\0\1"
MAX_HEADERS = 4096
"""No more bytes than that are searched for headers in front of a picture."""


@dataclass(frozen=True)
class Syntax:
    """Where a codec has its headers; kinds are those that ``kind`` makes of a start code's byte.

    Attributes:
        kind: Gives the kind of a unit from the byte after its start code.
        parameters: Kinds of the units with size and rate.
        picture: Whether a unit of this kind is part of a picture: no header follows.
        end: The byte that ends a stream.
        group: The kind with a time code.
        note: The kind of notes (SEI) with the encoder's name.
        note_at: Where the note begins after its start code.
        compared: How many bytes of a parameter unit count.
    """

    kind: Callable[[int], int]
    parameters: frozenset[int]
    picture: Callable[[int], bool]
    end: bytes
    group: int = -1
    note: int = -1
    note_at: int = 0
    compared: int | None = None


def _same(byte: int) -> int:
    return byte


MPEG_2 = Syntax(
    # Behind size, shape and rate there are matrices, which may change.
    *(_same, frozenset({0xB3}), lambda kind: kind <= 0xAF, b"\xb7"),
    group=0xB8,
    compared=5,
)
MPEG_4 = Syntax(
    *(_same, frozenset(range(0x20, 0x30)), lambda kind: kind == 0xB6, b"\xb1"), group=0xB3
)
SYNTAX = {
    "h264": Syntax(
        *(lambda byte: byte & 31, frozenset({7}), lambda kind: 1 <= kind <= 5, b"\x0b"),
        note=6,
        note_at=1,
    ),
    "hevc": Syntax(
        *(lambda byte: byte >> 1 & 63, frozenset({33}), lambda kind: kind < 32, b"\x4a\x01"),
        note=39,
        note_at=2,
    ),
    "mpeg1video": MPEG_2,
    "mpeg2video": MPEG_2,
    "mpeg4": MPEG_4,
}
"""Codec -> its syntax; other codecs without time stamps show no join."""

USER_DATA = 5
"""The note whose first 16 bytes say who wrote it."""


class Joins:
    """Finds where another recording begins; give it the packets in decoding order.

    Args:
        codec: FFmpeg's name of the codec.
    """

    def __init__(self, codec: str) -> None:
        self._codec, self._syntax = codec, SYNTAX.get(codec)
        self._parameters = b""
        self._time = 0
        self._writers: set[bytes] = set()
        self._anonymous = self._ended = False
        self.fps = 0.0
        """Frames per second by the headers of the current recording; 0 if they have no rate."""

    def begins(self, packet: Any) -> bool:
        """Take the next packet.

        Args:
            packet: An `av.Packet` with data.

        Returns:
            Whether another recording begins with it; False for the first one.
        """
        if self._syntax is None:
            return False
        ended, self._ended = self._ended, False
        view = memoryview(packet)
        self._ended = START + self._syntax.end in bytes(view[-16:])
        if not packet.is_keyframe:
            return ended
        return self._compare(packet, bytes(view[:MAX_HEADERS]), self._syntax) or ended

    def _compare(self, packet: Any, head: bytes, syntax: Syntax) -> bool:
        """Compare the headers of a key frame with those before."""
        parameters, time, writer = b"", -1, b""
        for kind, unit in _units(head, syntax):
            if kind in syntax.parameters:
                parameters += unit.rstrip(b"\0")[: syntax.compared]
            elif kind == syntax.group and len(unit) > 3:
                time = _time_code(unit[1:5], drops=syntax is MPEG_2)
            elif kind == syntax.note and unit[syntax.note_at : syntax.note_at + 1] == b"\x05":
                writer = unit[syntax.note_at + 1 :].lstrip(b"\xff")[1:17]  # behind its length
        changed = bool(parameters and self._parameters) and parameters != self._parameters
        if parameters not in (b"", self._parameters):
            self._parameters, self.fps = parameters, _fps(self._codec, packet)
        begins = changed or -1 < time < self._time or (self._anonymous and writer in self._writers)
        if begins:
            self._writers.clear()
        self._anonymous = not writer and bool(self._writers)
        self._writers |= {writer} - {b""}
        self._time = max(time, 0)
        return begins


def _units(head: bytes, syntax: Syntax) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the units in front of the first picture."""
    at = head.find(START)
    while at >= 0 and at + 3 < len(head):
        following = head.find(START, at + 3)
        kind = syntax.kind(head[at + 3])
        if syntax.picture(kind):
            return
        yield kind, head[at + 3 : None if following < 0 else following]
        at = following


def _time_code(four: bytes, *, drops: bool) -> int:
    """Hours, minutes, seconds and pictures as one rising number; MPEG-4 has no pictures."""
    bits = int.from_bytes(four.ljust(4, b"\0"), "big") << (1 if drops else 0)
    hours, minutes, seconds = bits >> 27 & 31, bits >> 21 & 63, bits >> 14 & 63
    pictures = bits >> 8 & 63 if drops else 0
    return ((hours * 60 + minutes) * 60 + seconds) * 64 + pictures


def _fps(codec: str, packet: Any) -> float:
    """The rate in the headers of one packet; a stream's own context has that of the last one."""
    from av import CodecContext

    context: Any = CodecContext.create(codec, "r")
    context.parse(bytes(packet))
    context.parse(None)
    rate = getattr(context, "framerate", None)
    return float(rate) if rate else 0.0
