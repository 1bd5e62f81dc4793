"""Reading the metric that a bundle records for an artifact.

The record is a mapping with ``name``, ``source`` and ``artifact``, and ``higher_is_better`` if the
metric is an error. It may come from a stranger's bundle and hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def metric_drop(reference: float, other: float, *, higher_is_better: bool) -> float:
    """Return how much worse ``other`` is than ``reference``; negative if it is better."""
    return reference - other if higher_is_better else other - reference


def recorded_drop(metric: Mapping[str, Any]) -> float | None:
    """Return how much worse than its source an artifact is, as recorded; None if it is not."""
    source, artifact = metric.get("source"), metric.get("artifact")
    if not isinstance(source, int | float) or not isinstance(artifact, int | float):
        return None
    better = metric.get("higher_is_better") is not False
    return metric_drop(float(source), float(artifact), higher_is_better=better)


def recorded_value(metric: Mapping[str, Any]) -> float | None:
    """Return the metric of an artifact, as recorded; None if it is not."""
    found = metric.get("artifact")
    return float(found) if isinstance(found, int | float) else None


def recorded_agreement(
    metric: Mapping[str, Any], parity: Mapping[str, Any]
) -> tuple[float | None, int | None]:
    """Return how far an artifact agrees with its source, and on how many frames, as recorded.

    Args:
        metric: What is recorded of its metric, on labelled frames.
        parity: What is recorded of its parity; of an integer artifact on all available frames.
    """
    labelled = metric.get("agreement") is not None and "agreement_at_least" not in parity
    found = metric if labelled else parity
    agreement, n = found.get("agreement"), found.get("n")
    return (
        float(agreement) if isinstance(agreement, int | float) else None,
        int(n) if isinstance(n, int | float) and agreement is not None else None,
    )


def metric_name(metrics: list[Mapping[str, Any]], default: str = "metric") -> str:
    """Return the name of the first metric that was recorded."""
    return next((str(one["name"]) for one in metrics if one.get("name")), default)
