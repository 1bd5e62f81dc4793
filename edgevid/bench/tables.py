"""The tables of a bench result, as data: terminals, Markdown and pages render the same ones.

Cells are text, numbers, None for what is not known, or an estimate with its confidence interval;
each output formats them in its own way.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median_high

from edgevid.bench.figures import STAGES
from edgevid.bench.interference.machine_info import ClockPolicy, PowerSensor, ThermalLimit
from edgevid.bench.result import BenchResult, JobResult, OperatorProfile, Percentiles
from edgevid.bench.statistics import Estimate, Insufficient

PERCENTILES = ("p50", "p90", "p95", "p99", "p99.9")


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: A key that is unique within a result.
        title: Its heading.
        head: The columns.
        rows: The cells.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    def formatted(self, *, compact: bool) -> list[tuple[object, ...]]:
        """Return the rows with estimates as text.

        Args:
            compact: Show the interval of a p50 only; for terminals.
        """
        return [
            tuple(
                short(cell) if compact and name != "p50 ms" else full(cell)
                for name, cell in zip(self.head, row, strict=True)
            )
            for row in self.rows
        ]


def full(cell: object) -> object:
    """Format an estimate with its interval, or how many samples it needs."""
    if isinstance(cell, Estimate):
        return f"{cell.value:.4g} ({cell.low:.4g}–{cell.high:.4g})"
    if isinstance(cell, Insufficient):
        return f"insufficient, needs {cell.needs}"
    return cell


def short(cell: object) -> object:
    """Format an estimate as its value, or as how many samples it needs."""
    if isinstance(cell, Estimate):
        return float(cell.value)
    if isinstance(cell, Insufficient):
        return f"needs {cell.needs}"
    return cell


def tables(result: BenchResult) -> list[Table]:
    """Return the tables of a result that have rows."""
    jobs = result.results
    found = [latency(jobs), stages(jobs), runner(jobs), paced(jobs), multi(jobs)]
    found += [sustained(jobs), starts(jobs), operators(jobs)]
    return [one for one in found if one.rows]


def latency(jobs: Sequence[JobResult]) -> Table:
    """Percentiles of latency, or of the step, and throughput."""
    rows = [
        (one.job.scenario, *one.engine, one.precision, one.fps, *_percentiles(one.percentiles))
        for one in jobs
    ]
    head = ("scenario", "artifact", "engine", "precision", "frames/s", *_percentile_names())
    return Table("latency", "Latency", head, tuple(rows))


def stages(jobs: Sequence[JobResult]) -> Table:
    """The mean duration of each stage."""
    rows = [
        (one.job.scenario, *one.engine, *(one.stages_ms.get(stage) for stage in STAGES))
        for one in jobs
        if one.stages_ms
    ]
    head = ("mean ms per frame", "artifact", "engine", *STAGES)
    return Table("stages", "Stages of a frame", head, tuple(rows))


def runner(jobs: Sequence[JobResult]) -> Table:
    """What the runner adds to a frame."""
    rows = [(*one.engine, *_percentiles(one.runner_ms)) for one in jobs if one.runner_ms]
    head = ("runner overhead", "engine", *_percentile_names())
    return Table("runner", "Overhead of the runner", head, tuple(rows))


def paced(jobs: Sequence[JobResult]) -> Table:
    """Deadlines of the scenario ``paced``."""
    rows = [
        (*one.engine, one.job.rate_fps, due.bound_ms, due.of, due.missed, due.late, due.unanswered)
        for one in jobs
        if (due := one.deadlines)
    ]
    columns = ("frames/s", "within ms", "frames", "missed", "late", "unanswered")
    return Table("paced", "Deadlines", ("paced", "engine", *columns), tuple(rows))


def multi(jobs: Sequence[JobResult]) -> Table:
    """Streams of the scenario ``multi``."""
    rows = [
        (*one.engine, one.job.rate_fps, held.bound_ms, held.value, held.low, held.high)
        for one in jobs
        if (held := one.streams)
    ]
    columns = ("frames/s", "within ms", "streams", "low", "high")
    return Table("multi", "Streams", ("multi", "engine", *columns), tuple(rows))


def sustained(jobs: Sequence[JobResult]) -> Table:
    """The start and the end of long runs."""
    rows = [
        (one.job.scenario, *one.engine, run.first_ms, run.last_ms, run.ratio)
        for one in jobs
        if (run := one.sustained)
    ]
    head = ("sustained", "artifact", "engine", "first p50 ms", "last p50 ms", "ratio")
    return Table("sustained", "Sustained load", head, tuple(rows))


def starts(jobs: Sequence[JobResult]) -> Table:
    """Start-up times and memory, one row an engine."""
    engines = {one.engine: one for one in jobs}
    rows = [
        (*name, _middle(one.ready_s), _middle(one.first_answer_s), one.peak_rss_mb)
        for name, one in engines.items()
    ]
    head = ("artifact", "engine", "ready s", "first result s", "peak MB")
    return Table("starts", "Start and memory", head, tuple(rows))


def operators(jobs: Sequence[JobResult]) -> Table:
    """Where the operators ran, one row an engine."""
    engines = {one.engine: one for one in jobs if isinstance(one.operators, OperatorProfile)}
    rows = []
    for name, one in engines.items():
        assert isinstance(one.operators, OperatorProfile)
        accelerated = None if one.job.accelerator == "cpu" else one.operators.accelerated
        rows.append((*name, accelerated, one.operators.on_cpu))
    head = ("artifact", "engine", "operators accelerated", "operators on the CPU")
    return Table("operators", "Operators", head, tuple(rows))


def verdict(result: BenchResult) -> list[str]:
    """Return the overhead of the harness, the verdict, and its reasons, a line each."""
    p50 = result.harness.overhead_us["p50"]
    lines = [f"The harness itself takes {p50:.3g} us a step."]
    if result.valid:
        return [*lines, "VALID"]
    return [*lines, "INVALID:", *(f"  {reason}" for reason in result.reasons)]


def _percentile_names() -> tuple[str, ...]:
    return (*(f"{name} ms" for name in PERCENTILES), "mean ms")


def _percentiles(found: Percentiles | None) -> tuple[Estimate | Insufficient | None, ...]:
    return tuple((found or {}).get(name) for name in (*PERCENTILES, "mean"))


def _middle(values: Sequence[float]) -> float | None:
    return median_high(values) if values else None


# ---------------------------------------------------------------- facts: a name and a value a row


def machine_facts(result: BenchResult) -> Iterator[tuple[str, object]]:
    """Yield what stayed the same of the machine, as name and value."""
    machine, cpu = result.machine, result.machine.cpu
    yield "device", result.device_name
    yield "board", machine.board
    yield "processor", cpu and cpu.model
    yield "cores", _joined([cpu.cores, f"{cpu.usable_cores} usable"]) if cpu else None
    yield "features", _joined(cpu.features) if cpu else None
    yield "clock", _joined(map(_clock, machine.clock)) or "not reported"
    yield "CPU quota, cores", machine.cgroup_cpu_limit or "none"
    yield "memory MB", machine.memory_mb
    yield "virtual machine", machine.virtual_machine or "no"
    yield "container", machine.container or "no"
    yield "kernel", machine.kernel
    yield "power", _joined(map(_power, machine.power)) or "not reported"
    yield "temperature", _joined(map(_heat, machine.heat)) or "not reported"
    versions = machine.versions.items()
    yield "versions", _joined(f"{name} {version}" for name, version in versions if version)


def _joined(parts: Iterable[object]) -> str:
    return ", ".join(str(part) for part in parts if part)


def _clock(one: ClockPolicy) -> str:
    return f"cores {one.cores}: {one.governor}, {one.least_mhz}–{one.most_mhz} MHz"


def _power(one: PowerSensor) -> str:
    return f"{one.name} ({one.kind}){': ' + one.unreadable if one.unreadable else ''}"


def _heat(one: ThermalLimit) -> str:
    return f"{one.zone} slows down at {one.slows_at_c} °C"


def origin_facts(result: BenchResult) -> Iterator[tuple[str, object]]:
    """Yield bundle, release, video and harness, as name and value."""
    source, overhead = result.source, result.harness.overhead_us
    size = " × ".join(str(side) for side in reversed(source.size))
    yield "measured", when(result)
    yield "bundle", result.bundle.name
    yield "bundle's sha256", result.bundle.key
    yield "release", result.release or "none"
    yield "video", f"{source.name}, {size}, {source.rate_fps} frames/s, {source.codec}"
    yield "video's sha256", source.sha256
    yield "harness, us a step", _joined(f"{name} {value:.4g}" for name, value in overhead.items())
    yield "edgevid", result.edgevid


def when(result: BenchResult) -> str:
    """Return the date and time of a result."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(result.created_unix_s))
