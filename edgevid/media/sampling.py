"""Which frames of a stream a model sees, and so which packets need no decoding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

TIE_TICKS = 1e-6  # of two frames equally near, the later; not what rounding makes of it


def tick(since_start_s: float, early_s: float, rate_fps: float) -> int:
    """The tick that a frame is near enough to take, when it may come early by ``early_s``."""
    return int((since_start_s + early_s) * rate_fps - TIE_TICKS)


class Sampler:
    """Chooses the frames of a stream that a model of ``rate_fps`` sees; ``None`` takes all.

    Each tick of the rate is taken once, by the frame nearest to it: a frame may come early by half
    the time since the one before. Time bases that round (Matroska's milliseconds) and cameras that
    jitter then lose no frame when both rates are equal, and whole ratios are met evenly.
    """

    def __init__(self, rate_fps: float | None) -> None:
        self._rate = rate_fps
        self._start_s: float | None = None
        self._before_s = 0.0
        self._last = -1

    def take(self, pts_s: float, since_s: float | None = None) -> bool:
        """Say whether the frame at ``pts_s`` seconds is one of them.

        ``since_s`` is the time since the frame before it in the stream, which a source that spares
        itself some decoding knows better (`Captured.since_s`).
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
    """Finds packets whose frame `Sampler` surely does not take, before they are decoded.

    A frame is taken when its tick is later than that of the frame before it. Both are bounded here
    by what is known of the packets so far, in whatever order they come: the frame before it is at
    least as late as the latest known one, so the frame's tick is never put too low; and the tick
    of the frame before is never put too high.
    """

    MEMORY = 64  # packets; more than any decoder holds back
    LEAST_EARLY_TICKS = 2e-6  # no two frames are nearer to each other than twice this

    def __init__(self, rate_fps: float | None) -> None:
        self._rate = rate_fps
        self._start_s: float | None = None
        self._known: list[float] = []
        self._order: deque[float] = deque()

    def forget(self) -> None:
        """The stamps start anew; the sampler's ticks go on."""
        self._known.clear()
        self._order.clear()

    def shown(self, pts_s: float) -> None:
        """A frame came out; the first is where the sampler's ticks start."""
        if self._start_s is None:
            self._start_s = pts_s

    def level(self, pts_s: float | None, dts_s: float | None) -> str:
        """FFmpeg's ``skip_frame`` for a packet: only what nothing refers to is ever left out."""
        if self._rate is None or pts_s is None:
            return "DEFAULT"
        needed = self._start_s is None or self._needed(pts_s, dts_s, self._start_s, self._rate)
        self._remember(pts_s)
        return "DEFAULT" if needed else "NONREF"

    def _needed(self, pts_s: float, dts_s: float | None, start_s: float, rate: float) -> bool:
        place = bisect_left(self._known, pts_s)
        if place == 0 or (place < len(self._known) and self._known[place] == pts_s):
            return True
        before_s = self._known[place - 1]
        early_s = self.LEAST_EARLY_TICKS / rate
        # Packets come in the order of dts, and no pts is before its dts: of what is earlier than
        # this packet's dts, everything is known, so the frame before has its true distance too.
        if place > 1 and dts_s is not None and before_s <= dts_s <= pts_s:
            early_s = max(early_s, min(before_s - self._known[place - 2], 1 / rate) / 2)
        lowest = tick(before_s - start_s, early_s, rate)
        highest = tick(pts_s - start_s, min(pts_s - before_s, 1 / rate) / 2, rate)
        return highest > lowest

    def _remember(self, pts_s: float) -> None:
        insort(self._known, pts_s)
        self._order.append(pts_s)
        if len(self._order) > self.MEMORY:
            del self._known[bisect_left(self._known, self._order.popleft())]


class KeyFrames:
    """Whether key frames alone come often enough: at least two for each tick of ``rate_fps``.

    Then nothing else is decoded. It is an approximation, for live sources only: the frame that is
    taken for a tick is the key frame nearest to it.
    """

    SEEN = 4  # distances that must have been short enough

    def __init__(self, rate_fps: float | None) -> None:
        self._rate = rate_fps
        self._gaps: deque[float] = deque(maxlen=self.SEEN)
        self._last_s: float | None = None
        self._enough = False

    def enough(self, pts_s: float | None, is_key: bool) -> bool:
        """Whether to decode key frames only, from this packet on."""
        if self._rate is None or pts_s is None or not is_key:
            return self._enough
        if self._last_s is not None:
            self._gaps.append(pts_s - self._last_s)
        self._last_s = pts_s
        self._enough = len(self._gaps) == self.SEEN and 2 * max(self._gaps) <= 1 / self._rate
        return self._enough
