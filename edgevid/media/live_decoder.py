"""The decoding side of a live source: frames timed and numbered across all its connections."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from edgevid.media.connection import OpenStream
from edgevid.media.decode import (
    Arrivals,
    DecodedImage,
    Decoder,
    is_incomplete,
    video_stream,
)
from edgevid.media.sampling import KeyFrames, Skipper
from edgevid.media.sources import Report, SourceOptions
from edgevid.media.timeline import GUESSED, Stamp, StreamTiming, Timeline, declared_fps, timing_of
from edgevid.media.unavailable import Reason, Unavailable
from edgevid.results import Frame


class LiveDecoder:
    """Decodes one connection after another; `begin` and `end` enclose each of them.

    Attributes:
        frames: Frames so far, over all connections.
        declared_fps: The rate that the current connection declares; 0 if it declares none.
        incomplete: Whether the last connection, to a file, gave less than the file promises.
    """

    MAX_DELAY_S = 1.0
    """A decoder that is later than this decodes only key frames until it has caught up."""
    RATE_FRAMES = 50
    """Number of frames over which the rate is measured."""
    RATE_CHANGE = 1.5
    """A change of the rate by this factor is reported."""
    HOPELESS_KEYS, HOPELESS_PACKETS, HOPELESS_S = 3, 10, 20.0

    def __init__(
        self, name: str, arrivals: Arrivals, options: SourceOptions, report: Report
    ) -> None:
        self._name = name
        self._arrivals, self._options, self._report = arrivals, options, report
        self._timeline = Timeline(live=True)
        self._skipper = Skipper(options.rate_fps)
        self._stamps: deque[float] = deque(maxlen=self.RATE_FRAMES)
        self._size: tuple[int, int] | None = None
        self._codec = self._decoded_by = ""
        self._rate_fps = self.declared_fps = 0.0
        self._cut: str | None = None
        self._damaged = 0
        self.frames = 0
        self.incomplete = False

    def begin(self, opened: OpenStream) -> None:
        """Start with a new connection."""
        stream = video_stream(opened.container)
        self._stream = stream
        # One thread per frame would delay each frame by as many frames as there are threads.
        stream.thread_type = "SLICE"
        codec = str(stream.codec_context.name)
        if self.frames:
            self._cut = "reconnect" if codec == self._codec else "codec"
        self._codec, self._decoded_by = codec, opened.decoder
        self.declared_fps = declared_fps(stream)
        self._clockless = opened.clockless
        if opened.finite:
            self._timeline = Timeline(live=False)
            timing = timing_of(opened.container, stream, self._options.source_fps)
            if timing.origin == "guess":
                self._report(GUESSED)
        else:
            base = stream.time_base
            timing = StreamTiming((base.numerator, base.denominator) if base else (1, 1))
        self._timeline.begin(timing)
        self._decoder = Decoder(
            stream,
            self._arrivals,
            self._timeline,
            skip_loop_filter=self._options.skip_loop_filter,
        )
        self._forget_stamps()
        self._shedding = self._damage_reported = False
        self._keys_in_vain = self._packets_in_vain = 0
        self._last_image_s = time.perf_counter()

    def _forget_stamps(self) -> None:
        self._skipper.forget()
        self._keys = KeyFrames(self._options.rate_fps)
        self._stamps.clear()

    def take(self, packet: Any, arrived_s: float, live: bool) -> Iterator[Frame]:
        """Decode one packet.

        Args:
            packet: An `av.Packet`.
            arrived_s: `time.perf_counter` at its arrival.
            live: Whether the stream is live: frames may be skipped to catch up.

        Yields:
            The frames that come out.

        Raises:
            Unavailable: The stream is open, but no frame can be expected of it.
        """
        import av

        began = time.perf_counter()
        stamp = self._decoder.admit(packet, arrived_s)
        if self._clockless and live:
            stamp.pts = stamp.dts = None
        level, needed = self._level(packet, stamp, began - arrived_s, live)
        self._packets_in_vain += 1
        self._keys_in_vain += packet.is_keyframe
        try:
            for decoded in self._decoder.take(packet, stamp, level, needed=needed):
                now = time.perf_counter()
                self._keys_in_vain = self._packets_in_vain = 0
                self._last_image_s = now
                yield self._frame(decoded, now - began)
                began = time.perf_counter()
        except av.FFmpegError:
            self._damaged += 1
            if not self._damage_reported:
                self._damage_reported = True
                self._report("sends damaged data; what cannot be decoded is skipped")
        self._check_hopeless()

    def _level(self, packet: Any, stamp: Stamp, late_s: float, live: bool) -> tuple[str, bool]:
        """FFmpeg's ``skip_frame`` for a packet, and whether an image is wanted of it."""
        if live:
            late = late_s > self.MAX_DELAY_S
            self._shedding = late or (self._shedding and not packet.is_keyframe)
            raw_s = None if stamp.pts is None else self._timeline.between_s(stamp.pts)
            if self._keys.enough(raw_s, packet.is_keyframe):
                return "NONKEY", bool(packet.is_keyframe)
        predict = self._timeline.predict
        level = self._skipper.level(predict(stamp), predict(stamp, dts=True))
        return ("NONKEY" if self._shedding else level), level == "DEFAULT"

    def _check_hopeless(self) -> None:
        """Damage passes; a stream that is not what it declares to be does not."""
        vain_s = time.perf_counter() - self._last_image_s
        keys, packets = self._keys_in_vain, self._packets_in_vain
        if packets < self.HOPELESS_PACKETS:
            return
        if keys >= self.HOPELESS_KEYS or vain_s > self.HOPELESS_S:
            raise Unavailable(Reason.CODEC, f"{packets} packets of {self._codec} and no image")

    def _frame(self, decoded: DecodedImage, decode_s: float) -> Frame:
        image, arrived_s, pts_s, since_s, jumped = decoded
        if jumped:
            self._cut = self._cut or "time"
            self._forget_stamps()
        self._skipper.shown(pts_s)
        self._report_changes(image, pts_s)
        cut, self._cut = self._cut, None
        if cut is not None or self._clockless:
            since_s = None
        frame = Frame(
            image=image,
            width=int(image.width),
            height=int(image.height),
            source=self._name,
            index=self.frames + self._arrivals.skipped,
            pts_s=pts_s,
            captured_s=arrived_s,
            decode_s=decode_s,
            since_s=since_s,
            cut=cut,
        )
        self.frames += 1
        return frame

    def _report_changes(self, image: Any, pts_s: float) -> None:
        """Report a new size or rate."""
        size = (int(image.height), int(image.width))
        if size != self._size:
            if self._size is not None:
                self._report(f"the image size is {size[1]}x{size[0]} now")
            self._size = size
        self._stamps.append(pts_s)
        took_s = pts_s - self._stamps[0]
        if len(self._stamps) < self.RATE_FRAMES or took_s <= 0:
            return
        rate = (len(self._stamps) - 1) / took_s
        before = self._rate_fps
        if not before / self.RATE_CHANGE < rate < before * self.RATE_CHANGE:
            if before and not self._options.rate_fps:
                self._report(f"the rate is {rate:.3g} frames/s now")
            self._rate_fps = rate
            self._stamps.clear()

    def end(self) -> None:
        """Finish a connection: what has not come out of the decoder never will."""
        self.incomplete = is_incomplete(self._stream, self._decoder.packets)
        self._decoder.end()
        self._decoder.free()

    def status(self) -> dict[str, Any]:
        """Size, rate, codec, decoder, and the number of damaged packets."""
        return {
            "size": list(self._size) if self._size else None,
            "rate_fps": round(self._rate_fps or self.declared_fps, 3),
            "codec": self._codec,
            "decoder": self._decoded_by,
            "damaged": self._damaged,
        }
