"""Benchmarks: how fast a bundle's artifacts run on this machine, and whether the figures are valid.

Every engine has one process that lives through all rounds of its jobs. The rounds of all jobs are
interleaved, so that drift of the machine affects all of them alike, and the machine is monitored
all the while. The outcome is one document, `edgevid.bench.result.BenchResult`.

What runs on devices is here; comparison, tables, pages and charts are in `edgevid.bench.host`.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from edgevid import __version__
from edgevid.bench import interference, measurement, operators
from edgevid.bench.figures import figures_of
from edgevid.bench.job import Job
from edgevid.bench.plan import SCENARIOS, BenchPlan, jobs_of
from edgevid.bench.result import (
    BenchedArtifact,
    BenchedBundle,
    BenchResult,
    BenchVideo,
    JobFigures,
    JobResult,
    RoundResult,
    SustainedRun,
)
from edgevid.bench.samples import unpack
from edgevid.errors import BadInput
from edgevid.files import sha256_of
from edgevid.progress import Progress, silent

if TYPE_CHECKING:
    from edgevid.bench.interference import MonitorRecord
    from edgevid.bundle import Bundle

__all__ = ["SCENARIOS", "BenchPlan", "bench", "jobs_of", "together"]

TREND_SHARE = 0.1
"""The first and the last tenth of a sustained run are compared."""


def bench(
    bundle: Bundle,
    jobs: Sequence[Job],
    video: Path,
    *,
    plan: BenchPlan | None = None,
    progress: Progress = silent,
) -> BenchResult:
    """Measure jobs on a video file and judge the result.

    Args:
        bundle: The bundle.
        jobs: Its engines in scenarios, see `jobs_of`.
        video: A video file.
        plan: How much is measured.
        progress: Called before every round.

    Raises:
        CheckFailed: If an engine fails its verification.
        BadVideo: If the video cannot be decoded.
        EnvironmentFailed: If a measuring process fails.
        BadInput: If there are no jobs.
    """
    return together([(bundle, jobs)], video, plan=plan, progress=progress)[0]


def together(
    sides: Sequence[tuple[Bundle, Sequence[Job]]],
    video: Path,
    *,
    plan: BenchPlan | None = None,
    progress: Progress = silent,
) -> list[BenchResult]:
    """Measure several bundles in one run, for a paired comparison.

    Job i of one bundle is measured next to job i of the others, round by round; see `bench`.

    Returns:
        A result of each bundle.
    """
    if not all(jobs for _, jobs in sides):
        raise BadInput("there is nothing to measure; give a scenario")
    plan = plan or BenchPlan()
    source = _source(video)
    work = [
        measurement.BundleJob(side, bundle, jobs[number])
        for number in range(max(len(jobs) for _, jobs in sides))
        for side, (bundle, jobs) in enumerate(sides)
        if number < len(jobs)
    ]
    with ExitStack() as stack:
        run = measurement.Measurement(work, video, plan, progress, stack)
        harness = run.overhead()
        run.open()
        created = time.time()
        record = run.measure()
    results = [
        _result(one.job, run.engine(one), run.rounds[number], plan, _part(record, number))
        for number, one in enumerate(work)
    ]
    machine = interference.machine()
    documents = []
    for side, (bundle, _) in enumerate(sides):
        own = [(w.job, r) for w, r in zip(work, results, strict=True) if w.side == side]
        reasons = tuple(f"{job}: {why}" for job, one in own for why in one.reasons)
        documents.append(
            BenchResult(
                edgevid=__version__,
                created_unix_s=round(created, 3),
                machine=machine,
                harness=harness,
                valid=not reasons,
                reasons=reasons,
                bundle=_bundle(bundle, {job.artifact for job, _ in own}),
                source=source,
                results=tuple(one for _, one in own),
            )
        )
    return documents


def _bundle(bundle: Bundle, measured: Container[str]) -> BenchedBundle:
    """Describe a bundle and the artifacts that were measured."""
    artifacts = tuple(
        BenchedArtifact(one.name, one.quantize, one.bytes, dict(one.metric))
        for one in bundle.artifacts
        if one.name in measured
    )
    return BenchedBundle(str(bundle.path), bundle.path.stem, bundle.key, artifacts)


def _part(record: MonitorRecord, number: int) -> MonitorRecord:
    return record.part(lambda label: label.partition(":")[0] == str(number))


def _source(video: Path) -> BenchVideo:
    from edgevid.media.video import open_file

    with open_file(str(video)) as source:
        size, codec = source.size, source.status()["codec"]
        return BenchVideo(video.name, size, source.rate_fps, codec, sha256_of(video))


def _result(
    job: Job,
    engine: measurement.MeasuredEngine,
    rounds: Sequence[RoundResult],
    plan: BenchPlan,
    record: MonitorRecord,
) -> JobResult:
    found = figures_of(job.scenario, rounds, job.latency_ms)
    reasons = (*_reasons(job, engine, found), *interference.disturbances(record))
    return JobResult(
        **{one.name: getattr(found, one.name) for one in fields(found)},
        job=job,
        precision=engine.opened.precision,
        sustained=_sustained(rounds) if plan.sustained_s is not None else None,
        first_answer_s=tuple(engine.first_answer_s),
        ready_s=tuple(engine.ready_s),
        peak_rss_mb=engine.peak_rss_mb,
        operators=engine.operators,
        valid=not reasons,
        reasons=reasons,
        rounds=tuple(rounds),
        timeline=tuple(record.timeline),
    )


def _reasons(job: Job, engine: measurement.MeasuredEngine, found: JobFigures) -> Iterator[str]:
    """Why the engine's own figures are invalid."""
    served = engine.opened.serving
    requested = {name: getattr(job, name) for name in served}
    if served != requested:
        names = [" ".join(one.values()) for one in (requested, served)]
        yield f"{names[0]} was requested, but {names[1]} ran"
    left = operators.fallen_back(engine.operators, job.accelerator)
    if left is not None:
        yield left
    if found.warm_up is not None and not found.warm_up.found:
        yield "it never became steady; measure longer, with more --samples"


def _sustained(rounds: Sequence[RoundResult]) -> SustainedRun:
    """Compare the last tenth of a long run with the first, by medians of rounds."""
    name = "latency" if "latency" in rounds[0].samples else "step"
    medians = [median(unpack(one.samples[name])) for one in rounds]
    tenth = max(1, round(TREND_SHARE * len(medians)))
    first, last = median(medians[:tenth]), median(medians[-tenth:])
    return SustainedRun(
        first_ms=round(1000 * first, 5),
        last_ms=round(1000 * last, 5),
        ratio=round(last / first, 4),
        rounds_ms=tuple(round(1000 * one, 5) for one in medians),
    )
