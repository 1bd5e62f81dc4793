"""Metrics: how good predictions are, and whether two models differ by more than chance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, lgamma, log, log1p
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from edgevid.predictions import Prediction
from edgevid.tasks.evidence import metric_drop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

P = TypeVar("P", bound=Prediction)

CONFIDENCE = 0.95
"""Confidence of every upper bound on a drop."""
DECIMALS = 6
"""Decimal places of figures in evidence."""


class PairedTest(ABC):
    """A test of whether two models differ, from their predictions for the same samples.

    A *drop* is how much worse the second model is, in units of the metric; it is positive if the
    second one is worse, whichever direction is better.
    """

    @property
    @abstractmethod
    def p(self) -> float:
        """Probability of a drop this large by chance, one-sided."""

    @abstractmethod
    def drop_at_most(self, tries: int = 1) -> float:
        """Upper bound on the true drop with 95 % confidence.

        Args:
            tries: How many models were measured on these samples to choose the second one; the
                error probability is shared among them (Bonferroni).
        """

    def samples_needed(self, max_drop: float) -> int | None:
        """Fewest samples that can rule out a drop above ``max_drop``; None if unknown."""
        del max_drop
        return None

    def counts(self) -> Mapping[str, int]:
        """Counts to record in evidence, by name."""
        return {}

    def describe(self) -> str:
        """Return the test in a few words."""
        return f"p = {self.p:.2g}"

    def to_json(self, tries: int = 1) -> dict[str, Any]:
        """Return `counts`, ``drop_at_most`` and ``p`` as plain data for JSON."""
        return {
            **self.counts(),
            "drop_at_most": round(self.drop_at_most(tries), DECIMALS),
            "p": round(self.p, DECIMALS),
        }


@dataclass(frozen=True)
class ChanceTest:
    """Whether a model is better than a guess that ignores its input.

    Attributes:
        baseline: The metric of the best guess, 0 to 1.
        guess: What it always predicts.
        p: Probability that the guess is as good as the model by chance, one-sided.
        n: Number of samples.
        tries: How many models were measured on these samples to choose this one; the error
            probability is shared among them (Bonferroni).
    """

    baseline: float
    guess: str
    p: float
    n: int
    tries: int = 1

    @property
    def better(self) -> bool:
        """Whether the model is better with 95 % confidence."""
        return self.p * self.tries < 1 - CONFIDENCE

    @property
    def decidable(self) -> bool:
        """Whether a model without an error would be better; False for too few samples."""
        return self.baseline**self.n * self.tries < 1 - CONFIDENCE

    def verdict(self) -> str | None:
        """Say that the model is no better, or cannot be told from the guess; None if it is better.

        Returns:
            The end of a sentence about the metric.
        """
        if self.better:
            return None
        what = (
            "is no better than chance" if self.decidable else "cannot be distinguished from chance"
        )
        return f"{what} ({self.describe()})"

    def describe(self) -> str:
        """Say what the model is compared with, in a few words."""
        if self.baseline == 1:
            return f"all {self.n} are {self.guess!r}, so the figure means nothing"
        p = min(1.0, self.p * self.tries)
        return f"always predicting {self.guess!r} gives {self.baseline:.3f}; p = {p:.2g}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "baseline": round(self.baseline, DECIMALS),
            "guess": self.guess,
            "p": round(min(1.0, self.p * self.tries), DECIMALS),
            "n": self.n,
            "better": self.better,
        }


def chance_of_counts(right: int, counts: Mapping[str, int]) -> ChanceTest | None:
    """Compare a number of right predictions with always predicting the most common class.

    The exact binomial test of an accuracy against the no-information rate (Kuhn, "Building
    Predictive Models in R Using the caret Package", J. Stat. Softw. 28, 2008).

    Args:
        right: Number of right predictions.
        counts: Number of samples of each class.

    Returns:
        The test; None without samples.
    """
    n = sum(counts.values())
    if not n:
        return None
    guess = max(sorted(counts), key=counts.__getitem__)
    baseline = counts[guess] / n
    return ChanceTest(baseline, guess, binomial_tail(right, n, baseline), n)


def binomial_tail(least: int, n: int, p: float) -> float:
    """Probability of ``least`` or more successes in ``n`` trials of probability ``p``."""
    if least <= 0 or p >= 1:
        return 1.0
    logs = (
        lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log1p(-p)
        for k in range(least, n + 1)
    )
    return min(1.0, sum(map(exp, logs)))


class Metric(ABC, Generic[P]):
    """A task's figure of merit.

    Attributes:
        name: The field's own name for it, as shown in tables and evidence.
        higher_is_better: False for errors.
        bounds: Lowest and highest value that it can have.
        samples: What one sample is, in the plural.
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    samples: ClassVar[str] = "clips"

    @abstractmethod
    def value(self, predictions: Sequence[P], truths: Sequence[Any]) -> float:
        """Return the metric of predictions, one for each truth; NaN where it is undefined."""

    def contributions(
        self, predictions: Sequence[P], truths: Sequence[Any]
    ) -> NDArray[np.float64] | None:
        """Return each sample's own part of the metric, float64 ``(samples,)``.

        None, the default, for metrics over the whole set, such as mean average precision.
        """
        del predictions, truths
        return None

    def paired_test(
        self, reference: Sequence[P], other: Sequence[P], truths: Sequence[Any]
    ) -> PairedTest | None:
        """Compare two models on the same samples; None, the default, if there is no test."""
        del reference, other, truths
        return None

    def chance_test(self, predictions: Sequence[P], truths: Sequence[Any]) -> ChanceTest | None:
        """Compare with a guess that ignores the input; None, the default, if there is no test."""
        del predictions, truths
        return None

    def drop(self, reference: float, other: float) -> float:
        """How much worse ``other`` is than ``reference``; negative if it is better."""
        return metric_drop(reference, other, higher_is_better=self.higher_is_better)


@dataclass(frozen=True)
class Comparison:
    """The metric of an artifact next to that of its source model, on the same samples.

    Attributes:
        name: The metric's name; None if nothing was measured, and then the figures are None too.
        source: The source model's metric.
        artifact: The artifact's metric.
        n: How many samples both were measured on.
        higher_is_better: False if the metric is an error.
        agreement: How far both predict the same, 0 to 1.
        paired: Whether the difference is more than chance; None if the metric has no test.
        samples: What one sample is, in the plural.
        tries: How many artifacts were measured on these samples to choose this one.
        chance: Whether the source model is better than a guess; None if the metric has no test.
    """

    name: str | None = None
    source: float | None = None
    artifact: float | None = None
    n: int = 0
    higher_is_better: bool = True
    agreement: float | None = None
    paired: PairedTest | None = None
    samples: str = "clips"
    tries: int = 1
    chance: ChanceTest | None = None

    @property
    def drop(self) -> float | None:
        """How much worse the artifact is than its source; None if nothing was measured."""
        if self.source is None or self.artifact is None:
            return None
        return metric_drop(self.source, self.artifact, higher_is_better=self.higher_is_better)

    @property
    def drop_at_most(self) -> float | None:
        """Upper bound on the true drop; None if the metric has no test."""
        return self.paired.drop_at_most(self.tries) if self.paired else None

    def to_json(self) -> dict[str, Any]:
        """Return the form that evidence has."""
        known: dict[str, Any] = {
            "name": self.name,
            "source": self.source,
            "artifact": self.artifact,
            "n": self.n,
        }
        if not self.higher_is_better:
            known["higher_is_better"] = False
        if self.agreement is not None:
            known["agreement"] = self.agreement
        return known | (self.paired.to_json(self.tries) if self.paired else {})


@dataclass(frozen=True)
class PairedCounts(PairedTest):
    """The paired test of a metric whose samples are each right or wrong.

    Attributes:
        lost: Samples that only the first model has right.
        won: Samples that only the second model has right.
        n: All samples.
    """

    lost: int
    won: int
    n: int

    @property
    def p(self) -> float:
        """McNemar's exact test, one-sided (McNemar, Psychometrika 12, 1947).

        1 if nothing changed, or more was won than lost.
        """
        from scipy.stats import binom

        return float(binom.sf(self.lost - 1, self.lost + self.won, 0.5))

    def drop_at_most(self, tries: int = 1) -> float:
        """Upper bound on the share lost less a lower bound on the share won.

        Each share has an exact bound (Clopper and Pearson, Biometrika 26, 1934) with half of the
        error probability.
        """
        from scipy.stats import beta

        error = (1 - CONFIDENCE) / 2 / tries
        lost, won, n = self.lost, self.won, self.n
        most_lost = float(beta.ppf(1 - error, lost + 1, n - lost)) if lost < n else 1.0
        least_won = float(beta.ppf(error, won, n - won + 1)) if won else 0.0
        return most_lost - least_won

    def samples_needed(self, max_drop: float) -> int | None:
        """Fewest samples that rule out more than ``max_drop``: if not one of them is lost."""
        if not 0 < max_drop < 1:
            return None
        return ceil(log((1 - CONFIDENCE) / 2) / log1p(-max_drop))

    def counts(self) -> Mapping[str, int]:
        """Return ``lost`` and ``won``."""
        return {"lost": self.lost, "won": self.won}

    def describe(self) -> str:
        """Return the counts and the probability in a few words."""
        return f"lost {self.lost} clips, won {self.won}; by chance: p = {self.p:.2g}"


UNBOUNDED = (0.0, inf)
"""`Metric.bounds` of an error."""
