"""The source model's outputs on frames at hand, for the agreement of integer artifacts with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid_converters.calibration.trajectories import (
    RowWriter,
    StoredRows,
    map_arrays,
    steps_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgevid_converters.importers.source_model import ReferenceModel

    Recording = Mapping[str, NDArray[Any]]

MOST_STEPS = 240
"""Steps to compare on: a share of them is known within 0.04 with 95 % confidence, or better."""
FOLDER = "observed"


@dataclass(frozen=True)
class ObservedSteps:
    """Single steps with the source model's outputs.

    Attributes:
        inputs: Every input and state by full name, uint8 or float32 ``(calibration steps,
            *shape)``; from a file they are read when they are needed.
        outputs: The source model's outputs by name, rows of float32 ``(*shape)`` in a file.
        places: Which of the calibration steps these are.
    """

    inputs: Recording
    outputs: Mapping[str, StoredRows]
    places: Sequence[int]

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.places)

    def steps(self, contract: Contract) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield inputs and state of each step, as an engine takes them."""
        import numpy as np

        for step in self.places:
            inputs = {one.name: np.array(self.inputs[one.name][step]) for one in contract.inputs}
            states = {s.name: np.array(self.inputs[s.input_name][step]) for s in contract.states}
            yield inputs, states


def chosen(count: int) -> list[int]:
    """Return which of so many calibration steps to compare on, evenly spread."""
    most = min(count, MOST_STEPS)
    return [number * count // most for number in range(most)]


def record(model: ReferenceModel, contract: Contract, calibration: Recording, folder: Path) -> None:
    """Write the source model's outputs on calibration steps below ``folder``.

    Args:
        model: The source model.
        contract: Its contract.
        calibration: Inputs and states by full name, uint8 or float32 ``(N, *shape)``.
        folder: The folder of the lowered model.
    """
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    steps = chosen(steps_of(calibration))
    with ExitStack() as files:
        writers = {
            one.name: files.enter_context(RowWriter(place / f"{one.name}.npy", len(steps)))
            for one in contract.outputs
        }
        for step in steps:
            row = model.step({name: values[step] for name, values in calibration.items()})
            for name, writer in writers.items():
                writer.write(row[name])


def read(folder: Path) -> ObservedSteps | None:
    """Read what `record` wrote, with the inputs of the recorded calibration; None if nothing."""
    outputs = {file.stem: StoredRows(file) for file in sorted((folder / FOLDER).glob("*.npy"))}
    if not outputs:
        return None
    calibration = map_arrays(folder / "calibration")
    return ObservedSteps(calibration, outputs, chosen(steps_of(calibration)))
