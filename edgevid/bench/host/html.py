"""Bench results as one self-contained page: everything on it is in the results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgevid import __version__
from edgevid.bench import tables
from edgevid.bench.host import charts
from edgevid.bench.host.compare_table import compare_table
from edgevid.bench.result import BenchResult, JobResult, OperatorProfile, UnknownProfile
from edgevid.bench.summary_table import summary_table
from edgevid.report.pages import render
from edgevid.report.svg import Chart

SCENARIOS = {
    "step": "the engine alone.",
    "single": "one stream, closed loop: the next frame is read after the prediction is written.",
    "offline": "throughput: frames wait in queues, and latency includes the wait.",
    "paced": "a camera's rate, open loop: latency counts from the time a frame was due.",
    "multi": "as many cameras as keep their rate within the bound; latency of their frames.",
}


def page(results: Sequence[BenchResult]) -> str:
    """Render the page of these results as HTML.

    Raises:
        MissingExtra: If jinja2 or matplotlib is not installed.
    """
    several = len(results) > 1
    names = ", ".join(dict.fromkeys(one.bundle.name for one in results))
    devices = ", ".join(dict.fromkeys(one.device_name for one in results))
    versions = ", ".join(dict.fromkeys(one.edgevid for one in results))
    summary = summary_table(results)
    first = 0 if several else 1  # the device's name is in the lead
    scored, metric = charts.scored(results), charts.metric_of(results)
    return render(
        Path(__file__).parent / "templates",
        "bench.html",
        title=f"Bench of {names}",
        lead=f"Measured on {devices}.",
        footer=f"Measured by edgevid {versions}; page made by edgevid {__version__}.",
        results=results,
        several=several,
        summary={"head": summary.head[first:], "rows": [row[first:] for row in summary.rows]},
        metric=metric,
        scatter=charts.metric_and_latency(scored, metric) if scored else None,
        scored=[
            (result.device_name, *job.engine, job.job.scenario, ms, value)
            for result, job, ms, value in scored
        ],
        details=[_details(one) for one in results],
    )


def _details(result: BenchResult) -> dict[str, Any]:
    """What the page shows of one result."""
    jobs = result.results
    single = [one for one in jobs if one.stages_ms and one.job.scenario == "single"]
    others = [table(jobs) for table in (tables.paced, tables.multi, tables.sustained)]
    others = [tables.starts(jobs), *(table for table in others if table.rows)]
    return {
        "result": result,
        "scenarios": [*_scenarios(jobs)],
        "stages": tables.stages(jobs),
        "single": len(single),
        "stage_chart": charts.stages(single) if single else None,
        "runner": tables.runner(jobs),
        "others": others,
        "timelines": [charts.timeline(one, result.created_unix_s) for one in jobs],
        "operators": [*_operators(jobs)],
        "unprofiled": [*_unprofiled(jobs)],
        "comparison": compare_table(result.comparison) if result.comparison else None,
        "machine": [*tables.machine_facts(result)],
        "origin": [*tables.origin_facts(result)],
    }


def _scenarios(jobs: Iterable[JobResult]) -> Iterator[dict[str, Any]]:
    found: dict[str, list[JobResult]] = {}
    for one in jobs:
        found.setdefault(one.job.scenario, []).append(one)
    for name, own in found.items():
        yield {
            "name": name,
            "text": SCENARIOS.get(name, ""),
            "charts": [charts.distribution(one) for one in own],
            "table": tables.latency(own),
        }


def _operators(jobs: Sequence[JobResult]) -> Iterator[Chart]:
    for one in {one.engine: one for one in jobs}.values():
        if isinstance(one.operators, OperatorProfile):
            yield charts.operators(one, one.operators)


def _unprofiled(jobs: Sequence[JobResult]) -> Iterator[str]:
    for one in {one.engine: one for one in jobs}.values():
        if isinstance(one.operators, UnknownProfile):
            yield f"{charts.label(one)}: unknown: {one.operators.unknown}"
