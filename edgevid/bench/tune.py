"""Search for the fastest engine of a bundle on this machine (successive halving).

A candidate is an artifact in a runtime on an accelerator with a number of threads. It takes part if
it passes verification and its recorded metric is within a bound. All candidates run in short,
interleaved rounds; the slower half is dropped and the rest is measured longer, until few remain.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from edgevid import bench, proof, targets
from edgevid.bench.job import Job
from edgevid.bench.playback import play
from edgevid.bench.result import (
    BenchedBundle,
    BenchResult,
    ForgottenTuning,
    JobResult,
    TuningResult,
)
from edgevid.bench.samples import unpack
from edgevid.bench.scenarios import BoundedClip
from edgevid.errors import BadInput, CheckFailed, EdgevidError
from edgevid.media.sources import SourceOptions
from edgevid.progress import Progress, silent
from edgevid.runner import engines, tuned
from edgevid.runner.meters import Meters
from edgevid.runner.stream_pipeline import DirectOutput
from edgevid.runner.tuned import Tuned
from edgevid.tasks import open_task
from edgevid.tasks.evidence import recorded_drop

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.predictions import Prediction
    from edgevid.runner.engines import Choice

MAX_DROP = 0.01
LEAST_EFFECT = 0.03
"""Candidates within this share of the fastest are equal; then the metric and fewer threads win."""
LAST = 3
"""So many candidates are measured to the end."""
SHORT = bench.BenchPlan(rounds=3, samples=90, seconds=0.2, starts=0)
FINAL = bench.BenchPlan(starts=1)
COMPARED = 600
"""So many frames are decoded both ways."""

Log = Callable[[str], None]


def tune(
    bundle: Bundle,
    video: Path,
    *,
    whole_pipeline: bool,
    max_drop: float = MAX_DROP,
    final: bench.BenchPlan = FINAL,
    progress: Progress = silent,
    log: Log = lambda _: None,
) -> BenchResult:
    """Find the best engine and store it for the runner.

    Args:
        bundle: The bundle.
        video: A video file.
        whole_pipeline: Measure from encoded video to prediction; else the step alone.
        max_drop: The largest drop of the task's metric that is allowed.
        final: How much is measured of the last candidates.
        progress: Called before every round.
        log: Called with a line about each decision.

    Returns:
        The result of the last candidates, with ``tuned``.

    Raises:
        CheckFailed: If no engine may be chosen.
    """
    found, left_out = _eligible(bundle, max_drop)
    for what, why in left_out.items():
        log(f"{what} is left out: {why}")
    if not found:
        raise CheckFailed(f"{bundle.path}: no engine may be chosen: {'; '.join(left_out.values())}")
    scenario = "single" if whole_pipeline else "step"
    jobs = [
        Job(*(c.artifact, c.runtime, c.accelerator, scenario), threads=threads)
        for c in found
        for threads in _threads(c)
    ]
    tried = len(jobs)
    result = measure_finalists(bundle, jobs, video, final, progress, log)
    best = fastest(bundle, result)
    choice = Tuned(best.artifact, best.runtime, best.accelerator, best.threads)
    if whole_pipeline and _may_skip(bundle, best, video, max_drop, final, progress, log):
        choice = replace(choice, skip_loop_filter=True)
    tuned.keep(bundle, choice)
    log(f"chosen: {choice}")
    stored = TuningResult(
        choice=str(choice),
        name=tuned.name(bundle),
        content=tuned.content(bundle, choice),
        tried=tried,
        left_out=left_out,
    )
    return replace(result, tuned=stored)


def forget(bundle: Bundle) -> ForgottenTuning:
    """Remove the stored choice, so that the runner chooses the engine itself."""
    tuned.forget(bundle)
    path = bundle.path
    stored = TuningResult(choice=None, name=tuned.name(bundle), content=None)
    return ForgottenTuning(BenchedBundle(str(path), path.stem, bundle.key), stored)


# ---------------------------------------------------------------- candidates


def _eligible(bundle: Bundle, max_drop: float) -> tuple[list[Choice], dict[str, str]]:
    """The engines that may be chosen, and the reason for each other one by its name."""
    found, left_out = [], {}
    for choice in engines.choices(bundle, targets.load("local")):
        why = inaccurate(bundle, choice.artifact, max_drop) or _unproven(bundle, choice)
        if why is None:
            found.append(choice)
        else:
            left_out[str(choice)] = why
    return found, left_out


def inaccurate(bundle: Bundle, artifact: str, max_drop: float) -> str | None:
    """Say why an artifact's recorded metric is not good enough; None if it is.

    A full-precision artifact without a record counts as good as its source.
    """
    metric = bundle.artifact(artifact).metric
    drop = recorded_drop(metric)
    if drop is None:
        whole = bundle.artifact(artifact).quantize == "float32"
        return None if whole else "its metric was not recorded"
    name = metric.get("name") or "the metric"
    return None if drop <= max_drop else f"{name} drop {drop:.3g} exceeds the allowed {max_drop:g}"


def _unproven(bundle: Bundle, choice: Choice) -> str | None:
    try:
        verdict = proof.prove_in_child(bundle, choice.artifact, choice.runtime, choice.accelerator)
    except EdgevidError as error:
        return str(error)
    return None if verdict.ok else f"its proof fails: {verdict.reason}"


def _threads(choice: Choice) -> list[int]:
    """One, two, four ... and all cores; on an accelerator CPU threads do nothing."""
    cores = min(len(os.sched_getaffinity(0)), 16)
    if choice.accelerator != "cpu":
        return [1]
    return sorted({n for n in (1, 2, 4, 8, 16) if n <= cores} | {cores})


# ---------------------------------------------------------------- halving


def measure_finalists(
    bundle: Bundle,
    jobs: list[Job],
    video: Path,
    final: bench.BenchPlan,
    progress: Progress,
    log: Log,
) -> BenchResult:
    """Drop the slower half until few candidates remain; returns their result."""
    plan = SHORT
    while len(jobs) > LAST:
        found = bench.bench(bundle, jobs, video, plan=plan, progress=progress)
        times = dict(zip(jobs, map(typical_s, found.results), strict=True))
        ordered = sorted(jobs, key=times.__getitem__)
        count = max(LAST, (len(jobs) + 1) // 2)
        jobs = [job for job in jobs if job in ordered[:count]]
        best = ordered[0]
        log(f"{len(jobs)} of {len(ordered)} continue; {best} leads, {1000 * times[best]:.3g} ms")
        plan = replace(plan, rounds=2 * plan.rounds, samples=2 * plan.samples)
    return bench.bench(bundle, jobs, video, plan=final, progress=progress)


def typical_s(result: JobResult) -> float:
    """Return the median over rounds of their median duration, in seconds."""
    return median(median(unpack(one.samples[result.series])) for one in result.rounds)


def fastest(bundle: Bundle, result: BenchResult) -> Job:
    """The fastest; among equals the one with the best metric, then with fewer threads."""
    times = {one.job: typical_s(one) for one in result.results}
    limit = min(times.values()) * (1 + LEAST_EFFECT)
    close = [job for job, seconds in times.items() if seconds <= limit]

    def rank(job: Job) -> tuple[float, int]:
        return recorded_drop(bundle.artifact(job.artifact).metric) or 0.0, job.threads

    return min(close, key=rank)


# ---------------------------------------------------------------- decoding


def _may_skip(
    bundle: Bundle,
    best: Job,
    video: Path,
    max_drop: float,
    final: bench.BenchPlan,
    progress: Progress,
    log: Log,
) -> bool:
    """Whether decoding without the loop filter is faster and predictions stay the same."""
    jobs = [best, replace(best, skip_loop_filter=True)]
    found = bench.bench(bundle, jobs, video, plan=final, progress=progress)
    with_it, without = map(typical_s, found.results)
    if without > with_it * (1 - LEAST_EFFECT):
        return False
    changed = 1 - agreement(bundle, best, video)
    log(f"without the loop filter: {without / with_it - 1:+.1%} of time, {changed:.1%} differ")
    # A metric that is a share cannot drop by more than the share of predictions that change. The
    # units of an error have nothing to do with that share.
    error = bundle.artifact(best.artifact).metric.get("higher_is_better") is False
    return changed <= (MAX_DROP if error else max_drop)


def agreement(bundle: Bundle, job: Job, video: Path) -> float:
    """Return how far predictions agree with and without the loop filter, 0 to 1, by the task."""
    kept, other = (_predictions(bundle, job, video, skip) for skip in (False, True))
    if len(kept) != len(other) or not kept:
        return 0.0
    return open_task(bundle.contract).agreement(kept, other)


def _predictions(bundle: Bundle, job: Job, video: Path, skip: bool) -> list[Prediction]:
    """Predict a video's frames, decoded with or without the loop filter."""
    engine, _ = engines.open_engine(
        bundle, [job.choice], threads=job.threads, report=lambda _: None
    )
    options = SourceOptions(skip_loop_filter=skip, frame_threads=False)
    found: list[Prediction] = []
    output = DirectOutput(lambda result: found.append(result.prediction))
    with closing(engine):
        clip = BoundedClip(video, options, until_s=0.0, least=COMPARED)
        play(clip, bundle.contract, engine, output, rate_fps=None, meters=Meters())
    return found


def check_options(options: Mapping[str, Any]) -> None:
    """Reject options that the search ignores.

    Args:
        options: The options of ``edgevid bench``.

    Raises:
        BadInput: If one of them cannot be combined with ``--tune``.
    """
    fixed = ("artifact", "runtime", "accelerator", "skip_loop_filter")
    for name in (*fixed, "baseline", "sustained", "rate_fps", "latency_ms"):
        if options.get(name):
            option = name.replace("_", "-")
            raise BadInput(f"--tune and --{option} cannot be combined; give one")
    if set(options.get("scenarios") or ()) - {"step", "single"}:
        raise BadInput("--tune searches by --scenario step, or single with a --source")
