"""What a converter is, and what it reports about the operators of its artifacts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgevid.errors import BadInput, CheckFailed
from edgevid.evidence import FloatRemainder, LayerCost

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.contract import Contract

CALIBRATED = ("int8", "int16x8")
"""Quantisations that need calibration."""
INTEGERS = ("dynamic", *CALIBRATED)
"""Quantisations with integer weights."""
LEAST_STEPS, MOST_STEPS, RUNS_FOR_ERRORS = 8, 48, 768
"""Recorded steps on which a layer's error is measured: fewer for many layers."""
GOLDEN_RATIO = (5**0.5 - 1) / 2
MAX_FLOAT_SHARE = 0.5
"""Largest share of an integer artifact's arithmetic that its quantiser may leave in float32: with
more it is a float artifact, and float16 or dynamic is the better choice."""


@dataclass(frozen=True)
class Operator:
    """One operator of an artifact that computes in floating point.

    Attributes:
        kind: The format's own name of it.
        name: Name in the graph.
        product: Whether it is a convolution or a matrix product.
        stray: Whether an integer artifact of the format must not have it.
        kept: Whether it belongs to a layer that is kept in float32 on purpose.
        share: Its share of the artifact's arithmetic, 0 to 1: multiply-adds of products, elements
            of other operators; None if unknown.
    """

    kind: str
    name: str
    product: bool = False
    stray: bool = False
    kept: bool = False
    share: float | None = None


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


