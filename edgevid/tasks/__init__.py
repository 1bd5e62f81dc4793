"""What an answer means: reading outputs, scoring them, saying them; one file per task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from edgevid.contract import Contract, Tensors


class Task(Protocol):
    """How to read the answers of one kind of model."""

    metric_name: str | None
    """The field's name of the figure of merit, in 0..1, higher is better; None where none is."""

    def __init__(self, contract: Contract) -> None:
        """Prepare to read the outputs that ``contract`` names."""

    def read(self, answer: Tensors) -> dict[str, Any]:
        """Give one step's answer as plain data, ready for JSON."""

    def metric(self, answers: Sequence[dict[str, Any]], truths: Sequence[str]) -> float:
        """Score what `read` gave against the truths."""

    def agreement(self, some: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> float:
        """The share, in 0..1, of places where two engines say the same."""
