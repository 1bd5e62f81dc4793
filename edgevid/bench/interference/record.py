"""What was seen of the machine while something was measured on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)
MOST_LOOKS = 1000


@dataclass(frozen=True)
class Quota:
    """What the CPU quota of one cgroup did; several cores are counted one by one."""

    limit_cores: float | None = None
    periods: int = 0
    stopped: int = 0
    """Periods in which it was used up."""
    stopped_s: float = 0.0


@dataclass(frozen=True)
class Span:
    """From one mark to the next: what was counted in it. None: this machine does not tell.

    "Measured" are the processes that were given to the monitor, "own" is the one that watches.
    """

    label: str
    started_s: float
    elapsed_s: float
    looks: int = 0
    cores: int = 1
    busy_s: float | None = None
    """All cores' work, of everybody."""
    steal_s: float | None = None
    """Time that a virtual machine's host gave to others."""
    measured_s: float = 0.0
    own_s: float = 0.0
    waited_s: float | None = None
    """How long threads that are measured could have run, and had no core."""
    involuntary: int = 0
    major_faults: int = 0
    swapped_in: int | None = None
    """Pages."""
    pressure_s: dict[str, float] = field(default_factory=dict)
    """Of ``cpu``, ``memory``, ``io``: how long some process waited for it (PSI)."""
    quotas: dict[str, Quota] = field(default_factory=dict)
    """By cgroup: those above a measured process that have a quota."""
    throttled: dict[str, int] = field(default_factory=dict)
    """What slowed the processor down: how often it was seen or counted."""
    slept_s: float = 0.0
    """How long the machine was suspended."""
    gap_s: float = 0.0
    """The longest time in which the monitor did not come to look."""
    energy_j: float | None = None
    looking_s: float = 0.0
    """CPU that the looks themselves took; it is part of ``own_s``."""

    @property
    def capacity_s(self) -> float:
        """What all cores could have worked."""
        return self.cores * self.elapsed_s

    @property
    def others_s(self) -> float | None:
        """What all others worked: neither measured processes nor this one."""
        if self.busy_s is None:
            return None
        return max(0.0, self.busy_s - self.measured_s - self.own_s)


@dataclass(frozen=True)
class MonitorRecord:
    """Spans, and a look at heat, clock rate and power every fifth of a second.

    Keys of the timeline: ``t_s`` since the start, ``label`` of the span, ``frequency_mhz`` (of the
    fastest core), ``limit_mhz`` (the fastest that is allowed), ``temperature_c`` (of the zone that
    is nearest to where it slows down), ``slows_at_c``, ``power_w``. None: not told.
    """

    spans: list[Span]
    timeline: list[dict[str, Any]]
    zone: str | None = None
    """Whose temperature it is."""
    trip_told: bool = False
    """Whether the kernel told ``slows_at_c``; else it is what is usual for such machines."""
    power: str | None = None
    """What ``power_w`` is: a source of ``machine()["power"]``."""

    def part(self, wanted: Callable[[str], bool]) -> MonitorRecord:
        """Only the spans whose label is wanted, and their part of the timeline."""
        return MonitorRecord(
            [span for span in self.spans if wanted(span.label)],
            [look for look in self.timeline if wanted(look["label"])],
            self.zone,
            self.trip_told,
            self.power,
        )

    def total(self) -> Span:
        """All spans as one; ``label`` is empty."""
        return total(self.spans)

    def document(self, most_looks: int = MOST_LOOKS) -> dict[str, Any]:
        """As plain values, for JSON; of a long timeline only every so manieth look."""
        step = max(1, -(-len(self.timeline) // most_looks))
        return {**asdict(self), "timeline": self.timeline[::step]}


def total(spans: Iterable[Span]) -> Span:
    """Add spans up."""
    them = list(spans)
    return Span(
        label="",
        started_s=min((span.started_s for span in them), default=0.0),
        elapsed_s=sum(span.elapsed_s for span in them),
        looks=sum(span.looks for span in them),
        cores=max((span.cores for span in them), default=1),
        busy_s=_sum(span.busy_s for span in them),
        steal_s=_sum(span.steal_s for span in them),
        measured_s=sum(span.measured_s for span in them),
        own_s=sum(span.own_s for span in them),
        waited_s=_sum(span.waited_s for span in them),
        involuntary=sum(span.involuntary for span in them),
        major_faults=sum(span.major_faults for span in them),
        swapped_in=_sum(span.swapped_in for span in them),
        pressure_s=_sums(span.pressure_s for span in them),
        quotas=_quotas(span.quotas for span in them),
        throttled=_sums(span.throttled for span in them),
        slept_s=sum(span.slept_s for span in them),
        gap_s=max((span.gap_s for span in them), default=0.0),
        energy_j=_sum(span.energy_j for span in them),
        looking_s=sum(span.looking_s for span in them),
    )


def _sum(values: Iterable[Number | None]) -> Number | None:
    """The sum of what is told; None where nothing is."""
    told = [value for value in values if value is not None]
    return sum(told[1:], told[0]) if told else None


def _sums(all_values: Iterable[dict[str, Number]]) -> dict[str, Number]:
    found: dict[str, Number] = {}
    for values in all_values:
        for name, value in values.items():
            found[name] = found[name] + value if name in found else value
    return found


def _quotas(all_quotas: Iterable[dict[str, Quota]]) -> dict[str, Quota]:
    found: dict[str, Quota] = {}
    for quotas in all_quotas:
        for name, more in quotas.items():
            so_far = found.get(name, Quota())
            found[name] = Quota(
                so_far.limit_cores if more.limit_cores is None else more.limit_cores,
                so_far.periods + more.periods,
                so_far.stopped + more.stopped,
                so_far.stopped_s + more.stopped_s,
            )
    return found
