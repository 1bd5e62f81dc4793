"""Packets in, pictures out, every packet accounted for; shared by files and cameras."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput

if TYPE_CHECKING:
    from edgevid.media.sources import SourceOptions


@dataclass
class Arrivals:
    """What came of the packets so far; written only by the thread that iterates the source.

    Packets in none of ``skipped`` and ``lost`` gave a picture, or are in the decoder.
    """

    captured: int = 0
    """Packets with picture data that arrived."""
    skipped: int = 0
    """Deliberately not decoded, because no step needs them."""
    lost: int = 0
    """Arrived, but no picture ever came out of the decoder."""


@dataclass(slots=True)
class _Sent:
    """A packet in the decoder."""

    pts: int | None
    arrived_s: float
    needed: bool


class Decoder:
    """The decoder of one stream: pictures in the order of presentation, packets accounted for."""

    HELD = 64  # packets; no decoder holds back more, so an older one will not come any more

    def __init__(self, stream: Any, arrivals: Arrivals, options: SourceOptions) -> None:
        self._arrivals = arrivals
        self._stream = stream
        self._context: Any = stream.codec_context
        if options.skip_loop_filter:
            self._context.options = {**self._context.options, "skip_loop_filter": "all"}
        self._level = "DEFAULT"
        self._held: list[_Sent] = []
        self._shown: int | None = None
        self.packets = 0

    def take(
        self,
        packet: Any,
        level: str = "DEFAULT",
        *,
        arrived_s: float | None = None,
        needed: bool = True,
    ) -> Iterator[tuple[Any, float, float | None]]:
        """Decode one packet; a packet without data gives what the decoder still holds.

        ``level`` is FFmpeg's ``skip_frame`` for it; where no picture comes of it, it counts as lost
        if it was ``needed``, else as skipped. Gives each picture with the `perf_counter` of
        its packet's arrival and its distance in seconds from the frame before, if known.
        Raises `av.FFmpegError` where the data is damaged; go on with the next packet.
        """
        arrived_s = time.perf_counter() if arrived_s is None else arrived_s
        if packet.size:
            self.packets += 1
            self._arrivals.captured += 1
            self._held.append(_Sent(packet.pts, arrived_s, needed))
            if len(self._held) > self.HELD:
                self._gone(self._held.pop(0))
        if level != self._level:
            self._context.skip_frame = self._level = level
        for picture in packet.decode():
            yield picture, *self._came(picture, arrived_s)

    def _came(self, picture: Any, arrived_s: float) -> tuple[float, float | None]:
        """Find the packet of ``picture``; those that should have come before it never will."""
        pts = picture.pts
        mine: _Sent | None = None
        before, held = self._shown, []
        for sent in self._held:
            if mine is None and (sent.pts == pts or pts is None):
                mine = sent
            elif sent.pts is not None and pts is not None and sent.pts < pts:
                self._gone(sent)
                before = sent.pts if before is None else max(before, sent.pts)
            else:
                held.append(sent)
        self._held, self._shown = held, pts
        if mine is None:
            self._arrivals.captured += 1  # one packet may hold more than one picture
        since_s = None
        if before is not None and pts is not None:
            since_s = seconds(pts - before, picture)
        return (arrived_s if mine is None else mine.arrived_s), since_s

    def _gone(self, sent: _Sent) -> None:
        if sent.needed:
            self._arrivals.lost += 1
        else:
            self._arrivals.skipped += 1

    def end(self) -> None:
        """No more packets: what has not come out is accounted for."""
        for sent in self._held:
            self._gone(sent)
        self._held = []

    def free(self) -> None:
        """Let its threads go at once; not while one of them may still decode (``AUTO``)."""
        # PyAV 10 frees a decoder only when Python happens to collect circles; newer ones cannot.
        if close := getattr(self._context, "close", None):
            close(strict=False)


def seconds(stamp: int | None, of: Any) -> float | None:
    """A packet's or a picture's stamp in seconds, computed alike for both."""
    base = of.time_base
    if stamp is None or base is None:
        return None
    # As exact as Fraction's own product, at a fifth of its cost: this runs for every packet.
    return float(stamp * base.numerator / base.denominator)


def hardware(wish: str) -> tuple[dict[str, Any], str]:
    """Arguments for `av.open` that decode as ``wish`` says, and what it comes to.

    Where the hardware does not work here, software decodes, and the reason is told with it.
    Raises `BadInput` for a device that FFmpeg does not know.
    """
    if wish == "software":
        return {}, "software"
    try:
        from av.codec import Codec
        from av.codec.hwaccel import HWAccel, HWDeviceType, hwdevices_available
    except ImportError:
        return {}, "software (this PyAV has no hardware decoding)"
    if wish != "auto" and wish not in HWDeviceType.__members__:
        known = ", ".join(sorted(set(HWDeviceType.__members__) - {"none"}))
        raise BadInput(f"decoder {wish!r} is not known; give software, auto, or one of: {known}")
    built = hwdevices_available()
    why = "none in this build of FFmpeg"
    for name in built if wish == "auto" else [wish]:
        if name not in built:
            why = f"{name}: not in this build of FFmpeg"
            continue
        try:
            accel = HWAccel(name)
            accel.create(Codec("h264", "r"))
        except (NotImplementedError, OSError, RuntimeError, ValueError) as error:
            why = f"{name}: {getattr(error, 'strerror', None) or 'not for H.264'}"
            continue
        return {"hwaccel": accel}, name
    return {}, f"software ({why})"
