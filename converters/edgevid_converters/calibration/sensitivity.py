"""How far the source model's tensors move when its inputs move by one unit in the last place.

Rounding differs from library to library, so an artifact can be no nearer to its source than the
source is to itself under such a change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.evidence import TensorSensitivity
from edgevid.proof import Trajectory
from edgevid.proof.replay import allowed_movement
from edgevid_converters.calibration.trajectories import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid_converters.importers.source_model import Move, ReferenceModel

UNITS = ("float32", "float16")
"""Precisions whose units in the last place are tried."""
RUNS = 2
"""How often, each time with other random directions."""

Sensitivities = Mapping[str, Mapping[str, TensorSensitivity]]
"""Precision -> tensor -> its sensitivity."""


def measure(
    model: ReferenceModel, contract: Contract, golden: Sequence[Trajectory]
) -> dict[str, dict[str, TensorSensitivity]]:
    """Stream the golden trajectories again with moved inputs and states.

    A model that computes in float16 itself rounds smaller steps away, so it gets those of float16.

    Args:
        model: The source model.
        contract: Its contract.
        golden: The golden trajectories, as recorded from it.

    Returns:
        Precision -> output or ``next_<state>`` -> its sensitivity; nothing if the model takes
        bytes only, which cannot be moved.
    """
    found = {}
    for unit in UNITS:
        moved = _Moved(model.precision if unit == "float32" else unit)
        parts: dict[str, list[NDArray[Any]]] = {}
        for _ in range(RUNS):
            for trajectory in golden:
                for name, off in _differences(model, contract, trajectory, moved).items():
                    parts.setdefault(name, []).append(off)
        if moved.count:
            found[unit] = {name: _sensitivity(unit, parts[name]) for name in sorted(parts)}
    return found


class _Moved:
    """Moves each value by one unit in the last place, up or down at random."""

    def __init__(self, unit: str) -> None:
        import numpy as np

        self._unit, self._chance = np.dtype(unit), np.random.default_rng(0)
        self.count = 0

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        self.count += values.size
        coarse = min(self._unit, values.dtype, key=lambda one: one.itemsize)
        rounded = values.astype(coarse)
        ends = np.where(self._chance.integers(0, 2, values.shape) == 1, np.inf, -np.inf)
        step = np.nextafter(rounded, ends.astype(coarse)) - rounded
        moved = values + step.astype(values.dtype)
        return np.where(np.isfinite(moved), moved, values).astype(values.dtype)


def _differences(
    model: ReferenceModel, contract: Contract, trajectory: Trajectory, move: Move
) -> dict[str, NDArray[Any]]:
    """Return all differences by tensor, in units of the tensor's range where that exceeds 1."""
    import numpy as np

    given = [one for _, one in stream(model, contract, trajectory.inputs, move)]
    found = {}
    for name, want in trajectory.source_outputs().recorded.items():
        off = np.abs(np.stack([one[name] for one in given]) - want)
        found[name] = off.ravel() / max(1.0, float(np.abs(want).max(initial=0)))
    return found


def _sensitivity(unit: str, parts: Sequence[NDArray[Any]]) -> TensorSensitivity:
    import numpy as np

    off = np.concatenate(parts)
    most, mean = (float(f"{float(value):.3g}") for value in (off.max(initial=0), off.mean()))
    return TensorSensitivity(most, mean, allowed_movement(unit, most))


def read(data: Mapping[str, Any]) -> dict[str, dict[str, TensorSensitivity]]:
    """Read what `measure` returned from its JSON."""
    return {
        unit: {name: TensorSensitivity(**one) for name, one in tensors.items()}
        for unit, tensors in data.items()
    }
