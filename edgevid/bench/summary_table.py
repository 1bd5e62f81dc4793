"""One table of several results, across devices and artifacts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgevid.bench.result import BenchResult, JobResult
from edgevid.bench.tables import Table

KEYS = (
    "device",
    "scenario",
    "artifact",
    "engine",
    "precision",
    "threads",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "a second",
    "peak MB",
    "valid",
)
"""The keys of a row in JSON."""

HEAD = (*KEYS[:9], "frames/s", "peak MB", "")


def rows(results: Iterable[BenchResult]) -> list[tuple[Any, ...]]:
    """Return a row for each job of each result; None where there are too few samples.

    The last cell is ``INVALID`` if the job is invalid.
    """
    return [_row(one.device_name, job) for one in results for job in one.results]


def summary_table(results: Iterable[BenchResult]) -> Table:
    """Return the table of all results."""
    return Table("summary", "All devices", HEAD, tuple(rows(results)))


def _row(device: str, result: JobResult) -> tuple[Any, ...]:
    found = result.percentiles
    return (
        device,
        result.job.scenario,
        *result.engine,
        result.precision,
        result.job.threads,
        *(found[p].value if p in found else None for p in ("p50", "p95", "p99")),
        None if result.fps is None else result.fps.value,
        result.peak_rss_mb,
        "" if result.valid else "INVALID",
    )
