"""What decides whether an artifact is good enough, and how sure that is.

The budget holds for the drop that was seen, clip by clip, on the same held-out clips: few clips are
not given an allowance, since that would hide a loss as large as the allowance. What few clips
cannot show is said in words instead, with the drop that they do rule out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, exp, lgamma, log, log1p
from typing import Any

from edgevid.errors import BadInput

MAX_DROP = 0.01
SURE = 0.95
"""How sure a bound on the drop is."""
ROUNDING = 2e-6
"""Metrics are rounded to six decimals."""
NO_METRIC: Mapping[str, Any] = {"name": None, "source": None, "artifact": None, "n": 0}
"""The metric of an artifact that could not be measured."""


@dataclass(frozen=True)
class Budget:
    """What a conversion may cost: of the task's metric, in 0..1, on held-out clips.

    ``max_drop`` is from source to artifact; ``min_metric`` a floor for both, None for none.
    """

    max_drop: float = MAX_DROP
    min_metric: float | None = None

    def check(self) -> None:
        """Raise `BadInput` for a value that makes no sense."""
        if not 0 <= self.max_drop < 1:
            raise BadInput(f"--max-drop {self.max_drop:g} makes no sense; use 0 to 0.99")
        if self.min_metric is not None and not 0 < self.min_metric <= 1:
            raise BadInput(f"--min-metric {self.min_metric:g} makes no sense; use 0.01 to 1")

    def violation(self, metric: Mapping[str, Any]) -> str | None:
        """Why an artifact's metric is not within the budget; None where it is, or is not known.

        NaN is never within it.
        """
        if metric["name"] is None:
            return None
        name, n, found = metric["name"], metric["n"], metric["artifact"]
        if not metric["source"] - found <= self.max_drop + ROUNDING:
            return (
                f"has {name} {found:.3f} on {n} held-out clips where the model has "
                f"{metric['source']:.3f}, and --max-drop is {self.max_drop:g}{_paired(metric)}"
            )
        if self.min_metric is not None and not found >= self.min_metric - ROUNDING:
            return (
                f"has {name} {found:.3f} on {n} held-out clips, less than --min-metric "
                f"{self.min_metric:g}"
            )
        return None

    def source_violation(self, metric: Mapping[str, Any]) -> str | None:
        """Why the model itself is below the floor; None where it is not."""
        found, floor = metric["source"], self.min_metric
        if floor is None or metric["name"] is None or found >= floor - ROUNDING:
            return None
        return (
            f"the model itself has {metric['name']} {found:.3f} on {metric['n']} held-out clips, "
            f"less than --min-metric {floor:g}; check colour, scale, mean, std and the labels' "
            "order in its contract, or the labels of the data"
        )

    def words(self, metric: Mapping[str, Any]) -> str | None:
        """What so many clips cannot show; None where they show that the budget is kept."""
        n, most = metric["n"], metric.get("drop_at_most")
        if most is None or most <= self.max_drop:
            return None
        needed = f"; that takes {_enough(self.max_drop)} clips" if self.max_drop > 0 else ""
        return (
            f"a drop of {self.max_drop:g} cannot be told on {n} clips, where one clip is "
            f"{1 / n:.2g}: a drop of more than {most:.2g} is ruled out ({SURE:.0%}){needed}"
        )


def _paired(metric: Mapping[str, Any]) -> str:
    """The clips that changed sides, and whether that could be chance."""
    if "lost" not in metric:
        return ""
    lost, won = metric["lost"], metric["won"]
    return f" (lost {lost} clips, won {won}; by chance: p = {mcnemar_p(lost, won):.2g})"


def with_statistics(metric: Mapping[str, Any], tries: int = 1) -> dict[str, Any]:
    """Add ``drop_at_most`` and ``p`` of paired answers, see `drop_at_most` and `mcnemar_p`.

    ``tries`` is how many artifacts were measured on these clips to choose this one.
    """
    if "lost" not in metric:
        return dict(metric)
    lost, won, n = metric["lost"], metric["won"], metric["n"]
    most = round(drop_at_most(lost, won, n, tries), 6)
    return {**metric, "drop_at_most": most, "p": round(mcnemar_p(lost, won), 6)}


def mcnemar_p(lost: int, won: int) -> float:
    """McNemar's exact test, one-sided: how often so many or more of the changed would be lost.

    1 where nothing changed, or more was won than lost.
    """
    changed = lost + won
    return min(1.0, sum(_binomial(k, changed, 0.5) for k in range(lost, changed + 1)))


def drop_at_most(lost: int, won: int, n: int, tries: int = 1) -> float:
    """A bound on the true drop that holds with 95 %, from ``n`` paired answers.

    The drop is the share of clips that are lost less that of those that are won; each share has an
    exact bound (Clopper and Pearson), with half of the doubt. The best of several ``tries`` looks
    better than it is: the doubt is shared among them (Bonferroni).
    """
    doubt = (1 - SURE) / 2 / tries
    most_lost = _crossing(lambda share: _at_most(lost, n, share) > doubt)
    least_won = _crossing(lambda share: 1 - _at_most(won - 1, n, share) < doubt) if won else 0.0
    return most_lost - least_won


def _enough(max_drop: float) -> int:
    """The fewest clips that rule out more than ``max_drop``: those of which not one is lost."""
    return ceil(log((1 - SURE) / 2) / log1p(-max_drop))


def _at_most(count: int, n: int, share: float) -> float:
    return sum(_binomial(k, n, share) for k in range(count + 1))


def _binomial(k: int, n: int, share: float) -> float:
    """The probability of ``k`` out of ``n``."""
    if share <= 0 or share >= 1:
        return float(k == (n if share >= 1 else 0))
    ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(ways + k * log(share) + (n - k) * log1p(-share))


def _crossing(holds: Callable[[float], bool]) -> float:
    """The largest share in 0..1 for which ``holds``, which holds below it and not above."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
