"""One table across devices and artifacts, as one would publish it: rows of several documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

HEAD = (
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
    "",
)


def rows(documents: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """One row a result of each document; what has too few samples, or is not told, is None.

    The last cell is ``INVALID`` where a figure is worth nothing.
    """
    return [_row(device(one), result) for one in documents for result in one["results"]]


def device(document: Mapping[str, Any]) -> str:
    """What the machine of a document is called: by its owner, else by its board or processor."""
    named = (document.get("device") or {}).get("name")
    machine = document.get("machine") or {}
    cpu = machine.get("cpu")
    model = cpu.get("model") if isinstance(cpu, Mapping) else cpu
    return str(named or machine.get("board") or model or "this machine")


def _row(name: str, result: Mapping[str, Any]) -> tuple[Any, ...]:
    job = result["job"]
    times = result.get("latency_ms") or result.get("step_ms") or {}
    percentiles = (_value(times.get(p)) for p in ("p50", "p95", "p99"))
    return (
        name,
        job["scenario"],
        job["artifact"],
        f"{job['runtime']}/{job['accelerator']}",
        result.get("precision"),
        job.get("threads"),
        *percentiles,
        _value(result.get("fps")),
        result.get("peak_rss_mb"),
        "" if result.get("valid") else "INVALID",
    )


def _value(estimate: Any) -> float | None:
    if not isinstance(estimate, Mapping) or "value" not in estimate:
        return None
    return float(estimate["value"])