class Converter(ABC):
    """Builds one format of artifact. Its methods run in a child process.

    A converter has to implement `convert`; the other methods have defaults for formats without
    metadata, layers that can be kept in float, or versions.

    Attributes:
        name: The format's name, and the converter's in the registry.
        endings: The endings of an artifact's files.
        quantisations: The quantisations that it can make.
        forms: The forms of a model (see `ReferenceModel.lower`) that it takes, the preferred one
            first.
        leaves: Which operators its quantiser leaves in float32, and why, as a sentence.
        work: Folder for what one child computes and later children of the same conversion reuse;
            None if there is none.
    """

    name: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]
    quantisations: ClassVar[tuple[str, ...]]
    forms: ClassVar[tuple[str, ...]]
    leaves: ClassVar[str] = "its quantiser leaves them in float32"
    work: Path | None = None

    def kept(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return what an earlier child has left in `work` under a name, or make and leave it."""
        if self.work is None:
            return make()
        file = self.work / f"{self.name}-{name}"
        if file.exists():
            return file.read_bytes()
        content = make()
        self.work.mkdir(exist_ok=True)
        part = file.with_name(f"{file.name}.part")
        part.write_bytes(content)
        part.rename(file)
        return content

    @abstractmethod
    def convert(
        self,
        lowered: Path,
        form: str,
        trajectories: Mapping[str, Path],
        quantize: str,
        keep: Collection[str] = (),
    ) -> dict[str, bytes]:
        """Make an artifact; the same bytes for the same arguments.

        Args:
            lowered: The model's step, in the form ``form``.
            form: One of `forms`.
            trajectories: For each input and state of the step an ``.npy`` file of recorded values,
                ``(N, *shape)``, the same N for all; for quantisations that need calibration.
            quantize: One of `quantisations`.
            keep: Layers that stay in a higher precision, as `layer_errors` names them.

        Returns:
            The artifact's files, ending -> content.
        """

    def describe(self, files: Mapping[str, bytes], contract: Contract) -> dict[str, bytes]:
        """Add metadata for other readers of the format to an artifact; none by default."""
        del contract
        return dict(files)

    def layer_errors(
        self, lowered: Path, form: str, trajectories: Mapping[str, Path]
    ) -> list[LayerError]:
        """Measure the int8 error of each layer on the recorded steps, the worst first.

        Without any, the default, an artifact cannot be repaired.
        """
        del lowered, form, trajectories
        return []

    def operators_of(self, lowered: Path, form: str, layers: Collection[str]) -> frozenset[str]:
        """The operators of some layers, as `float_ops` names them.

        Raises:
            BadInput: There is no such layer; the message has the nearest name.
        """
        del lowered, form
        for name in layers:
            raise BadInput(f"the format {self.name} has no layer {name!r}; keep none in float")
        return frozenset()

    def operators(self, lowered: Path, form: str) -> dict[str, int]:
        """Count the operators of the float artifact by kind; unknown, none, by default."""
        del lowered, form
        return {}

    def float_ops(self, files: Mapping[str, bytes]) -> list[Operator]:
        """Read from an artifact which operators compute in float; unknown, none, by default."""
        del files
        return []

    def predicted_float_ops(
        self, lowered: Path, form: str, trajectories: Mapping[str, Path]
    ) -> list[Operator]:
        """Predict which operators the quantiser will leave in float, before the long work starts.

        Unknown, none, by default.
        """
        del lowered, form, trajectories
        return []

    def smallest_runtime(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Read the oldest version that loads an artifact, by runtime; any, by default."""
        del files
        return {}


def listed(names: Sequence[str], most: int = 5) -> str:
    """Join names, at most the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def remainder_of(operators: Iterable[Operator]) -> FloatRemainder | None:
    """Return what a quantiser left in float32 by itself; None if it left nothing."""
    left = [one for one in operators if one.stray and not one.kept]
    if not left:
        return None
    shares = [one.share for one in left if one.share is not None]
    share = float(f"{sum(shares):.3g}") if len(shares) == len(left) else None
    return FloatRemainder(summary(left), tuple(one.name for one in left), share)


def check_remainder(name: str, left: FloatRemainder, why: str) -> None:
    """Check that an integer artifact computes most of its arithmetic in integers.

    Args:
        name: Name of the artifact.
        left: What its quantiser left in float32.
        why: `Converter.leaves`.

    Raises:
        CheckFailed: More than `MAX_FLOAT_SHARE` of it stays in float32, or nobody knows how much.
    """
    if left.share is not None and left.share <= MAX_FLOAT_SHARE:
        return
    known = "an unknown share" if left.share is None else f"{left.share:.0%}"
    raise CheckFailed(
        f"{name} would compute {known} of its arithmetic in float32, more than "
        f"{MAX_FLOAT_SHARE:.0%} ({listed(left.operators)}: {listed(left.names)}); {why}; "
        "use layers that quantise, --quantize float16 or dynamic, or --allow-float"
    )


def describe_remainder(name: str, left: FloatRemainder, why: str) -> str:
    """Describe a remainder in one line.

    Args:
        name: Name of the artifact.
        left: What stays in float32.
        why: `Converter.leaves`.
    """
    share = "" if left.share is None else f", {left.share:.2g} of its arithmetic"
    return f"{name}: {listed(left.operators)} stay in float32{share}; {why}"


def summary(operators: Iterable[Operator]) -> tuple[str, ...]:
    """Count operators by kind: ``("Sigmoid x48", "Softmax")``."""
    counts = Counter(operator.kind for operator in operators)
    return tuple(f"{k} x{n}" if n > 1 else k for k, n in sorted(counts.items()))


def spread(count: int, layers: int) -> list[int]:
    """Choose the steps to measure so many layers on, evenly spread and without a rhythm.

    Measuring takes about as long as calibrating, however many layers there are. Steps come clip
    after clip: every eighth step could always be the first of a clip, where the state is zero and
    computing with it causes no error. So each step is offset by the golden ratio within its part
    (Weyl, Math. Ann. 77, 1916).
    """
    most = max(LEAST_STEPS, min(MOST_STEPS, RUNS_FOR_ERRORS // max(1, layers)))
    if count <= most:
        return list(range(count))
    part = count / most
    return sorted({int((number + number * GOLDEN_RATIO % 1) * part) for number in range(most)})


def output_error(wanted: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]) -> float:
    """Return the root mean square error, as a share of the outputs' standard deviation.

    Args:
        wanted: Output name -> float32 ``(N, *shape)``.
        given: The same outputs with an error.

    Returns:
        That of the worst output; one that never changes is measured by its size.
    """
    import numpy as np

    worst = 0.0
    for name, want in wanted.items():
        spread = float(want.std()) or float(np.abs(want).max()) or 1.0
        off = float(np.sqrt(np.square(given[name] - want, dtype=np.float64).mean())) / spread
        worst = off if not off <= worst else worst
    return worst
