"""What a converter is, and what it says about the operators of its artifacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgevid.evidence import LayerCost

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.contract import Contract

CALIBRATED = ("int8", "int16x8")
"""Quantisations that need calibration."""
INTEGERS = ("dynamic", *CALIBRATED)
"""Quantisations with integer weights."""
LEAST_STEPS, MOST_STEPS, RUNS_FOR_ERRORS = 8, 48, 768
"""Of recorded steps on which a layer's error is measured: fewer where there are many layers."""
GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Operator:
    """One operator of an artifact that computes in floating point.

    Attributes:
        kind: The format's own name of it.
        name: Name in the graph.
        product: Whether it is a convolution or a matrix product.
        stray: Whether an integer artifact of the format must not have it.
        kept: Whether it belongs to a layer that is kept in float32 on purpose.
    """

    kind: str
    name: str
    product: bool = False
    stray: bool = False
    kept: bool = False


@dataclass(frozen=True)
class LayerError:
    """The error of the model's outputs with this layer alone in int8.

    Attributes:
        name: What `Converter.convert` takes in ``keep``.
        kind: The format's own name of the layer's first operator.
        error: Root mean square difference of the outputs, as a share of their standard
            deviation; that of the worst output.
    """

    name: str
    kind: str
    error: float

    def record(self) -> LayerCost:
        """Return the form that evidence has: three digits, None for what is not a number."""
        error = float(f"{self.error:.3g}") if isfinite(self.error) else None
        return LayerCost(self.name, self.kind, error)


class Converter(Protocol):
    """One format of artifact. Its methods run in a child process.

    ``lowered`` is a model's step in one of the forms that `ReferenceModel.lower` writes;
    ``forms`` are those that the converter takes, the preferred one first.
    """

    name: str
    endings: tuple[str, ...]
    quantisations: tuple[str, ...]
    forms: tuple[str, ...]

    def convert(
        self,
        lowered: Path,
        form: str,
        trajectories: Mapping[str, Path],
        quantize: str,
        keep: Collection[str] = (),
    ) -> dict[str, bytes]:
        """Make an artifact: ending -> content, the same bytes for the same inputs.

        ``trajectories`` maps each input of the step to an ``.npy`` file of recorded values,
        (N, *shape), the same N for all; it is used where ``quantize`` needs calibration. ``keep``
        names layers that stay in a higher precision, as `layer_errors` names them.
        """

    def describe(self, files: Mapping[str, bytes], contract: Contract) -> dict[str, bytes]:
        """Say in an artifact what its tensors mean, where other readers of its format look."""

    def layer_errors(
        self, lowered: Path, form: str, trajectories: Mapping[str, Path]
    ) -> list[LayerError]:
        """Measure what int8 costs each layer on the recorded steps; the worst comes first."""

    def operators_of(self, lowered: Path, form: str, layers: Collection[str]) -> frozenset[str]:
        """The operators that layers consist of, as `float_ops` names them.

        Raises `BadInput`, with the nearest name, for a layer that there is not.
        """

    def operators(self, lowered: Path, form: str) -> dict[str, int]:
        """How many operators of each kind the float artifact has."""

    def float_ops(self, files: Mapping[str, bytes]) -> list[Operator]:
        """Read from an artifact which of its operators compute in float."""

    def smallest_runtime(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Read from an artifact the oldest version that loads it, by runtime."""


def listed(names: Sequence[str], most: int = 5) -> str:
    """Join names, at most the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def summary(operators: Iterable[Operator]) -> tuple[str, ...]:
    """Say it by kind, with a count: ``("Sigmoid x48", "Softmax")``."""
    counts = Counter(operator.kind for operator in operators)
    return tuple(f"{k} x{n}" if n > 1 else k for k, n in sorted(counts.items()))


def spread(count: int, layers: int) -> list[int]:
    """Places of the steps to measure so many layers on, evenly spread and in no rhythm.

    Measuring takes about as long as calibrating, however many layers there are. Steps come clip
    after clip: every eighth could always be the first of a clip, where a memory is empty and what
    is done with it costs nothing.
    """
    most = max(LEAST_STEPS, min(MOST_STEPS, RUNS_FOR_ERRORS // max(1, layers)))
    if count <= most:
        return list(range(count))
    part = count / most
    return sorted({int((number + number * GOLDEN_RATIO % 1) * part) for number in range(most)})


def output_error(wanted: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]) -> float:
    """The root mean square of the difference, as a share of the answers' own spread.

    The worst of the outputs counts; one that never changes is measured by its size.
    """
    import numpy as np

    worst = 0.0
    for name, want in wanted.items():
        spread = float(want.std()) or float(np.abs(want).max()) or 1.0
        off = float(np.sqrt(np.square(given[name] - want, dtype=np.float64).mean())) / spread
        worst = off if not off <= worst else worst
    return worst
