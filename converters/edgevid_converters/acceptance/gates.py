"""The budget of a conversion: how much worse than its source an artifact may be.

The budget applies to the drop that was observed on held-out samples. A small set gets no extra
allowance, since that would hide a loss as large as the allowance; a note says what the set cannot
resolve instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from edgevid.errors import BadInput
from edgevid.tasks.host.metrics import CONFIDENCE, Comparison, Metric

MAX_DROP = 0.01
ROUNDING = 2e-6
"""Metrics are rounded to six decimals."""
NOT_MEASURED = Comparison()
"""The comparison of an artifact that could not be measured."""


@dataclass(frozen=True)
class Budget:
    """What a conversion may cost, in units of the task's metric, on held-out samples.

    Attributes:
        max_drop: How much worse than its source an artifact may be.
        min_metric: The worst metric that the source and the artifact may have; None for any.
    """

    max_drop: float = MAX_DROP
    min_metric: float | None = None

    def check(self, metric: Metric[Any] | None = None) -> None:
        """Check that the values are possible for a metric; by default one from 0 to 1.

        Raises:
            BadInput: One of them is not.
        """
        low, high = metric.bounds if metric else (0.0, 1.0)
        span = high - low
        if not (0 <= self.max_drop < span):
            most = f"0 to {0.99 * span:g}" if isfinite(span) else "0 or more"
            raise BadInput(f"--max-drop {self.max_drop:g} is out of range; use {most}")
        worst, best = (high, low) if metric and not metric.higher_is_better else (low, high)
        if self.min_metric is None:
            return
        if not low <= self.min_metric <= high or self.min_metric == worst:
            least = worst + 0.01 * (best - worst)
            range_ = f"{least:g} to {best:g}" if isfinite(span) else f"{low:g} or more"
            raise BadInput(f"--min-metric {self.min_metric:g} is out of range; use {range_}")

    def violation(self, found: Comparison) -> str | None:
        """Say why an artifact breaks the budget; None if it keeps it or was not measured.

        NaN always breaks it.
        """
        drop = found.drop
        if drop is None:
            return None
        on = f"on {found.n} held-out {found.samples}"
        if not drop <= self.max_drop + ROUNDING:
            paired = f" ({found.paired.describe()})" if found.paired else ""
            return (
                f"has {found.name} {found.artifact:.3f} {on} where the model has "
                f"{found.source:.3f}, and --max-drop is {self.max_drop:g}{paired}"
            )
        if not self._keeps_floor(found.artifact, found):
            return f"has {found.name} {found.artifact:.3f} {on}, {self._beyond(found)}"
        return None

    def source_violation(self, found: Comparison) -> str | None:
        """Say why the source model itself is worse than ``min_metric``; None if it is not."""
        if self._keeps_floor(found.source, found):
            if self.min_metric is None or found.chance is None or not found.chance.decidable:
                return None
            return self.chance_note(found)
        return (
            f"the model itself has {found.name} {found.source:.3f} on {found.n} held-out "
            f"{found.samples}, {self._beyond(found)}; check colour, scale, mean, std and the "
            "order of the labels in its contract, or the annotations of the data"
        )

    def chance_note(self, found: Comparison) -> str | None:
        """Say that the source model is no better than chance; None if it is, or has no test."""
        verdict = found.chance.verdict() if found.chance else None
        if verdict is None:
            return None
        return (
            f"the model itself has {found.name} {found.source:.3f} on {found.n} held-out "
            f"{found.samples}, which {verdict}; check the labels, or train it on more clips"
        )

    def _keeps_floor(self, value: float | None, found: Comparison) -> bool:
        if self.min_metric is None or value is None:
            return True
        if found.higher_is_better:
            return value >= self.min_metric - ROUNDING
        return value <= self.min_metric + ROUNDING

    def _beyond(self, found: Comparison) -> str:
        side = "less" if found.higher_is_better else "more"
        return f"{side} than --min-metric {self.min_metric:g}"

    def resolution_note(self, found: Comparison) -> str | None:
        """Say that the samples are too few to show that the budget is kept; None if they do."""
        most = found.drop_at_most
        if found.paired is None or most is None or most <= self.max_drop:
            return None
        needed = found.paired.samples_needed(self.max_drop)
        remedy = f"; that takes {needed} {found.samples}" if needed else ""
        return (
            f"{found.n} {found.samples} cannot resolve a drop of {self.max_drop:g} "
            f"({CONFIDENCE:.0%} upper bound {most:.2g}){remedy}"
        )
