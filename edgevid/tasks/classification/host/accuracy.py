"""Top-1 accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgevid.predictions import Classification
from edgevid.tasks.host.metrics import ChanceTest, Metric, PairedCounts, chance_of_counts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Accuracy(Metric[Classification]):
    """The share of clips whose most probable label is the true one, 0 to 1."""

    name = "accuracy"

    def value(self, predictions: Sequence[Classification], truths: Sequence[str]) -> float:
        """Return the accuracy; see `Metric.value`."""
        return float(self.contributions(predictions, truths).mean())

    def contributions(
        self, predictions: Sequence[Classification], truths: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return 1 for each clip that is right, 0 for the others; float64 ``(clips,)``."""
        import numpy as np

        pairs = zip(predictions, truths, strict=True)
        return np.array([one.label == truth for one, truth in pairs], np.float64)

    def chance_test(
        self, predictions: Sequence[Classification], truths: Sequence[str]
    ) -> ChanceTest | None:
        """Compare with always predicting the most common label; see `chance_of_counts`."""
        right = int(self.contributions(predictions, truths).sum())
        return chance_of_counts(right, Counter(truths))

    def paired_test(
        self,
        reference: Sequence[Classification],
        other: Sequence[Classification],
        truths: Sequence[str],
    ) -> PairedCounts:
        """Count the clips that only one of the models has right; see `PairedCounts`."""
        before, after = self.contributions(reference, truths), self.contributions(other, truths)
        return PairedCounts(int((after < before).sum()), int((after > before).sum()), len(truths))
