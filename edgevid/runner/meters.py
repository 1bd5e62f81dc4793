"""What a run measures: what became of every frame, and where the time went."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgevid.media.decode import Arrivals

STAGES = ("decode", "geometry", "step", "task", "sink")
PERCENTILES = (50, 90, 99)


@dataclass
class FrameCounters:
    """What became of the frames of one stream: each captured frame is in exactly one other count.

    Each count is written by one thread, or under the scheduler's lock.

    Attributes:
        answered: Frames with a result.
        sampled_out: Frames that the rate of steps leaves out, without those the source skipped.
        gated: Frames without a step because the scene was still.
        dropped: Frames of a live stream that came faster than they could be stepped.
        failed: Frames that could not be stepped, without those that the decoder lost.
        arrivals: The counters of the sources that were read, one after another.
    """

    answered: int = 0
    sampled_out: int = 0
    gated: int = 0
    dropped: int = 0
    failed: int = 0
    arrivals: list[Arrivals] = field(default_factory=list)

    @property
    def captured(self) -> int:
        """Frames that arrived."""
        return sum(one.captured for one in self.arrivals)

    @property
    def in_flight(self) -> int:
        """Frames that wait or are being processed; 0 once a run has ended."""
        return self.to_json()["in_flight"]

    def to_json(self) -> dict[str, int]:
        """All counts by name; ``captured`` is the sum of the others at every moment."""
        decided = {
            "answered": self.answered,
            "sampled_out": self.sampled_out + sum(one.skipped for one in self.arrivals),
            "gated": self.gated,
            "dropped": self.dropped,
            "failed": self.failed + sum(one.lost for one in self.arrivals),
        }
        # Read last: what other threads count meanwhile was captured before.
        captured = self.captured
        return {
            "captured": captured,
            **decided,
            "in_flight": captured - sum(decided.values()),
        }


def total(counters: Iterable[FrameCounters]) -> dict[str, int]:
    """The sum of several counters, by name."""
    sums = dict.fromkeys(FrameCounters().to_json(), 0)
    for one in counters:
        for name, count in one.to_json().items():
            sums[name] += count
    return sums


class Samples:
    """The last ``capacity`` durations in seconds, in memory of a fixed size."""

    def __init__(self, capacity: int = 1 << 12) -> None:
        self._ring = array("d")
        self._capacity = capacity
        self.count = 0

    def add(self, seconds: float) -> None:
        """Add a duration; the oldest one is replaced if the ring is full."""
        if len(self._ring) < self._capacity:
            self._ring.append(seconds)
        else:
            self._ring[self.count % self._capacity] = seconds
        self.count += 1

    def seconds(self) -> array[float]:
        """The samples; in order as long as the ring is not full."""
        return self._ring

    def percentiles_ms(self, which: Iterable[float] = PERCENTILES) -> dict[str, float]:
        """``{"p50": ..., ...}`` in milliseconds; empty without samples."""
        return percentiles_ms(self._ring, which)

    def mean_ms(self) -> float:
        """The mean in milliseconds; 0 without samples."""
        return mean_ms(self._ring)


class Meters:
    """The measurements of one stream; ``capacity`` samples of each duration are kept."""

    def __init__(self, capacity: int = 1 << 12) -> None:
        self.frames = FrameCounters()
        self.latency = Samples(capacity)
        """From the arrival of the packet to the result in the sinks' queues."""
        self.stages = {stage: Samples(capacity) for stage in STAGES}
        self.elapsed_s = 0.0
        self.first_answer_s: float | None = None
        """`time.perf_counter` at the first result."""
        self.truncated = False
        self.resets = 0
        """How often missing frames reset the recurrent state."""
        self.corrected = 0
        """Results that were emitted again because an accelerator was faulty."""

    @property
    def fps(self) -> float:
        """Source frames per second of wall time."""
        return self.frames.captured / self.elapsed_s if self.elapsed_s else 0.0


def percentiles_ms(
    seconds: Iterable[float], which: Iterable[float] = PERCENTILES
) -> dict[str, float]:
    """Nearest-rank percentiles in milliseconds: each is a duration that occurred."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    last = len(ordered)
    rank = {p: max(1, -(-last * p // 100)) for p in which}  # ceiling without floats
    return {f"p{p:g}": round(ordered[int(r) - 1] * 1000, 4) for p, r in rank.items()}


def mean_ms(seconds: array[float]) -> float:
    """The mean in milliseconds; 0 without samples."""
    return round(sum(seconds) / max(len(seconds), 1) * 1000, 4)
