"""No task at all: the output tensors as they are, for what this does not know how to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Tensors

SHOWN = 8
NEAR = 0.05
"""Two engines say the same where no value differs by more than this share of the largest one."""
LEAST = 1e-4
"""What float32 may be off, as in a proof: so two kinds of nothing are the same."""


class Raw:
    """Gives every output of the contract: its shape, its first values, its extremes."""

    metric_name = None

    def __init__(self, contract: Contract) -> None:
        self._names = tuple(output.name for output in contract.outputs)

    def read(self, answer: Tensors) -> dict[str, Any]:
        """Give ``outputs``: by name ``shape``, ``values`` (the first few), ``least``, ``most``."""
        return {"outputs": {name: _told(answer[name]) for name in self._names}}

    def metric(self, answers: Sequence[dict[str, Any]], truths: Sequence[str]) -> float:
        """There is none."""
        raise BadInput(
            "a raw model's answers have no metric; compare them with --reference, or give its "
            "contract a task"
        )

    def agreement(self, some: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> float:
        """The share of answers whose values, as far as they are shown, are near each other."""
        same = sum(_near(a, b) for a, b in zip(some, others, strict=True))
        return same / len(some)


def near(some: NDArray[Any], others: NDArray[Any]) -> bool:
    """Whether two tensors say the same; never where one has values that are not numbers."""
    import numpy as np

    if some.shape != others.shape or not np.isfinite(others).all():
        return False
    largest = float(np.abs(some).max(initial=0))
    return float(np.abs(some - others).max(initial=0)) <= max(NEAR * largest, LEAST)


def _told(value: NDArray[Any]) -> dict[str, Any]:
    flat = value.reshape(-1)
    return {
        "shape": list(value.shape),
        "values": [round(float(one), 6) for one in flat[:SHOWN]],
        "least": round(float(flat.min()), 6),
        "most": round(float(flat.max()), 6),
    }


def _near(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    import numpy as np

    def row(told: Mapping[str, Any]) -> NDArray[np.float64]:
        return np.array([*told["values"], told["least"], told["most"]])

    return all(
        told["shape"] == others["outputs"][name]["shape"]
        and near(row(told), row(others["outputs"][name]))
        for name, told in some["outputs"].items()
    )
