"""Did a change make it worse? Judged on rounds, as frames are like their neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgevid.bench.statistics import Estimate

Outcome = Literal["no worse", "worse", "better", "inconclusive"]
LEAST_EFFECT, ALPHA = 0.03, 0.02


@dataclass(frozen=True)
class Verdict:
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
    verdict: Verdict


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """U of ``a`` and the two-sided p; exact for small samples, with ties."""
    raise NotImplementedError


def judge(
    a_rounds: Sequence[float],
    b_rounds: Sequence[float],
    *,
    least_effect: float = LEAST_EFFECT,
    alpha: float = ALPHA,
    paired: bool = False,
) -> Verdict:
    """Judge B against A by one value a round (a median, a p95), the longer the worse.

    ``paired``: round i of A and of B were measured next to each other.
    """
    raise NotImplementedError


def compare(
    old: Mapping[str, Any], new: Mapping[str, Any], *, paired: bool = False
) -> list[Comparison]:
    """Judge the results of document ``new`` against those of ``old``.

    Raises `BadInput`, which names the field, where what must be alike is not.
    """
    raise NotImplementedError
