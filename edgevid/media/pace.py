"""Times of a camera: how long it may be silent, when to try again, what its stamps are worth."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from edgevid.media.sources import Reason


@dataclass(frozen=True)
class Patience:
    """How soon to try again, and how long an attempt may take."""

    first_s: float = 0.5
    most_s: float = 1.5
    """Between attempts, so that a camera is back soon after its network is."""
    most_refused_s: float = 60.0
    """Where a wrong password is tried: cameras lock accounts."""
    most_wrong_s: float = 15.0
    """Where what answers is not what is wanted."""
    open_s: float = 20.0
    """For opening and the first packets of a camera whose rate is not known yet."""
    reopen_s: float = 5.0

    def delay_s(self, reason: Reason, attempts: int) -> float:
        """Seconds before the next attempt, after so many in vain; half of them left to chance."""
        most = {
            Reason.AUTH: self.most_refused_s,
            Reason.NOT_FOUND: self.most_wrong_s,
            Reason.CODEC: self.most_wrong_s,
        }.get(reason, self.most_s)
        delay = min(most, self.first_s * 2.0 ** min(attempts, 16))
        return delay * random.uniform(0.5, 1.0)


class Rhythm:
    """How long a camera may be silent: learnt from the silences that it has shown."""

    LEAST_S, USUAL_S = 1.5, 2.7
    RECENT = 64

    def __init__(self, patience: Patience, stall_s: float | None) -> None:
        self._patience, self._stall_s = patience, stall_s
        self._intervals: deque[float] = deque(maxlen=self.RECENT)
        self._declared_s = 0.0
        self._last: float | None = None
        self._beats = self._failures = 0

    def begin(self) -> None:
        """A new connection; what was learnt of the camera stays."""
        self._last, self._beats = None, 0

    def declare(self, rate_fps: float) -> None:
        """The stream says what its rate is."""
        self._declared_s = 1 / rate_fps if rate_fps > 0 else 0.0

    def beat(self, arrived_s: float) -> None:
        """A packet arrived."""
        if self._last is not None:
            self._intervals.append(arrived_s - self._last)
            self._failures = 0
        self._last = arrived_s
        self._beats += 1

    def missed(self) -> None:
        """A connection froze before its rhythm showed: perhaps it is only slow."""
        if self._beats < 2:
            self._failures += 1

    @property
    def limit_s(self) -> float:
        """Seconds of silence after which the connection counts as frozen."""
        longest = max(self._intervals, default=0.0)
        if self._beats == 0 or (self._beats == 1 and not longest):
            # One frame must pass before FFmpeg knows where the first one ends.
            first = self._patience.reopen_s if longest else self._patience.open_s
            slow = 4 * max(longest, self._declared_s)
            return min(120.0, max(first, slow, self._stall_s or 0.0) * 2.0**self._failures)
        if self._stall_s is not None:
            return self._stall_s
        return max(self.LEAST_S, min(5 * longest, self.USUAL_S), 2.5 * longest)

    def __float__(self) -> float:
        """FFmpeg's time limit for the next packet: later than ours, it only ends the thread."""
        return self.limit_s + 1.0


class Clock:
    """Seconds in a live stream: by the camera's stamps while they make sense, else by arrival."""

    JUMP_S = 2.0
    LEAST_S = 0.001

    def __init__(self) -> None:
        self._pts_s: float | None = None
        self._raw_s: float | None = None
        self._arrived_s = 0.0

    def restart(self) -> None:
        """Another connection: its stamps have nothing to do with the ones before."""
        self._raw_s = None

    def tell(self, raw_s: float | None, arrived_s: float) -> tuple[float, bool]:
        """Seconds of a frame with stamp ``raw_s``; and whether the stamps jumped or went back."""
        jumped = False
        if self._pts_s is None:
            self._pts_s = 0.0
        else:
            waited = max(arrived_s - self._arrived_s, self.LEAST_S)
            step = 0.0 if raw_s is None or self._raw_s is None else raw_s - self._raw_s
            jumped = step < 0 or step > waited + self.JUMP_S
            self._pts_s += waited if jumped or step < self.LEAST_S else step
        self._raw_s, self._arrived_s = raw_s, arrived_s
        return self._pts_s, jumped

    def place(self, raw_s: float | None) -> float | None:
        """Where a frame with stamp ``raw_s`` would come, if the stamps go on; None: not known."""
        if raw_s is None or self._raw_s is None or self._pts_s is None:
            return None
        return self._pts_s + raw_s - self._raw_s
