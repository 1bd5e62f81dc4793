"""Whether what was measured is worth anything, or the machine was disturbed.

What slows a machine down as such (heat, a weak supply, a quota) spoils a measurement whenever it
happens. What others do is left to the statistics up to the limits below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgevid.bench.interference.record import MonitorRecord, Span
from edgevid.system.thermal import TOO_HOT


@dataclass(frozen=True)
class InterferenceLimits:
    """Up to where a disturbance is left to the statistics; shares are of the time, or of all cores.

    A p99 tells of the slowest hundredth, so whatever stops the measured processes as a whole may
    take half of that at most (quota, memory). Interference that is spread evenly may take more: a
    tenth of the cores is what a busy system service takes of a small board, while a desktop or a
    second job takes a quarter of four cores and more, and slows memory down even where a core is
    free; idle machines stay below a fiftieth.
    """

    quota_share: float = 0.005
    memory_share: float = 0.005
    steal_share: float = 0.02
    """What a host takes is taken from all at once, and so weighs more than a neighbour's work."""
    others_share: float = 0.10
    others_span_share: float = 0.30
    """In any one span of at least a second."""
    waited_share: float = 0.05
    """Of the time, waiting for cores that others used: twice that shows in a mean."""
    swapped_in_per_s: float = 20.0
    """Pages, while the measured processes faulted too; each costs a disk's or a card's access."""
    slept_s: float = 0.05
    gap_s: float = 2.0
    """Ten looks that did not come: no scheduler lets a thread wait that long for others' work."""
    slower_share: float = 0.10
    """A fall of the clock rate that is more than the steps in which it idles along."""
    least_s: float = 0.1
    """Shares mean nothing below ten ticks of the kernel's clock."""


def disturbances(record: MonitorRecord, limits: InterferenceLimits | None = None) -> list[str]:
    """Reasons for INVALID, one plain line each, with figures; none where all is well.

    Judge one job by ``record.part(lambda label: ...)``, all of them by the whole record.
    """
    limits = limits or InterferenceLimits()
    whole = record.total()
    return [
        *_quotas(whole, limits),
        *_throttled(whole),
        *_hot(record, limits),
        *_capped(record),
        *_steal(whole, limits),
        *_disturbed(record, whole, limits),
        *_memory(whole, limits),
        *_stood_still(whole, limits),
    ]


def _quotas(whole: Span, limits: InterferenceLimits) -> Iterator[str]:
    for name, quota in whole.quotas.items():
        if quota.stopped_s > limits.quota_share * whole.elapsed_s:
            cores = quota.limit_cores
            of = "" if cores is None else f" of {cores:g} core{'' if cores == 1 else 's'}"
            yield (
                f"the CPU quota{of} of cgroup {name} stopped it for {quota.stopped_s:.1f} s "
                f"of {whole.elapsed_s:.1f} s ({quota.stopped} of {quota.periods} periods)"
            )


def _throttled(whole: Span) -> Iterator[str]:
    for name, count in whole.throttled.items():
        if name == TOO_HOT:
            yield f"the processor grew too hot and slowed down {count} times"
        elif name.startswith("cooling"):
            seen = f"seen in {count} of {whole.looks} looks"
            yield f"the kernel slowed the processor down for its heat ({name}, {seen})"
        else:
            yield f"the firmware told of: {name} (in {count} of {whole.looks} looks)"


def _hot(record: MonitorRecord, limits: InterferenceLimits) -> Iterator[str]:
    told = [
        look
        for look in record.timeline
        if look["temperature_c"] is not None and look["slows_at_c"] is not None
    ]
    hot = [look for look in told if look["temperature_c"] >= look["slows_at_c"]]
    if not hot:
        return
    worst = max(hot, key=lambda look: look["temperature_c"] - look["slows_at_c"])
    about = "" if record.trip_told else "about "
    said = (
        f"the processor reached {worst['temperature_c']:.0f} °C ({record.zone}) and slows down "
        f"at {about}{worst['slows_at_c']:.0f}"
    )
    rates = [look["frequency_mhz"] for look in record.timeline if look["frequency_mhz"]]
    while_hot = sorted(look["frequency_mhz"] for look in hot if look["frequency_mhz"])
    if not rates or not while_hot:
        yield f"{said} (it does not tell its clock rate)"
        return
    # Trip points only say when the kernel begins to think of it: what counts is that it slowed.
    most, least = max(rates), while_hot[len(while_hot) // 10]
    if least < (1 - limits.slower_share) * most:
        yield f"{said} (its clock rate fell from {most} to {least} MHz)"


def _capped(record: MonitorRecord) -> Iterator[str]:
    caps = [look["limit_mhz"] for look in record.timeline if look["limit_mhz"]]
    if caps and min(caps) < max(caps):
        yield f"the highest clock rate allowed went down to {min(caps)} of {max(caps)} MHz"


def _steal(whole: Span, limits: InterferenceLimits) -> Iterator[str]:
    stolen = whole.steal_s or 0.0
    if stolen > max(limits.steal_share * whole.capacity_s, limits.least_s):
        yield (
            f"the host of this virtual machine took {stolen:.1f} s of {whole.capacity_s:.1f} s "
            f"of core time for others ({_percent(stolen, whole.capacity_s)})"
        )


def _disturbed(record: MonitorRecord, whole: Span, limits: InterferenceLimits) -> list[str]:
    return [*_others(record, whole, limits)] or [*_waited(whole, limits)]


def _others(record: MonitorRecord, whole: Span, limits: InterferenceLimits) -> Iterator[str]:
    lasting = [span for span in record.spans if span.elapsed_s >= 1]
    worst = max(lasting, key=_others_share, default=whole)
    where = f" in one of {len(lasting)} rounds"
    checks = ((whole, limits.others_share, ""), (worst, limits.others_span_share, where))
    for span, share, when in checks:
        used = span.others_s or 0.0
        if used > max(share * span.capacity_s, limits.least_s):
            yield (
                f"other processes used {_percent(used, span.capacity_s)} of the cores{when} "
                f"({used:.1f} s of {span.capacity_s:.1f} s)"
            )
            return


def _others_share(span: Span) -> float:
    return (span.others_s or 0.0) / span.capacity_s


def _waited(whole: Span, limits: InterferenceLimits) -> Iterator[str]:
    """Threads that are more than the cores wait for each other: only others' part counts."""
    if whole.waited_s is None or whole.others_s is None:
        return
    waited = min(whole.waited_s, whole.others_s)
    if waited > max(limits.waited_share * whole.elapsed_s, limits.least_s):
        yield (
            f"it waited {waited:.1f} s of {whole.elapsed_s:.1f} s for cores that other processes "
            "used"
        )


def _memory(whole: Span, limits: InterferenceLimits) -> Iterator[str]:
    waited, pages = whole.pressure_s.get("memory", 0.0), whole.swapped_in or 0
    if waited > max(limits.memory_share * whole.elapsed_s, limits.least_s):
        yield f"memory was short: processes waited for it {waited:.1f} s of {whole.elapsed_s:.1f} s"
    elif whole.major_faults and pages > max(limits.swapped_in_per_s * whole.elapsed_s, 20):
        yield f"memory was short: {pages} pages were read back from swap"


def _stood_still(whole: Span, limits: InterferenceLimits) -> Iterator[str]:
    if whole.slept_s > limits.slept_s:
        yield f"the machine was suspended for {whole.slept_s:.1f} s"
    elif whole.gap_s > limits.gap_s:
        yield f"the machine stood still: nothing could look at it for {whole.gap_s:.1f} s"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / max(whole, 1e-9):.0f} %"
