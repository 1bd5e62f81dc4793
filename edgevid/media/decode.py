"""Decoding of one stream: packets in, images out, every packet accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgevid.errors import BadInput
from edgevid.media.joins import Joins
from edgevid.media.orientation import Upright
from edgevid.media.timeline import Stamp, Timeline


@dataclass
class Arrivals:
    """Counts of a source's packets; written only by the thread that iterates over the source.

    Packets counted in neither ``skipped`` nor ``lost`` became an image or are in the decoder.

    Attributes:
        captured: Packets with image data that arrived.
        skipped: Packets that were deliberately not decoded because no step needs them.
        lost: Packets that arrived, but no image ever came out of the decoder.

    Packets that no image belongs to, such as frames hidden by an edit list, are not counted.
    """

    captured: int = 0
    skipped: int = 0
    lost: int = 0


class DecodedImage(NamedTuple):
    """An image that left the decoder.

    Attributes:
        image: An upright `av.VideoFrame`.
        arrived_s: `time.perf_counter` at the arrival of its packet.
        pts_s: Its time in the stream in seconds; it always increases.
        since_s: Seconds since the frame before it, decoded or not; None if unknown.
        cut: Whether the stream's time stamps begin anew with it.
    """

    image: Any
    arrived_s: float
    pts_s: float
    since_s: float | None
    cut: bool


STILLS = {"mjpeg", "png", "apng", "webp", "tiff", "jpegls"}
"""Codecs of still images, which may have an orientation each."""
INVISIBLE = {"vp8": 0x10}
"""Codec -> bit of a packet's first byte that is set if the packet is shown."""


class Decoder:
    """The decoder of one stream: upright images in presentation order, every packet accounted for.

    Each packet goes through the decoder with its number in place of its time stamp, so that an
    image leads to its packet whatever the stamps say.
    """

    MAX_PENDING = 64
    """No decoder delays more packets than this, so an older one never becomes an image."""

    def __init__(
        self,
        stream: Any,
        arrivals: Arrivals,
        timeline: Timeline | None = None,
        *,
        skip_loop_filter: bool = False,
    ) -> None:
        """Prepare the decoder.

        Args:
            stream: The `av` video stream.
            arrivals: Its counters.
            timeline: The time of its frames; by default that of a file of which nothing is known.
            skip_loop_filter: Skip the deblocking filter.
        """
        self._arrivals = arrivals
        self.timeline = timeline or Timeline(live=False)
        self._context: Any = stream.codec_context
        if skip_loop_filter:
            self._context.options = {**self._context.options, "skip_loop_filter": "all"}
        self._joins = Joins(self._context.name) if self.timeline.by_rate else None
        self._upright = Upright(stream)
        self._are_stills = self._context.name in STILLS
        self._has_fields = self._context.name == "h264"
        self._shown_bit = INVISIBLE.get(self._context.name)
        self._level = "DEFAULT"
        self._skips = False
        self._pending: dict[int, Stamp] = {}
        self._stills: dict[int, Any] = {}
        self._last: Stamp | None = None
        self.packets = 0

    @property
    def is_turned(self) -> bool:
        """Whether the last image was turned upright."""
        return bool(self._upright.filters)

    def admit(self, packet: Any, arrived_s: float) -> Stamp:
        """Take the stamps of a packet, which `take` decodes next.

        Args:
            packet: An `av.Packet`.
            arrived_s: `time.perf_counter` at its arrival.

        Returns:
            Its stamps.
        """
        hidden = getattr(packet, "is_discard", False)  # PyAV 10 does not tell
        if not packet.size or hidden or not self._is_shown(packet):
            return Stamp(None, None, 0, arrived_s, shown=False)
        if self._joins is not None:
            begins = self._joins.begins(packet)
            self.timeline.recording(self._joins.fps, begins=begins)
        return self.timeline.admit(packet.pts, packet.dts, arrived_s)

    def take(
        self, packet: Any, stamp: Stamp, level: str = "DEFAULT", *, needed: bool = True
    ) -> Iterator[DecodedImage]:
        """Decode one packet.

        Args:
            packet: An `av.Packet`. One without data or stamps flushes what the decoder still holds.
            stamp: Its stamps, from `admit`.
            level: FFmpeg's ``skip_frame`` for this packet.
            needed: Whether an image is wanted. If none comes, the packet counts as lost, otherwise
                as skipped.

        Yields:
            The images that come out.

        Raises:
            av.FFmpegError: The data is damaged. Continue with the next packet.
        """
        number, pts = self.packets, packet.pts
        if packet.size:
            self.packets += 1
            if stamp.shown:
                stamp.needed = needed
                self._expect(number, stamp, packet)
        elif not is_flush(packet):
            return  # a frame that repeats the one before, as AVI writes it: nothing to decode
        if level != self._level:
            self._context.skip_frame = self._level = level
            self._skips = True
        packet.pts = number
        try:
            images = packet.decode()
        except Exception:
            stamp.second_field = False
            raise
        finally:
            packet.pts = pts
        for image in images:
            yield self._identify(image, stamp)

    def _is_shown(self, packet: Any) -> bool:
        """Whether an image comes of a packet; some only hold what other frames refer to."""
        return self._shown_bit is None or bool(memoryview(packet)[0] & self._shown_bit)

    def _expect(self, number: int, stamp: Stamp, packet: Any) -> None:
        self._arrivals.captured += 1
        self._pending[number] = stamp
        if self._are_stills:
            self._stills[number] = packet
        if len(self._pending) > self.MAX_PENDING:
            self._count_gone(next(iter(self._pending)))

    def _identify(self, image: Any, latest: Stamp) -> DecodedImage:
        """Find the packet of ``image`` and give it its time."""
        number = image.pts
        if number is None and self._pending:
            number = next(iter(self._pending))
        own, before = self._pending.pop(number, None), self._last
        if own is None:
            self._arrivals.captured += 1  # one packet may contain more than one image
            own = before or latest
        elif self._skips and self.timeline.trusted and own.pts is not None:
            before = self._pass(own)
        pts_s, cut = self.timeline.frame(own)
        self._last = own
        if self._has_fields and image.interlaced_frame:
            following = self._pending.get(-1 if number is None else number + 1)
            if following is not None:
                following.second_field = True
        image.pts = own.pts
        image = self._upright.turn(image, self._stills.pop(number, None))
        since_s = None if cut else self._since_s(before, own)
        return DecodedImage(image, own.arrived_s, pts_s, since_s, cut)

    def _since_s(self, before: Stamp | None, own: Stamp) -> float | None:
        """Seconds between two frames of one recording by their stamps."""
        if before is None or before.pts is None or own.pts is None or own.part != before.part:
            return None
        return self.timeline.between_s(own.pts - before.pts) if own.pts > before.pts else None

    def _pass(self, own: Stamp) -> Stamp | None:
        """Packets before an image that gave none never will; return the latest of them."""
        latest = self._last
        pts, part = own.pts, own.part
        for number, stamp in [*self._pending.items()]:
            if stamp.pts is None or stamp.part != part or stamp.pts >= pts:  # type: ignore[operator]
                continue
            self._count_gone(number)
            if stamp.second_field and stamp.needed:
                continue
            if latest is None or latest.pts is None or stamp.pts > latest.pts:
                latest = stamp
        return latest

    def _count_gone(self, number: int) -> None:
        stamp = self._pending.pop(number)
        self._stills.pop(number, None)
        self.timeline.miss()
        if stamp.second_field and stamp.needed:
            self._arrivals.captured -= 1
            self.timeline.trusted = False  # a field must not be skipped without the other
        elif stamp.needed:
            self._arrivals.lost += 1
        else:
            self._arrivals.skipped += 1

    def end(self) -> None:
        """Account for what never came out of the decoder; no packet may follow."""
        for number in [*self._pending]:
            self._count_gone(number)

    def free(self) -> None:
        """End the decoder's threads at once; not while one of them may still decode (``AUTO``)."""
        # PyAV 10 frees a decoder only when Python happens to collect cycles; newer ones cannot.
        if close := getattr(self._context, "close", None):
            close(strict=False)


