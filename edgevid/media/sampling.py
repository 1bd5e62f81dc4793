"""Which frames of a stream a model sees, and which packets therefore need no decoding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

TIE_TICKS = 1e-6
"""Of two frames equally near to a tick the later one is taken, whatever rounding does."""


def tick(since_start_s: float, early_s: float, rate_fps: float) -> int:
    """The latest tick that a frame is near enough to.

    Args:
        since_start_s: Seconds from the stream's first frame to this one.
        early_s: How much earlier than the tick the frame may be, in seconds.
        rate_fps: Ticks per second.

    Returns:
        Number of the tick, from 0.
    """
    return int((since_start_s + early_s) * rate_fps - TIE_TICKS)


class Sampler:
    """Selects the frames of a stream for a model with a fixed step rate; None selects all.

    Each tick of the rate is taken once, by the frame nearest to it: a frame may be early by half
    the time since the frame before. So neither a rounding time base (Matroska's milliseconds) nor a
    camera's jitter loses a frame if both rates are equal, and integer ratios are sampled evenly.
    """

    def __init__(self, rate_fps: float | None) -> None:
        self._rate = rate_fps
        self._start_s: float | None = None
        self._before_s = 0.0
        self._last = -1

    def take(self, pts_s: float, since_s: float | None = None) -> bool:
        """Whether to take the next frame.

        Args:
            pts_s: Its presentation time in seconds.
            since_s: Seconds since the frame before it in the stream, `Frame.since_s`: a source that
                skips decoding knows it better. None uses the frame before that was seen here.

        Returns:
            True if a tick of the rate falls to this frame.
        """
        if self._rate is None:
            return True
        if self._start_s is None:
            self._start_s = self._before_s = pts_s
        since_s = pts_s - self._before_s if since_s is None else since_s
        self._before_s = pts_s
        now = tick(pts_s - self._start_s, min(since_s, 1 / self._rate) / 2, self._rate)
        if now <= self._last:
            return False
        self._last = now
        return True


class Skipper:
    """Finds packets whose frame `Sampler` will not take, before they are decoded.

    A frame is taken if its tick is later than that of the frame before it. Both ticks are bounded
    by the packets seen so far, in whatever order they arrive: the frame before is at least as late
    as the latest known one before it, so the frame's own tick is never underestimated and the tick
    of the frame before is never overestimated.
    """

    MAX_KNOWN = 64
    """Packets, more than any decoder delays."""
    MAX_REORDER = 32
    """Packets after which one of unknown time no longer matters."""
    MIN_EARLY_TICKS = 2e-6
    """Two frames are never nearer to each other than twice this."""

    def __init__(self, rate_fps: float | None) -> None:
        self._rate = rate_fps
        self._start_s: float | None = None
        self._known: list[float] = []
        self._order: deque[float] = deque()
        self._unknown = 0

    def forget(self) -> None:
        """Forget the stamps, which start again; the sampler's ticks continue."""
        self._known.clear()
        self._order.clear()

    def shown(self, pts_s: float) -> None:
        """Record a decoded frame, in seconds; the ticks start at the first one."""
        if self._start_s is None:
            self._start_s = pts_s

    def level(self, pts_s: float | None, dts_s: float | None) -> str:
        """Choose how to decode a packet.

        Args:
            pts_s: Its presentation time in seconds, if known.
            dts_s: Its decoding time in seconds, if known.

        Returns:
            FFmpeg's ``skip_frame``: ``DEFAULT``, or ``NONREF`` to skip it if no other frame refers
            to it.
        """
        if self._rate is None:
            return "DEFAULT"
        if pts_s is None:
            self._unknown = self.MAX_REORDER
            return "DEFAULT"
        needed = self._start_s is None or self._needed(pts_s, dts_s, self._start_s, self._rate)
        self._remember(pts_s)
        return "DEFAULT" if needed else "NONREF"

    def _needed(self, pts_s: float, dts_s: float | None, start_s: float, rate: float) -> bool:
        place = bisect_left(self._known, pts_s)
        if place == 0 or (place < len(self._known) and self._known[place] == pts_s):
            return True
        before_s = self._known[place - 1]
        early_s = self.MIN_EARLY_TICKS / rate
        # Packets arrive in the order of dts, and no pts is before its dts: everything before this
        # packet's dts is known, and so is the true distance of the frame before, unless a packet
        # without a known time came a moment ago.
        complete = place > 1 and not self._unknown
        if complete and dts_s is not None and before_s <= dts_s <= pts_s:
            early_s = max(early_s, min(before_s - self._known[place - 2], 1 / rate) / 2)
        lowest = tick(before_s - start_s, early_s, rate)
        highest = tick(pts_s - start_s, min(pts_s - before_s, 1 / rate) / 2, rate)
        return highest > lowest

    def _remember(self, pts_s: float) -> None:
        self._unknown = max(0, self._unknown - 1)
        insort(self._known, pts_s)
        self._order.append(pts_s)
        if len(self._order) > self.MAX_KNOWN:
            del self._known[bisect_left(self._known, self._order.popleft())]


class KeyFrames:
    """Whether key frames alone are frequent enough: at least two per tick of the rate.

    Then nothing else is decoded. This is an approximation for live sources only: each tick gets
    the nearest key frame instead of the nearest frame.
    """

    SEEN = 4
    """Number of distances between key frames that must have been short enough."""

    def __init__(self, rate_fps: float | None) -> None:
        self._rate = rate_fps
        self._gaps: deque[float] = deque(maxlen=self.SEEN)
        self._last_s: float | None = None
        self._enough = False

    def enough(self, pts_s: float | None, is_key: bool) -> bool:
        """Whether to decode only key frames from this packet on.

        Args:
            pts_s: The packet's presentation time in seconds, if known.
            is_key: Whether it is a key frame.

        Returns:
            True if key frames alone are frequent enough.
        """
        if self._rate is None or pts_s is None or not is_key:
            return self._enough
        if self._last_s is not None:
            self._gaps.append(pts_s - self._last_s)
        self._last_s = pts_s
        self._enough = len(self._gaps) == self.SEEN and 2 * max(self._gaps) <= 1 / self._rate
        return self._enough
