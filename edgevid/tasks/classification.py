"""One label out of many for what the camera has seen: top-1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgevid.contract import SCORES, Contract

if TYPE_CHECKING:
    from edgevid.contract import Tensors


class Classification:
    """Reads ``scores``, float32 ``(1, classes)``, already a softmax."""

    metric_name = "accuracy"

    def __init__(self, contract: Contract) -> None:
        self._labels = contract.labels

    def read(self, answer: Tensors) -> dict[str, Any]:
        """Give ``label``, ``score`` and all ``scores`` by label, to six decimals."""
        scores = answer[SCORES][0].tolist()
        best = max(range(len(scores)), key=scores.__getitem__)
        rounded = [round(score, 6) for score in scores]
        return {
            "label": self._labels[best],
            "score": rounded[best],
            "scores": dict(zip(self._labels, rounded, strict=True)),
        }

    def metric(self, answers: Sequence[dict[str, Any]], truths: Sequence[str]) -> float:
        """Top-1 accuracy."""
        hits: int = sum(a["label"] == truth for a, truth in zip(answers, truths, strict=True))
        return hits / len(truths)

    def agreement(self, some: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> float:
        """The share of equal labels."""
        same: int = sum(a["label"] == b["label"] for a, b in zip(some, others, strict=True))
        return same / len(some)
