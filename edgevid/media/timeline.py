"""The time of a stream's frames, for files and cameras alike.

Time stamps may be missing, repeated, wrapped, falling, or made up by the demultiplexer. Frames get
times that always increase, and a frame that does not continue the one before is marked as a cut:

    packets, in decoding order  --admit-->  Stamp  --frame-->  seconds    frames, in showing order

A camera has a clock, so what its stamps cannot say is measured: the time between arrivals. A file
has none: what its stamps cannot say is one frame's duration. Streams without stamps (``.h264``) are
timed by a rate: the user's, the one in the bitstream, or else a guess, which is reported;
`edgevid.media.joins` finds the cuts in them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal

FALLBACK_FPS = 25.0
"""The guessed rate of a stream with neither time stamps nor a rate."""
MAX_FPS = 1000.0
"""Rates above this are time bases that a file declares by mistake."""
WRAP_BITS = (33, 32)
"""Sizes of counters that start again from 0: MPEG's, and those of RTP, FLV and many recorders."""
MAX_REORDER = 32
"""No stream is reordered by more frames."""
DTS_ONLY = {"avi"}
"""Formats that store decoding times only; FFmpeg makes up presentation times from them."""
WITHOUT_STAMPS = {"image2", "image2pipe", "mjpeg", "mpjpeg"}
"""Formats without time stamps that FFmpeg does not flag as such, besides those called ``_pipe``."""

GUESSED = (
    f"has neither time stamps nor a frame rate, {FALLBACK_FPS:g} frames/s are assumed; "
    "give the true rate with --source-fps, or source_fps in a configuration"
)

RateOrigin = Literal["stamps", "bitstream", "given", "guess"]


@dataclass(frozen=True)
class StreamTiming:
    """What is known about a stream's time before its first frame.

    Attributes:
        base_s: Seconds per tick of its time stamps, as numerator and denominator.
        frame_s: Nominal duration of a frame in seconds.
        start_s: Stamp at which a file's time begins, in seconds; None begins at its first frame.
        origin: What times the frames: the ``stamps``, or a rate that is in the ``bitstream``,
            ``given`` by the user, or a ``guess``.
        by_dts: Only decoding times can be trusted.
        jump_s: A file's stamps that advance by more than this begin another recording.
        delay: How many frames the encoder looked ahead, so that a packet's decoding time is the
            presentation time of the frame so many places earlier; 0 if that is unknown.
    """

    base_s: tuple[int, int] = (1, 1)
    frame_s: float = 1 / FALLBACK_FPS
    start_s: float | None = None
    origin: RateOrigin = "stamps"
    by_dts: bool = False
    jump_s: float = 30 * 3600.0
    delay: int = 0

    @property
    def rate_fps(self) -> float:
        """The nominal rate in frames per second."""
        return 1 / self.frame_s


def has_stamps(container: Any) -> bool:
    """Whether the time stamps of an open `av` container are the stream's own."""
    name = str(container.format.name)
    if name in WITHOUT_STAMPS or name.endswith("_pipe"):
        return False
    return not int(container.format.flags) & 0x80  # AVFMT_NOTIMESTAMPS


