"""Decoding of one stream: packets in, images out, every packet accounted for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgevid.errors import BadInput


@dataclass
class Arrivals:
    """Counts of a source's packets; written only by the thread that iterates over the source.

    Packets counted in neither ``skipped`` nor ``lost`` became an image or are in the decoder.

    Attributes:
        captured: Packets with image data that arrived.
        skipped: Packets that were deliberately not decoded because no step needs them.
        lost: Packets that arrived, but no image ever came out of the decoder.
    """

    captured: int = 0
    skipped: int = 0
    lost: int = 0


@dataclass(slots=True)
class _Pending:
    """A packet in the decoder."""

    pts: int | None
    arrived_s: float
    needed: bool


class Decoder:
    """The decoder of one stream: images in presentation order, every packet accounted for."""

    MAX_PENDING = 64
    """No decoder delays more packets than this, so an older one never becomes an image."""

    def __init__(self, stream: Any, arrivals: Arrivals, *, skip_loop_filter: bool = False) -> None:
        self._arrivals = arrivals
        self._stream = stream
        self._context: Any = stream.codec_context
        if skip_loop_filter:
            self._context.options = {**self._context.options, "skip_loop_filter": "all"}
        self._level = "DEFAULT"
        self._pending: list[_Pending] = []
        self._latest_pts: int | None = None
        self.packets = 0

    def take(
        self,
        packet: Any,
        level: str = "DEFAULT",
        *,
        arrived_s: float | None = None,
        needed: bool = True,
    ) -> Iterator[tuple[Any, float, float | None]]:
        """Decode one packet.

        Args:
            packet: An `av.Packet`. One without data flushes what the decoder still holds.
            level: FFmpeg's ``skip_frame`` for this packet.
            arrived_s: `time.perf_counter` at its arrival; None is now.
            needed: Whether an image is wanted. If none comes, the packet counts as lost, otherwise
                as skipped.

        Yields:
            An `av.VideoFrame`, the `time.perf_counter` of its packet's arrival, and the seconds
            since the frame before it, None if unknown.

        Raises:
            av.FFmpegError: The data is damaged. Continue with the next packet.
        """
        arrived_s = time.perf_counter() if arrived_s is None else arrived_s
        if packet.size:
            self.packets += 1
            self._arrivals.captured += 1
            self._pending.append(_Pending(packet.pts, arrived_s, needed))
            if len(self._pending) > self.MAX_PENDING:
                self._count_gone(self._pending.pop(0))
        if level != self._level:
            self._context.skip_frame = self._level = level
        for image in packet.decode():
            yield image, *self._match(image, arrived_s)

    def _match(self, image: Any, arrived_s: float) -> tuple[float, float | None]:
        """Find the packet of ``image``; packets before it that gave no image never will."""
        pts = image.pts
        own: _Pending | None = None
        before, pending = self._latest_pts, []
        for one in self._pending:
            if own is None and (one.pts == pts or pts is None):
                own = one
            elif one.pts is not None and pts is not None and one.pts < pts:
                self._count_gone(one)
                before = one.pts if before is None else max(before, one.pts)
            else:
                pending.append(one)
        self._pending, self._latest_pts = pending, pts
        if own is None:
            self._arrivals.captured += 1  # one packet may contain more than one image
        since_s = None
        if before is not None and pts is not None:
            since_s = seconds(pts - before, image)
        return (arrived_s if own is None else own.arrived_s), since_s

    def _count_gone(self, pending: _Pending) -> None:
        if pending.needed:
            self._arrivals.lost += 1
        else:
            self._arrivals.skipped += 1

    def end(self) -> None:
        """Account for what never came out of the decoder; no packet may follow."""
        for pending in self._pending:
            self._count_gone(pending)
        self._pending = []

    def free(self) -> None:
        """End the decoder's threads at once; not while one of them may still decode (``AUTO``)."""
        # PyAV 10 frees a decoder only when Python happens to collect cycles; newer ones cannot.
        if close := getattr(self._context, "close", None):
            close(strict=False)


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
