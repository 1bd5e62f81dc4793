"""Did a change make it worse? Judged on rounds, as frames are like their neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from edgevid.bench.comparison.nonparametric import mann_whitney, paired_shift, shift, signed_rank
from edgevid.bench.comparison.pairing import TAILS, ComparedResult, pairs
from edgevid.bench.statistics import Estimate

Outcome = Literal["no worse", "worse", "better", "inconclusive"]

LEAST_EFFECT = 0.03
"""A difference that is smaller is none, however sure it is."""

ALPHA = 0.02
"""How often a difference may be seen where there is none; in a whole comparison of documents."""


CONFIDENCE = 0.9
"""Of intervals: with 95 % the truth is not above them, and with 95 % not below."""


@dataclass(frozen=True)
class ComparisonVerdict:
    """What can be said of B against A; ``ratio`` is B/A, above 1 where B takes longer."""

    outcome: Outcome
    ratio: Estimate
    p_value: float
    why: str


@dataclass(frozen=True)
class Comparison:
    """One figure of one job in two documents."""

    job: str
    metric: str
    verdict: ComparisonVerdict
    tail: bool = False
    """A tail that is worse is worse; one that cannot be told leaves the rest its verdict."""


def compare(
    old: Mapping[str, Any], new: Mapping[str, Any], *, paired: bool = False
) -> list[Comparison]:
    """Judge the results of document ``new`` against those of ``old``.

    ``paired``: their rounds were interleaved in one run. Otherwise the machine may have been
    another in the meantime, in ways that no round tells of: repeat what is close to a limit.
    Raises `BadInput`, which names the field, where what must be alike is not.
    """
    todo = [
        (before, after, metric)
        for before, after in pairs(old, new)
        for metric in before.figures
        if metric in after.figures
    ]
    return [
        Comparison(
            after.label,
            metric,
            _judge_results(before, after, metric, len(todo), paired),
            metric in TAILS,
        )
        for before, after, metric in todo
    ]


def overall(comparisons: Iterable[Comparison]) -> Outcome:
    """One word for all: the worst of them, as far as it can be told."""
    told = list(comparisons)
    outcomes = {one.verdict.outcome for one in told}
    if "worse" in outcomes:
        return "worse"
    if not told or any(one.verdict.outcome == "inconclusive" and not one.tail for one in told):
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
    """Judge B against A by one value a round (a median, a p95), above 0 and the longer the worse.

    ``paired``: round i of A and of B were measured next to each other, so both met the same
    machine; then Wilcoxon's test serves, else Mann's and Whitney's. The ratio is Hodges' and
    Lehmann's, with its interval.
    """
    if not (len(a_rounds) and len(b_rounds)) or min(*a_rounds, *b_rounds) <= 0:
        raise ValueError("rounds are compared by times above 0, and by one of each at least")
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


def _outcome(ratio: Estimate, sure: bool, least: float) -> tuple[Outcome, str]:
    """What an interval and a p-value allow to be said, and the sentence."""
    said = f"{ratio.value - 1:+.1%} ({ratio.low - 1:+.1%} to {ratio.high - 1:+.1%})"
    if sure and ratio.value >= 1 + least:
        return "worse", f"takes longer: {said}"
    if sure and ratio.value <= 1 / (1 + least):
        return "better", f"takes less: {said}"
    if ratio.high < 1 + least:
        return "no worse", f"takes less than {least:.0%} longer: {said}"
    return "inconclusive", f"may be {least:.0%} longer, or not: {said}; measure more rounds"


def _too_few(
    a_rounds: Sequence[float], b_rounds: Sequence[float], p_value: float
) -> ComparisonVerdict:
    value = median(b_rounds) / median(a_rounds)
    ratio = Estimate(value, min(b_rounds) / max(a_rounds), max(b_rounds) / min(a_rounds))
    few = f"{len(a_rounds)} rounds against {len(b_rounds)} cannot tell; measure more"
    return ComparisonVerdict("inconclusive", ratio, p_value, few)


def _judge_results(
    before: ComparedResult, after: ComparedResult, metric: str, parts: int, paired: bool
) -> ComparisonVerdict:
    a, b = before.figures[metric], after.figures[metric]
    if paired:  # a warm-up takes the first rounds, and not equally many of each
        a, b = a[-len(b) :], b[-len(a) :]
    alpha = ALPHA / parts
    if paired:  # not less than what a signed-rank test can reach with so many
        alpha = max(alpha, min(ALPHA, 1.01 * 2.0 ** (1 - len(a))))
    found = judge(a, b, alpha=alpha, paired=paired)
    for result, name in ((before, "old"), (after, "new")):
        if not result.valid:
            reasons = "; ".join(result.reasons) or "no reason is given"
            why = f"the {name} result is not valid: {reasons}"
            return ComparisonVerdict("inconclusive", found.ratio, found.p_value, why)
    return found