def declared_fps(stream: Any) -> float:
    """The rate that an `av` video stream declares, in frames per second; 0 if it declares none."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= MAX_FPS:
            return float(rate)
    return 0.0


def timing_of(container: Any, stream: Any, given_fps: float | None = None) -> StreamTiming:
    """Describe the timing of a file.

    Args:
        container: An open `av` container.
        stream: Its video stream.
        given_fps: The user's rate, which replaces the file's own times.

    Returns:
        The timing.
    """
    base = stream.time_base
    base_s = (base.numerator, base.denominator) if base else (1, 1)
    if given_fps is not None:
        return StreamTiming(base_s, 1 / given_fps, origin="given")
    if not has_stamps(container):
        coded = getattr(stream.codec_context, "framerate", None)
        if coded and 0 < coded <= MAX_FPS:
            return StreamTiming(base_s, float(1 / coded), origin="bitstream")
        guessed = stream.guessed_rate  # older PyAV: a rate that is not FFmpeg's default was read
        if guessed and guessed != FALLBACK_FPS and guessed <= MAX_FPS:
            return StreamTiming(base_s, float(1 / guessed), origin="bitstream")
        return StreamTiming(base_s, origin="guess")
    frame_s = 1 / (declared_fps(stream) or FALLBACK_FPS)
    name = str(container.format.name)
    start_s = _start_s(container, stream, base_s)
    # As in FFmpeg's own tools: a broadcast that jumps by ten seconds begins anew.
    joins = bool(int(container.format.flags) & 0x200)  # AVFMT_TS_DISCONT
    jump_s = max(10.0, 4 * frame_s) if joins else StreamTiming.jump_s
    delay = int(getattr(stream.codec_context, "reorder_depth", 0))  # PyAV before 18 does not know
    return StreamTiming(
        base_s, frame_s, start_s, by_dts=name in DTS_ONLY, jump_s=jump_s, delay=delay
    )


def _start_s(container: Any, stream: Any, base_s: tuple[int, int]) -> float | None:
    """Where players start the clock: the earliest stamp of all streams in the file."""
    if container.start_time is None:
        return None
    start_s = float(container.start_time / 1_000_000)
    if stream.start_time is not None:
        own_s = float(stream.start_time * base_s[0] / base_s[1])
        if abs(own_s - start_s) < 2e-6:  # the container's is rounded
            return own_s
    return start_s


@dataclass(slots=True)
class Stamp:
    """The time stamps of one packet.

    Attributes:
        pts: Presentation time in ticks, unwrapped; None if it is missing or absurd.
        dts: Decoding time in ticks, unwrapped; None if it is missing.
        part: Number of the recording, from 0, in a file of joined ones.
        arrived_s: `time.perf_counter` at its arrival.
        needed: Whether an image is wanted.
        shown: Whether an image belongs to the packet at all.
        second_field: Whether it is the second field of a picture, unless an image comes of it.
        frame_s: Duration of a frame in its recording in seconds; None if only its time stamps say.
        order: Its number in decoding order.
    """

    pts: int | None
    dts: int | None
    part: int
    arrived_s: float
    needed: bool = True
    shown: bool = True
    second_field: bool = False
    frame_s: float | None = None
    order: int = 0


class Timeline:
    """Gives each frame its time.

    Attributes:
        trusted: Whether presentation times in packets have been right so far, so that they can
            decide what needs no decoding.
    """

    JUMP_S = 2.0
    """A camera's stamps may run ahead of its clock by this much."""
    MIN_STEP_S = 0.001
    """The smallest step between frames of a camera."""
    FALL_FRAMES, FALL_S = 2, 0.1
    """Decoding times of a file that fall by more than the lesser begin another recording."""
    FALL_WITHOUT_DTS_S = 0.5
    """The same for files without decoding times."""
    REACH_S = 10.0
    """A presentation time is this near to its decoding time, unless frames are far apart."""
    MIN_RISE_S = 1e-6

    def __init__(self, *, live: bool) -> None:
        """Start before the first frame.

        Args:
            live: Whether packets arrive at the pace of a clock.
        """
        self._live = live
        self._time_s: float | None = None
        self._arrived_s = 0.0
        self._frames = 0
        self.begin(StreamTiming())

    def begin(self, timing: StreamTiming) -> None:
        """Start with a new connection, whose stamps are unrelated to the ones before.

        Args:
            timing: What is known about its time.
        """
        self.timing = timing
        self._numerator, self._denominator = timing.base_s
        self._by_rate = timing.origin != "stamps"
        self._by_dts = timing.by_dts
        self.trusted = not (self._by_rate or self._by_dts)
        ticks = self._denominator / self._numerator
        fall_s = min(self.FALL_S, max(2 * self.MIN_STEP_S, self.FALL_FRAMES * timing.frame_s))
        self._fall, self._jump = -fall_s * ticks, timing.jump_s * ticks
        self._reach = max(self.REACH_S, MAX_REORDER * timing.frame_s) * ticks
        self._wrapped = self._part = self._falls = self._repeats = 0
        self._last_dts: int | None = None
        self._slots: deque[tuple[int, int]] = deque()
        self._admitted, self._passed, self._delay = 0, 0, timing.delay
        self._slot: int | None = None
        self._shown_part = 0
        self._raw_s: float | None = None
        self._offset_s: float | None = None
        self._frame_s, self._began_s, self._began_frames = timing.frame_s, 0.0, self._frames

    @property
    def by_rate(self) -> bool:
        """Whether frames are timed by a rate, because there are no time stamps to use."""
        return self._by_rate

    def recording(self, fps: float, *, begins: bool) -> None:
        """Take what the bitstream says about the next packet of a stream timed by a rate.

        Args:
            fps: The rate of its recording in frames per second; 0 if that is unknown.
            begins: Whether another recording begins with it.
        """
        self._part += begins
        if 0 < fps <= MAX_FPS and self.timing.origin != "given":
            self._frame_s = 1 / fps

    # ------------------------------------------------------------ packets, in decoding order

    def admit(self, pts: int | None, dts: int | None, arrived_s: float) -> Stamp:
        """Take the stamps of the next packet.

        Args:
            pts: Its presentation time in ticks.
            dts: Its decoding time in ticks.
            arrived_s: `time.perf_counter` at its arrival.

        Returns:
            The stamps, unwrapped, and the recording that the packet belongs to.
        """
        if self._by_rate:
            return Stamp(None, None, self._part, arrived_s, frame_s=self._frame_s)
        if pts is None and not self._live:
            self.trusted = False
        if dts is not None:
            dts = self._follow(dts + self._wrapped)
            self._slots.append((dts, self._part))
            self._admitted += 1
        if pts is not None:
            pts += self._wrapped
            if dts is not None and not self._fall <= pts - dts <= self._reach:
                pts = self._near(pts, dts)
        return Stamp(pts, dts, self._part, arrived_s, order=self._admitted)

    def _follow(self, dts: int) -> int:
        """Compare a decoding time with the one before: it rises, wraps, or starts again."""
        last, self._last_dts = self._last_dts, dts
        if last is None or self._live or self._fall <= dts - last <= self._jump:
            return dts
        for bits in WRAP_BITS:
            if 0 <= dts + (1 << bits) - last <= self._reach:
                self._wrapped += 1 << bits
                self._last_dts = dts + (1 << bits)
                return self._last_dts
        self._part += 1
        return dts

    def _near(self, pts: int, dts: int) -> int | None:
        """A presentation time that wraps before its decoding time does; None if it is absurd."""
        for bits in WRAP_BITS:
            if 0 <= pts + (1 << bits) - dts <= self._reach:
                return pts + (1 << bits)
        return pts if self._live else None

    def miss(self) -> None:
        """A packet never became an image: its place in the order of decoding times is vacant."""
        if self._slots:
            self._slots.popleft()
            self._passed += 1

    def predict(self, stamp: Stamp, *, dts: bool = False) -> float | None:
        """The time that the frame of a packet gets if the stamps go on as they are.

        Args:
            stamp: The stamps of the packet.
            dts: Predict the decoding time instead.

        Returns:
            Seconds, or None if that is unknown.
        """
        ticks = stamp.dts if dts else stamp.pts
        if ticks is None or not self.trusted or stamp.part != self._shown_part:
            return None
        if self._offset_s is None:
            return None
        return ticks * self._numerator / self._denominator + self._offset_s

    def between_s(self, ticks: int) -> float:
        """A number of ticks in seconds."""
        return float(ticks * self._numerator / self._denominator)

    # ------------------------------------------------------------ frames, in showing order

    def frame(self, stamp: Stamp) -> tuple[float, bool]:
        """The time of the next frame.

        Args:
            stamp: The stamps of its packet.

        Returns:
            Seconds in the stream, which always increase; and whether the frame follows a cut.
        """
        slot = self._pass_slot(stamp)
        if self._by_rate:
            time_s, cut = self._by_count(stamp)
        elif self._live:
            time_s, cut = self._by_clock(stamp)
        else:
            time_s, cut = self._by_stamps(stamp, slot)
        self._slot = slot
        self._frames += 1
        self._time_s = time_s
        return time_s, cut

    def _pass_slot(self, stamp: Stamp) -> int | None:
        """The decoding time that stands for the presentation time of the next frame.

        Encoders make decoding times of presentation times: a packet gets the time of the frame that
        is shown ``delay`` places before it. So the time of a frame is found ``delay`` packets
        later, up to a constant; for the last frames of a file it is nowhere.
        """
        if not self._slots:
            return None
        delay = stamp.order - 1 - self._passed
        if stamp.dts is not None and self._delay < delay < len(self._slots):
            self._delay = delay
            before = self._slots[delay - 1][0]
            if self._by_dts and self._slot is not None and self._time_s is not None:
                self._slot, self._offset_s = before, self._time_s - self.between_s(before)
        dts, part = self._slots[min(self._delay, len(self._slots) - 1)]
        is_known = self._delay < len(self._slots) and part == stamp.part
        self._slots.popleft()
        self._passed += 1
        return dts if is_known else None

    def _by_count(self, stamp: Stamp) -> tuple[float, bool]:
        """No stamps: frames follow one another at the rate of their recording."""
        frames = self._frames - self._began_frames
        time_s, cut = self._began_s + frames * self.timing.frame_s, stamp.part > self._shown_part
        if stamp.frame_s not in (None, self.timing.frame_s):
            self.timing = replace(self.timing, frame_s=stamp.frame_s)
            self._began_s, self._began_frames = time_s, self._frames
        self._shown_part = max(stamp.part, self._shown_part)
        return time_s, cut

    def _by_clock(self, stamp: Stamp) -> tuple[float, bool]:
        """A camera: its stamps while they are plausible, else the time since the last arrival."""
        raw_s = None if stamp.pts is None else self.between_s(stamp.pts)
        time_s, jumped = self._time_s, False
        if time_s is None:
            time_s = 0.0
        else:
            waited_s = max(stamp.arrived_s - self._arrived_s, self.MIN_STEP_S)
            step_s = 0.0 if raw_s is None or self._raw_s is None else raw_s - self._raw_s
            jumped = step_s < 0 or step_s > waited_s + self.JUMP_S
            time_s += waited_s if jumped or step_s < self.MIN_STEP_S else step_s
        self._raw_s, self._arrived_s = raw_s, stamp.arrived_s
        self._offset_s = None if raw_s is None else time_s - raw_s
        return time_s, jumped

    def _by_stamps(self, stamp: Stamp, slot: int | None) -> tuple[float, bool]:
        """A file: its stamps, and one frame's duration where they say nothing."""
        ticks = slot if self._by_dts else stamp.pts
        raw_s = None if ticks is None else self.between_s(ticks)
        before_s, cut = self._time_s, stamp.part > self._shown_part
        if before_s is None:
            start_s = self.timing.start_s
            first = stamp.dts if self._by_dts else stamp.pts
            time_s = 0.0
            if first is not None and start_s is not None:
                time_s = max(0.0, self.between_s(first) - start_s)
        elif raw_s is not None and self._offset_s is not None and not cut:
            time_s = raw_s + self._offset_s
            if time_s > before_s + self.MIN_RISE_S:
                self._repeats = 0
                return time_s, False
            if stamp.dts is None and time_s < before_s - self.FALL_WITHOUT_DTS_S:
                cut, time_s = True, before_s + self.timing.frame_s
            else:
                return self._repair(time_s, before_s, slot), False
        elif raw_s is None and not cut:
            return before_s + self._step_s(slot), False
        else:
            time_s = before_s + self.timing.frame_s
        self._shown_part = max(stamp.part, self._shown_part)
        self._offset_s = None if raw_s is None else time_s - raw_s
        return time_s, cut

    def _step_s(self, slot: int | None) -> float:
        """The step to a frame without presentation time: that of the decoding times."""
        if slot is not None and self._slot is not None and slot > self._slot:
            return self.between_s(slot - self._slot)
        return self.timing.frame_s

    def _repair(self, time_s: float, before_s: float, slot: int | None) -> float:
        """The time of a frame whose stamp repeats or falls: between the frames around it."""
        self.trusted = False
        rising = slot is not None and self._slot is not None and slot > self._slot
        if time_s < before_s - self.MIN_RISE_S and rising:
            self._falls += 1
            if self._falls > 1 and not self._by_dts:  # presentation times in decoding order
                self._by_dts, self._offset_s = True, None
        self._repeats += 1
        return before_s + self.timing.frame_s * (0.5 if self._repeats == 1 else 1.0)
