"""The table of a comparison: one row a job and figure."""

from __future__ import annotations

from edgevid.bench.result import BenchComparison
from edgevid.bench.statistics import Estimate
from edgevid.bench.tables import Table

HEAD = ("job", "figure", "new / old", "verdict", "explanation")


def compare_table(comparison: BenchComparison) -> Table:
    """Return a row for each figure of each job."""
    rows = tuple(
        (one.job, one.metric, _ratio(one.verdict.ratio), one.verdict.outcome, one.verdict.why)
        for one in comparison.comparisons
    )
    return Table("comparison", "Comparison with the baseline", HEAD, rows)


def _ratio(ratio: Estimate) -> str:
    text = f"{ratio.value:.3f}"
    if ratio.low == ratio.high:  # one round each: there is no interval
        return text
    return f"{text} ({ratio.low:.3f}-{ratio.high:.3f})"
