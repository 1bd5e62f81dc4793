"""Raw outputs on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevid.predictions import FrameMeta, RawOutputs
from edgevid.tasks import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors

TOLERANCE = 0.05
"""Largest difference of two tensors that count as the same, as a share of the largest magnitude."""
LEAST_TOLERANCE = 1e-4
"""Difference that is always accepted: the rounding of float32, as in a proof."""


class RawTask(Task[RawOutputs]):
    """Returns every output of the contract."""

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract)
        self._names = tuple(output.name for output in contract.outputs)

    def decode(self, outputs: Tensors, frame: FrameMeta) -> RawOutputs:
        """Keep the tensors; see `Task.decode`."""
        del frame
        return RawOutputs({name: outputs[name] for name in self._names})

    def same(self, reference: RawOutputs, other: RawOutputs) -> bool:
        """Tell whether all tensors are close, every value of them; see `Task.same`."""
        return reference.outputs.keys() == other.outputs.keys() and all(
            close(value, other.outputs[name]) for name, value in reference.outputs.items()
        )


def close(reference: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Tell whether two tensors of one shape are within the tolerance, and finite.

    Args:
        reference: float32, any shape; its largest magnitude scales the tolerance.
        other: float32, the shape of ``reference``.
    """
    import numpy as np

    if reference.shape != other.shape:
        return False
    if not (np.isfinite(reference).all() and np.isfinite(other).all()):
        return False
    largest = float(np.abs(reference).max(initial=0))
    difference = float(np.abs(reference - other).max(initial=0))
    return difference <= max(TOLERANCE * largest, LEAST_TOLERANCE)
