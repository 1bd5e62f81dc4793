"""What the monitor recorded while something was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Quota:
    """The effect of one cgroup's CPU quota; several cores are counted separately."""

    limit_cores: float | None = None
    periods: int = 0
    stopped: int = 0
    """Periods in which the quota was exhausted."""
    stopped_s: float = 0.0


@dataclass(frozen=True)
class Span:
    """The counts between two marks. None: this machine does not report it.

    "Measured" are the processes that the monitor was given; "own" is the monitoring process.
    """

    label: str
    started_s: float
    elapsed_s: float
    looks: int = 0
    cores: int = 1
    busy_s: float | None = None
    """Work of all processes on all cores."""
    steal_s: float | None = None
    """Time that the host of this virtual machine gave to other guests."""
    measured_s: float = 0.0
    own_s: float = 0.0
    waited_s: float | None = None
    """How long runnable threads of measured processes waited for a core."""
    involuntary: int = 0
    major_faults: int = 0
    swapped_in: int | None = None
    """Pages."""
    pressure_s: dict[str, float] = field(default_factory=dict)
    """How long some process waited for ``cpu``, ``memory`` or ``io`` (PSI)."""
    quotas: dict[str, Quota] = field(default_factory=dict)
    """By cgroup: the cgroups above a measured process that have a quota."""
    throttled: dict[str, int] = field(default_factory=dict)
    """How often each cause of throttling was seen or counted."""
    slept_s: float = 0.0
    """How long the machine was suspended."""
    gap_s: float = 0.0
    """The longest time between two looks of the monitor."""
    energy_j: float | None = None
    looking_s: float = 0.0
    """CPU time of the looks themselves, a part of ``own_s``."""

    @property
    def capacity_s(self) -> float:
        """The CPU time that all cores offer."""
        return self.cores * self.elapsed_s

    @property
    def others_s(self) -> float | None:
        """CPU time of all other processes: neither measured nor this one."""
        if self.busy_s is None:
            return None
        return max(0.0, self.busy_s - self.measured_s - self.own_s)


@dataclass(frozen=True)
class MonitorLook:
    """The machine at one moment. None: not reported."""

    t_s: float
    """Seconds since the monitor started."""
    label: str
    """``JOB:ROUND`` of a benchmark."""
    frequency_mhz: int | None = None
    """Clock rate of the fastest core."""
    limit_mhz: int | None = None
    """The highest clock rate that is allowed."""
    temperature_c: float | None = None
    """Of the zone that is nearest to its limit."""
    slows_at_c: float | None = None
    """The limit of that zone."""
    power_w: float | None = None

    @property
    def excess_c(self) -> float | None:
        """Degrees above the limit; None if either is not reported."""
        if self.temperature_c is None or self.slows_at_c is None:
            return None
        return self.temperature_c - self.slows_at_c


@dataclass(frozen=True)
class MonitorRecord:
    """Spans, and a look at temperature, clock rate and power every fifth of a second."""

    spans: list[Span]
    timeline: list[MonitorLook]
    zone: str | None = None
    """The zone whose temperature it is."""
    trip_reported: bool = False
    """Whether the kernel reports ``slows_at_c``; else it is usual for such machines."""
    power: str | None = None
    """The source of ``power_w``: a name in ``machine().power``."""

    def part(self, wanted: Callable[[str], bool]) -> MonitorRecord:
        """Return the spans whose label is wanted, and their part of the timeline."""
        return MonitorRecord(
            [span for span in self.spans if wanted(span.label)],
            [look for look in self.timeline if wanted(look.label)],
            self.zone,
            self.trip_reported,
            self.power,
        )

    def total(self) -> Span:
        """All spans as one; ``label`` is empty."""
        return total(self.spans)


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
    """The sum of the known values; None if none is known."""
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None


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
