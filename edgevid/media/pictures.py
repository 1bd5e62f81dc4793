"""What a live source shows: packets decoded, timed, and numbered through all its connections."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from edgevid.media.connection import Opened
from edgevid.media.decode import Arrivals, Decoder, seconds
from edgevid.media.pace import Clock
from edgevid.media.sampling import KeyFrames, Skipper
from edgevid.media.sources import Reason, Say, SourceOptions, Unavailable
from edgevid.media.video import Captured


class Pictures:
    """The decoding side of a live source; `begin` and `end` for each of its connections."""

    LAG_S = 1.0  # a decoder that is later than this takes key frames only, until it is in time
    RATE_FRAMES = 50  # frames over which the rate is measured
    RATE_CHANGE = 1.5  # times faster or slower: worth a word
    HOPELESS_KEYS, HOPELESS_PACKETS, HOPELESS_S = 3, 10, 20.0

    def __init__(self, arrivals: Arrivals, options: SourceOptions, tell: Say) -> None:
        self._arrivals, self._options, self._tell = arrivals, options, tell
        self._clock = Clock()
        self._skipper = Skipper(options.rate_fps)
        self._stamps: deque[float] = deque(maxlen=self.RATE_FRAMES)
        self._size: tuple[int, int] | None = None
        self._codec = self._decoded_by = ""
        self._rate_fps = self.declared_fps = 0.0
        self._cut: str | None = None
        self._damaged = 0
        self.shown = 0

    def begin(self, opened: Opened) -> None:
        """Another connection."""
        stream = opened.container.streams.video[0]
        # A thread for each frame would bring each picture later by as many frames as threads.
        stream.thread_type = "SLICE"
        codec = str(stream.codec_context.name)
        if self.shown:
            self._cut = "reconnect" if codec == self._codec else "codec"
        self._codec, self._decoded_by = codec, opened.decoder
        self.declared_fps = float(stream.average_rate or stream.guessed_rate or 0)
        self._clockless = opened.clockless
        self._decoder = Decoder(stream, self._arrivals, self._options)
        self._clock.restart()
        self._restart()
        self._shed = self._damage_told = False
        self._keys_in_vain = self._packets_in_vain = 0
        self._last_picture_s = time.perf_counter()

    def _restart(self) -> None:
        """Forget what was learnt of the stamps."""
        self._skipper.forget()
        self._keys = KeyFrames(self._options.rate_fps)
        self._stamps.clear()

    def take(self, packet: Any, arrived_s: float, live: bool) -> Iterator[Captured]:
        """Decode one packet; raises `Unavailable` where no picture can be hoped for."""
        import av

        began = time.perf_counter()
        level, needed = self._level(packet, began - arrived_s if live else 0.0)
        self._packets_in_vain += 1
        self._keys_in_vain += packet.is_keyframe
        try:
            for picture, came_s, since_s in self._decoder.take(
                packet, level, arrived_s=arrived_s, needed=needed
            ):
                now = time.perf_counter()
                self._keys_in_vain = self._packets_in_vain = 0
                self._last_picture_s = now
                yield self._captured(picture, came_s, since_s, now - began)
                began = time.perf_counter()
        except av.FFmpegError:
            self._damaged += 1
            if not self._damage_told:
                self._damage_told = True
                self._tell("sends damaged data; what cannot be decoded is left out")
        self._hope()

    def _level(self, packet: Any, late_s: float) -> tuple[str, bool]:
        """FFmpeg's ``skip_frame`` for a packet, and whether a picture is wanted of it."""
        late = late_s > self.LAG_S
        self._shed = late or (self._shed and not packet.is_keyframe)
        raw_s = None if self._clockless else seconds(packet.pts, packet)
        if self._keys.enough(raw_s, packet.is_keyframe):
            return "NONKEY", bool(packet.is_keyframe)
        dts_s = self._clock.place(seconds(packet.dts, packet))
        level = self._skipper.level(self._clock.place(raw_s), dts_s)
        return ("NONKEY" if self._shed else level), level == "DEFAULT"

    def _hope(self) -> None:
        """Damage passes; a stream that is not what it says does not."""
        vain_s = time.perf_counter() - self._last_picture_s
        keys, packets = self._keys_in_vain, self._packets_in_vain
        if packets < self.HOPELESS_PACKETS:
            return
        if keys >= self.HOPELESS_KEYS or vain_s > self.HOPELESS_S:
            raise Unavailable(Reason.CODEC, f"{packets} packets of {self._codec} and no picture")

    def _captured(
        self, picture: Any, arrived_s: float, since_s: float | None, decode_s: float
    ) -> Captured:
        raw_s = None if self._clockless else seconds(picture.pts, picture)
        pts_s, jumped = self._clock.tell(raw_s, arrived_s)
        if jumped:
            self._cut = self._cut or "time"
            self._restart()
        self._skipper.shown(pts_s)
        self._watch(picture, pts_s)
        cut, self._cut = self._cut, None
        if cut is not None or self._clockless:
            since_s = None
        index = self.shown + self._arrivals.skipped
        captured = Captured(index, pts_s, arrived_s, decode_s, picture, since_s, cut)
        self.shown += 1
        return captured

    def _watch(self, picture: Any, pts_s: float) -> None:
        """Tell where size or rate are not what they were."""
        size = (int(picture.height), int(picture.width))
        if size != self._size:
            if self._size is not None:
                self._tell(f"the picture is {size[1]}x{size[0]} now")
            self._size = size
        self._stamps.append(pts_s)
        took_s = pts_s - self._stamps[0]
        if len(self._stamps) < self.RATE_FRAMES or took_s <= 0:
            return
        rate = (len(self._stamps) - 1) / took_s
        before = self._rate_fps
        if not before / self.RATE_CHANGE < rate < before * self.RATE_CHANGE:
            if before and not self._options.rate_fps:
                self._tell(f"the rate is {rate:.3g} frames/s now")
            self._rate_fps = rate
            self._stamps.clear()

    def end(self) -> None:
        """The connection is over: what has not come out of the decoder never will."""
        self._decoder.end()
        self._decoder.free()

    def status(self) -> dict[str, Any]:
        """Size, rate, codec, decoder, and how often data was damaged."""
        return {
            "size": list(self._size) if self._size else None,
            "rate_fps": round(self._rate_fps or self.declared_fps, 3),
            "codec": self._codec,
            "decoder": self._decoded_by,
            "damaged": self._damaged,
        }
