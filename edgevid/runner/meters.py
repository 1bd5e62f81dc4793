"""What a run measures: every frame accounted for, and where the time went."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgevid.media.decode import Arrivals

STAGES = ("decode", "geometry", "step", "task", "sink")
PERCENTILES = (50, 90, 99)


@dataclass
class FrameCounters:
    """Every captured frame ends in exactly one of the other counts.

    ``arrivals`` are the counters of the sources that were followed, one after another: what they
    skipped counts as sampled out, what their decoders lost as failed. Each count is written by one
    thread, or under the server's lock; ``in_flight`` is what is left, and 0 once a run has ended.
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
        """Frames captured and not yet decided on."""
        return self.to_json()["in_flight"]

    def to_json(self) -> dict[str, int]:
        """Give all counts by name; their sum holds at every moment."""
        decided = {
            "answered": self.answered,
            "sampled_out": self.sampled_out + sum(one.skipped for one in self.arrivals),
            "gated": self.gated,
            "dropped": self.dropped,
            "failed": self.failed + sum(one.lost for one in self.arrivals),
        }
        # Read last: what other threads decide meanwhile was captured before.
        captured = self.captured
        return {
            "captured": captured,
            **decided,
            "in_flight": captured - sum(decided.values()),
        }


def total(counters: Iterable[FrameCounters]) -> dict[str, int]:
    """The sum of several accounts, by name."""
    sums = dict.fromkeys(FrameCounters().to_json(), 0)
    for one in counters:
        for name, count in one.to_json().items():
            sums[name] += count
    return sums


class Samples:
    """The last ``capacity`` durations, as float64 seconds, in memory of a fixed size."""

    def __init__(self, capacity: int = 1 << 12) -> None:
        self._ring = array("d")
        self._capacity = capacity
        self.count = 0

    def add(self, seconds: float) -> None:
        """Keep one more, in the place of the oldest where the ring is full."""
        if len(self._ring) < self._capacity:
            self._ring.append(seconds)
        else:
            self._ring[self.count % self._capacity] = seconds
        self.count += 1

    def seconds(self) -> array[float]:
        """The samples; in the order of their arrival while the ring is not full."""
        return self._ring

    def percentiles_ms(self, which: Iterable[float] = PERCENTILES) -> dict[str, float]:
        """``{"p50": ..., ...}`` in milliseconds; empty without samples."""
        return percentiles_ms(self._ring, which)

    def mean_ms(self) -> float:
        """The mean in milliseconds; 0 without samples."""
        return mean_ms(self._ring)


class Meters:
    """What was measured of one pipeline; ``capacity`` samples of each duration are kept."""

    def __init__(self, capacity: int = 1 << 12) -> None:
        self.frames = FrameCounters()
        self.latency = Samples(capacity)
        """From the arrival of the packet to the answer that was handed over."""
        self.stages = {stage: Samples(capacity) for stage in STAGES}
        self.elapsed_s = 0.0
        self.first_answer_s: float | None = None
        """`time.perf_counter` at the first answer."""
        self.truncated = False
        self.resets = 0
        """How often a gap emptied the memory."""
        self.corrected = 0
        """Answers that were told again because an accelerator had given them wrongly."""

    @property
    def fps(self) -> float:
        """Source frames per second of wall time."""
        return self.frames.captured / self.elapsed_s if self.elapsed_s else 0.0


def percentiles_ms(
    seconds: Iterable[float], which: Iterable[float] = PERCENTILES
) -> dict[str, float]:
    """Nearest-rank percentiles: each is a latency that really occurred, in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    last = len(ordered)
    rank = {p: max(1, -(-last * p // 100)) for p in which}  # ceiling without floats
    return {f"p{p:g}": round(ordered[int(r) - 1] * 1000, 4) for p, r in rank.items()}


def mean_ms(seconds: array[float]) -> float:
    """The mean in milliseconds; 0 without samples."""
    return round(sum(seconds) / max(len(seconds), 1) * 1000, 4)
