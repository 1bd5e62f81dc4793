"""Timing of a stream that reconnects: retries and stall detection."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from edgevid.media.unavailable import Reason


@dataclass(frozen=True)
class Backoff:
    """When to retry, and how long an attempt may take. All values are in seconds.

    Attributes:
        first_s: Delay before the first retry; it doubles with each further one.
        max_s: Longest delay, short so that a camera is back soon after its network.
        max_refused_s: Longest delay after a wrong password, because cameras lock accounts.
        max_wrong_s: Longest delay after a peer that answers with the wrong thing.
        open_s: Limit for opening a camera and its first packets while its rate is unknown.
        reopen_s: The same limit once its rate is known.
    """

    first_s: float = 0.5
    max_s: float = 1.5
    max_refused_s: float = 60.0
    max_wrong_s: float = 15.0
    open_s: float = 20.0
    reopen_s: float = 5.0

    def delay_s(self, reason: Reason, attempts: int) -> float:
        """The delay before the next attempt, exponential with random jitter.

        Args:
            reason: Why the last attempt failed.
            attempts: How many attempts failed in a row.

        Returns:
            Seconds, between half the exponential delay and all of it.
        """
        longest = {
            Reason.AUTH: self.max_refused_s,
            Reason.CERTIFICATE: self.max_wrong_s,
            Reason.NOT_FOUND: self.max_wrong_s,
            Reason.CODEC: self.max_wrong_s,
        }.get(reason, self.max_s)
        delay = min(longest, self.first_s * 2.0 ** min(attempts, 16))
        return delay * random.uniform(0.5, 1.0)


class StallDetector:
    """How long a camera may be silent before its connection counts as frozen.

    The limit is derived from the longest interval between recent packets, unless it is given.
    """

    MIN_S, TYPICAL_S = 1.5, 2.7
    RECENT = 64

    def __init__(self, backoff: Backoff, stall_s: float | None) -> None:
        self._backoff, self._stall_s = backoff, stall_s
        self._intervals: deque[float] = deque(maxlen=self.RECENT)
        self._declared_s = 0.0
        self._last_s: float | None = None
        self._packets = self._early_stalls = 0
        self.least_s = 0.0
        """The limit is never below this many seconds."""

    def begin(self) -> None:
        """Start with a new connection; the known intervals of the camera are kept."""
        self._last_s, self._packets = None, 0

    def declare(self, rate_fps: float) -> None:
        """Take the rate that the stream declares, in frames per second; 0 if it declares none."""
        self._declared_s = 1 / rate_fps if rate_fps > 0 else 0.0

    def packet(self, arrived_s: float) -> None:
        """Record the arrival of a packet, in seconds of any clock that only moves forward."""
        if self._last_s is not None:
            self._intervals.append(arrived_s - self._last_s)
            self._early_stalls = 0
        self._last_s = arrived_s
        self._packets += 1

    def stalled(self) -> None:
        """Record a stall. Before the second packet it may be just a slow camera: wait longer."""
        if self._packets < 2:
            self._early_stalls += 1

    @property
    def limit_s(self) -> float:
        """Seconds of silence after which the connection counts as frozen."""
        return max(self._learned_s(), self.least_s)

    def _learned_s(self) -> float:
        longest = max(self._intervals, default=0.0)
        if self._packets == 0 or (self._packets == 1 and not longest):
            # FFmpeg finds the end of the first frame only when the second one begins.
            first = self._backoff.reopen_s if longest else self._backoff.open_s
            slow = 4 * max(longest, self._declared_s)
            return min(120.0, max(first, slow, self._stall_s or 0.0) * 2.0**self._early_stalls)
        if self._stall_s is not None:
            return self._stall_s
        return max(self.MIN_S, min(5 * longest, self.TYPICAL_S), 2.5 * longest)

    def __float__(self) -> float:
        """FFmpeg's limit for the next packet: longer than ours, because it only ends the thread."""
        return self.limit_s + 1.0


class AnswerTimes:
    """How long to wait for the first answer of a peer, which FFmpeg would do for much longer.

    Most cameras answer at once, and a short wait finds them soon after their network is back. Slow
    ones are found by longer and longer waits: each time if none ever succeeded, else now and then.
    """

    FIRST_S = 1.5
    PATIENT = 4
    """Once the peer has answered, every fourth failed wait in a row is followed by a longer one."""

    def __init__(self) -> None:
        self._missed = 0
        self._slowest_s: float | None = None

    def limit_s(self, open_s: float) -> float:
        """The limit of the next wait.

        Args:
            open_s: Seconds that FFmpeg itself may take.

        Returns:
            Seconds, never more than ``open_s``.
        """
        if self._slowest_s is None:
            return min(self.FIRST_S * 2.0 ** min(self._missed, 16), open_s)
        rounds, position = divmod(self._missed, self.PATIENT)
        longer = self.FIRST_S * 2.0 ** min(rounds + 1, 16) if position == self.PATIENT - 1 else 0.0
        return min(max(self.FIRST_S, 2 * self._slowest_s, longer), open_s)

    def missed(self) -> None:
        """Record that the peer did not answer in time."""
        self._missed += 1

    def came(self, after_s: float) -> None:
        """Record an answer.

        Args:
            after_s: Seconds that it took.
        """
        self._missed = 0
        self._slowest_s = max(after_s, self._slowest_s or 0.0)