def is_flush(packet: Any) -> bool:
    """Whether an `av.Packet` is the end of its stream, on which the decoder gives up all images."""
    return not packet.size and packet.pts is None and packet.dts is None


def video_stream(container: Any) -> Any:
    """The video stream of a file that FFmpeg's own tools choose.

    Args:
        container: An open `av` container.

    Returns:
        The largest video stream that is no cover art; the default one first. None if there is none.
    """
    streams = [s for s in container.streams.video if not _has(s, "attached_pic")]
    streams = [s for s in streams if s.codec_context is not None] or streams
    return max(streams, key=_preference, default=None)


def is_incomplete(stream: Any, packets: int) -> bool:
    """Whether a file had fewer packets than it promises.

    Args:
        stream: Its `av` video stream.
        packets: The number of packets, at its end.

    Returns:
        Whether some are missing; False if it promises none.
    """
    if packets >= int(stream.frames or 0):
        return False
    # The index leaves out what an edit list cuts, and repeated frames of an AVI; some formats have
    # none. It takes time to read, so it is read only here.
    indexed = len(getattr(stream, "index_entries", ()))
    return indexed <= 1 or packets < indexed


def _preference(stream: Any) -> int:
    context = stream.codec_context
    pixels = context.width * context.height if context else 0
    # PyAV before 13 knows no dispositions: there a picture is taken for cover art.
    unknown = context is not None and not hasattr(stream, "disposition")
    is_picture = unknown and context.name in STILLS
    return int(pixels + 5_000_000 * _has(stream, "default") - 1_000_000_000 * is_picture)


def _has(stream: Any, name: str) -> bool:
    disposition = getattr(stream, "disposition", None)
    return disposition is not None and bool(disposition & getattr(type(disposition), name))


def seconds(stamp: int | None, of: Any) -> float | None:
    """A time stamp in seconds, computed alike for packets and images.

    Args:
        stamp: The time stamp in units of the time base.
        of: The packet or image with the ``time_base``.

    Returns:
        Seconds, or None if the stamp or the time base is missing.
    """
    base = of.time_base
    if stamp is None or base is None:
        return None
    # As exact as Fraction's own product at a fifth of its cost: this runs for every packet.
    return float(stamp * base.numerator / base.denominator)


def hardware(decoder: str) -> tuple[dict[str, Any], str]:
    """Choose a hardware decoder.

    Args:
        decoder: ``software``, ``auto``, or one of FFmpeg's devices, such as ``vaapi``.

    Returns:
        Arguments for `av.open`, and the decoder that they choose. If the hardware does not work
        on this machine, that is software, with the reason.

    Raises:
        BadInput: FFmpeg knows no such device.
    """
    if decoder == "software":
        return {}, "software"
    try:
        from av.codec import Codec
        from av.codec.hwaccel import HWAccel, HWDeviceType, hwdevices_available
    except ImportError:
        return {}, "software (this PyAV has no hardware decoding)"
    if decoder != "auto" and decoder not in HWDeviceType.__members__:
        known = ", ".join(sorted(set(HWDeviceType.__members__) - {"none"}))
        raise BadInput(f"unknown decoder {decoder!r}; use software, auto, or one of: {known}")
    built = hwdevices_available()
    why = "none in this build of FFmpeg"
    for name in built if decoder == "auto" else [decoder]:
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
