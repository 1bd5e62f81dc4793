"""Whether a change made a bundle slower, judged by rounds: consecutive frames are dependent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Literal, TypeAlias

from edgevid.bench.host.nonparametric import mann_whitney, paired_shift, shift, signed_rank
from edgevid.bench.host.pairing import TAILS, JobSeries, pairs
from edgevid.bench.result import BenchComparison, BenchResult, ComparisonVerdict, FigureComparison
from edgevid.bench.statistics import Estimate

Outcome: TypeAlias = Literal["no worse", "worse", "better", "inconclusive"]

LEAST_EFFECT = 0.03
"""A smaller difference counts as none, however significant it is."""

ALPHA = 0.02
"""The false-alarm rate of a whole comparison of two results."""

CONFIDENCE = 0.9
"""Of two-sided intervals: each end holds with 95 %."""


def compare_results(old: BenchResult, new: BenchResult, *, paired: bool = False) -> BenchComparison:
    """Compare ``new`` with ``old``; see `compare` and `overall`."""
    found = compare(old, new, paired=paired)
    return BenchComparison(overall(found), paired, tuple(found))


def compare(old: BenchResult, new: BenchResult, *, paired: bool = False) -> list[FigureComparison]:
    """Compare each figure of each job.

    Args:
        old: The baseline.
        new: What is judged.
        paired: The rounds of both were interleaved in one run. Otherwise the machine may have
            changed in the meantime in a way that no round shows: repeat what is close to a limit.

    Raises:
        BadInput: If the results cannot be compared; the message names the field that differs.
    """
    todo = [
        (before, after, metric)
        for before, after in pairs(old, new)
        for metric in before.figures
        if metric in after.figures
    ]
    return [
        FigureComparison(
            after.label,
            metric,
            _judge_series(before, after, metric, len(todo), paired),
            metric in TAILS,
        )
        for before, after, metric in todo
    ]


def overall(comparisons: Iterable[FigureComparison]) -> Outcome:
    """Return one outcome for all figures: the worst of them.

    An inconclusive tail does not make the whole inconclusive.
    """
    found = list(comparisons)
    outcomes = {one.verdict.outcome for one in found}
    if "worse" in outcomes:
        return "worse"
    if not found or any(one.verdict.outcome == "inconclusive" and not one.tail for one in found):
        return "inconclusive"
    return "better" if "better" in outcomes else "no worse"


def judge(
    a_rounds: Sequence[float],
    b_rounds: Sequence[float],
    *,
    least_effect: float = LEAST_EFFECT,
    alpha: float = ALPHA,
    paired: bool = False,
) -> ComparisonVerdict:
    """Judge B against A by one value a round.

    Args:
        a_rounds: A figure of each round, such as a median; above 0, and the larger the worse.
        b_rounds: The same of B.
        least_effect: A smaller relative difference counts as none.
        alpha: The significance level.
        paired: Round i of A and of B were measured next to each other, so both met the same
            conditions. Then Wilcoxon's signed-rank test is used, else the Mann-Whitney U test.

    Returns:
        The verdict; its ratio is the Hodges-Lehmann estimate of B/A.

    Raises:
        ValueError: If a side has no rounds, or a value is not above 0.
    """
    if not (len(a_rounds) and len(b_rounds)) or min(*a_rounds, *b_rounds) <= 0:
        raise ValueError("each side needs at least one round, and values above 0")
    a, b = [math.log(one) for one in a_rounds], [math.log(one) for one in b_rounds]
    if paired:
        differences = [after - before for before, after in zip(a, b, strict=True)]
        p_value, found = signed_rank(differences), paired_shift(differences, 1 - CONFIDENCE)
    else:
        p_value, found = mann_whitney(a, b)[1], shift(a, b, 1 - CONFIDENCE)
    if found is None:
        return _too_few(a_rounds, b_rounds, p_value)
    value, low, high = found
    ratio = Estimate(math.exp(value), math.exp(low), math.exp(high))
    outcome, why = _outcome(ratio, p_value < alpha, least_effect)
    return ComparisonVerdict(outcome, ratio, p_value, why)


def _outcome(ratio: Estimate, significant: bool, least: float) -> tuple[Outcome, str]:
    """The outcome that an interval and a p-value allow, and its explanation."""
    change = f"{ratio.value - 1:+.1%} ({ratio.low - 1:+.1%} to {ratio.high - 1:+.1%})"
    if significant and ratio.value >= 1 + least:
        return "worse", f"takes longer: {change}"
    if significant and ratio.value <= 1 / (1 + least):
        return "better", f"takes less: {change}"
    if ratio.high < 1 + least:
        return "no worse", f"at most {least:.0%} longer: {change}"
    return "inconclusive", f"may be {least:.0%} longer or not: {change}; measure more rounds"


def _too_few(
    a_rounds: Sequence[float], b_rounds: Sequence[float], p_value: float
) -> ComparisonVerdict:
    value = median(b_rounds) / median(a_rounds)
    ratio = Estimate(value, min(b_rounds) / max(a_rounds), max(b_rounds) / min(a_rounds))
    few = f"{len(a_rounds)} and {len(b_rounds)} rounds are too few; measure more"
    return ComparisonVerdict("inconclusive", ratio, p_value, few)


def _judge_series(
    before: JobSeries, after: JobSeries, metric: str, figures: int, paired: bool
) -> ComparisonVerdict:
    """Judge one of so many figures; the significance level is divided among them (Bonferroni)."""
    a, b = before.figures[metric], after.figures[metric]
    if paired:  # the warm-ups may take different numbers of rounds from the start
        a, b = a[-len(b) :], b[-len(a) :]
    alpha = ALPHA / figures
    if paired:  # at least the smallest p-value that a signed-rank test of so many rounds can reach
        alpha = max(alpha, min(ALPHA, 1.01 * 2.0 ** (1 - len(a))))
    found = judge(a, b, alpha=alpha, paired=paired)
    for series, name in ((before, "old"), (after, "new")):
        if not series.valid:
            reasons = "; ".join(series.reasons) or "it gives no reason"
            why = f"the {name} result is not valid: {reasons}"
            return ComparisonVerdict("inconclusive", found.ratio, found.p_value, why)
    return found
