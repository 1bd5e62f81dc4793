"""Whether a measurement is valid, or the machine was disturbed.

Whatever slows the whole machine down (heat, a weak supply, a quota) makes a measurement invalid.
The work of other processes is left to the statistics, up to the limits below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgevid.bench.interference.record import MonitorRecord, Span
from edgevid.system.thermal import TOO_HOT


@dataclass(frozen=True)
class InterferenceLimits:
    """The disturbances that a measurement tolerates; shares are of the time, or of all cores.

    A p99 describes the slowest hundredth, so whatever stops all measured processes (quota, memory)
    may take at most half of that. Interference that is spread evenly may take more: a busy system
    service takes a tenth of the cores of a small board. A desktop or a second job takes a quarter
    of four cores and more, and slows memory down even while a core is free. Idle machines stay
    below a fiftieth.
    """

    quota_share: float = 0.005
    memory_share: float = 0.005
    steal_share: float = 0.02
    """Steal time hits all cores at once, so it weighs more than the work of other processes."""
    others_share: float = 0.10
    others_span_share: float = 0.30
    """In any single span of at least a second."""
    waited_share: float = 0.05
    """Share of the time spent waiting for cores that others used; twice that shows in a mean."""
    swapped_in_per_s: float = 20.0
    """Pages, while the measured processes fault too; each page costs a disk access."""
    slept_s: float = 0.05
    gap_s: float = 2.0
    """Ten missing looks: no scheduler delays a thread that long for the work of others."""
    slower_share: float = 0.10
    """A fall of the clock rate that is larger than the governor's idle steps."""
    least_s: float = 0.1
    """Below ten ticks of the kernel's clock shares mean nothing."""


def disturbances(record: MonitorRecord, limits: InterferenceLimits | None = None) -> list[str]:
    """Return the reasons why a measurement is invalid, one line each; none if it is valid.

    Args:
        record: The whole record, or one job's part of it: ``record.part(lambda label: ...)``.
        limits: What is tolerated.
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
            yield f"the processor overheated and slowed down {count} times"
        elif name.startswith("cooling"):
            seen = f"seen in {count} of {whole.looks} looks"
            yield f"the kernel throttled the processor because of its temperature ({name}, {seen})"
        else:
            yield f"the firmware reports: {name} (in {count} of {whole.looks} looks)"


def _hot(record: MonitorRecord, limits: InterferenceLimits) -> Iterator[str]:
    hot = [(one.excess_c, one) for one in record.timeline if (one.excess_c or -1.0) >= 0]
    if not hot:
        return
    _, worst = max(hot, key=lambda pair: pair[0] or 0.0)
    about = "" if record.trip_reported else "about "
    text = (
        f"the processor reached {worst.temperature_c:.0f} °C ({record.zone}) and slows down "
        f"at {about}{worst.slows_at_c:.0f}"
    )
    rates = [look.frequency_mhz for look in record.timeline if look.frequency_mhz]
    while_hot = sorted(look.frequency_mhz for _, look in hot if look.frequency_mhz)
    if not rates or not while_hot:
        yield f"{text} (it does not report its clock rate)"
        return
    # At a trip point the kernel only considers throttling; what counts is that the clock fell.
    most, least = max(rates), while_hot[len(while_hot) // 10]
    if least < (1 - limits.slower_share) * most:
        yield f"{text} (its clock rate fell from {most} to {least} MHz)"


def _capped(record: MonitorRecord) -> Iterator[str]:
    caps = [look.limit_mhz for look in record.timeline if look.limit_mhz]
    if caps and min(caps) < max(caps):
        yield f"the highest allowed clock rate fell to {min(caps)} of {max(caps)} MHz"


def _steal(whole: Span, limits: InterferenceLimits) -> Iterator[str]:
    stolen = whole.steal_s or 0.0
    if stolen > max(limits.steal_share * whole.capacity_s, limits.least_s):
        yield (
            f"the host of this virtual machine took {stolen:.1f} s of {whole.capacity_s:.1f} s "
            f"of core time for other guests ({_percent(stolen, whole.capacity_s)})"
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
    """Surplus threads also wait for each other; only the part that others caused counts."""
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
        yield f"the machine stalled: the monitor could not run for {whole.gap_s:.1f} s"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / max(whole, 1e-9):.0f} %"
