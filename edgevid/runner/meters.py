"""What a run measures: every frame accounted for, and where the time went."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

STAGES = ("decode", "geometry", "step", "task", "sink")
PERCENTILES = (50, 90, 99)


@dataclass
class Accounts:
    """Every captured frame ends in exactly one of the other counts.

    Each count has one writer (the reading thread or the stepping one), so no lock is needed;
    ``in_flight`` is what is left, and is 0 once a run has ended by itself.
    """

    captured: int = 0
    answered: int = 0
    sampled_out: int = 0
    gated: int = 0
    dropped: int = 0
    failed: int = 0

    @property
    def in_flight(self) -> int:
        """Frames captured and not yet decided on."""
        decided = self.answered + self.sampled_out + self.gated + self.dropped + self.failed
        return self.captured - decided

    def to_json(self) -> dict[str, int]:
        """Give all counts by name."""
        return {**vars(self), "in_flight": self.in_flight}


class Samples:
    """The last ``capacity`` durations, as float64 seconds, in memory of a fixed size."""

    def __init__(self, capacity: int = 1 << 16) -> None:
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
        return round(sum(self._ring) / max(len(self._ring), 1) * 1000, 4)


@dataclass
class Meters:
    """Everything that a run measured."""

    frames: Accounts = field(default_factory=Accounts)
    latency: Samples = field(default_factory=Samples)
    stages: dict[str, Samples] = field(default_factory=lambda: {s: Samples() for s in STAGES})
    elapsed_s: float = 0.0
    first_answer_s: float | None = None
    """`time.perf_counter` at the first answer."""
    truncated: bool = False

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
