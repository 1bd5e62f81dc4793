"""How often an artifact predicts what its source model predicts, on all available frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from edgevid.contract import Contract
from edgevid.evaluation import predict
from edgevid.proof.replay import QUANTUM
from edgevid.runner.stream import Stream
from edgevid.tasks import open_task
from edgevid.tasks.host.metrics import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Tensors
    from edgevid.runtimes import Engine
    from edgevid_converters.calibration.observed import ObservedSteps

THIN = 60
"""With fewer frames, even full agreement leaves more than 0.05 open."""
UNVARIED = 1e-6
"""Outputs that differ by less from frame to frame are the same for every frame."""
DECIMALS = 6
CHUNK_VALUES = 1 << 24
"""So many values are compared at once: 64 MB of float32."""


@dataclass(frozen=True)
class FrameAgreement:
    """The agreement of an artifact with its source model on some frames.

    Attributes:
        agreement: The task's agreement, 0 to 1.
        n: Number of frames.
        max_abs: Largest difference of an output, in units of its range where that exceeds 1.
        at_least: Lower end of the 95 % interval of the agreement.
        at_most: Upper end.
        varied: Whether the model's own outputs differ from frame to frame at all.
        unlike: The output with the largest mean difference, and that difference as a share of the
            output's own mean deviation; what rounding to a hundredth of its range costs is free.
    """

    agreement: float
    n: int
    max_abs: float
    at_least: float
    at_most: float
    varied: bool = True
    unlike: tuple[str, float] = ("", 0.0)

    def to_json(self) -> dict[str, float | None]:
        """Return the part of `edgevid.bundle.Artifact.parity` that rests on these frames."""
        return {
            "agreement": self.agreement,
            "agreement_at_least": self.at_least,
            "n": self.n,
            "frames_max_abs": self.max_abs,
        }

    def describe(self) -> str:
        """Describe it in one phrase with the number of frames."""
        return (
            f"agrees with the model on {self.agreement:.2f} of {self.n} frames (95 % interval "
            f"{self.at_least:.2f} to {self.at_most:.2f}), largest difference {self.max_abs:.2g}"
        )


def on_observed(
    contract: Contract, engine: Engine, observed: ObservedSteps
) -> Iterator[tuple[Tensors, Tensors]]:
    """Take each observed step on an engine; yields the source model's outputs and the engine's.

    Raises:
        EngineFailed: A step failed.
    """
    for number, (inputs, state) in enumerate(observed.steps(contract)):
        source = {name: rows[number] for name, rows in observed.outputs.items()}
        yield source, engine.step(inputs, state)[0]


def measure(contract: Contract, pairs: Iterable[tuple[Tensors, Tensors]]) -> FrameAgreement:
    """Compare outputs; of large ones only a few frames are in memory at a time.

    Args:
        contract: The model's contract.
        pairs: For each frame the source model's outputs and the artifact's.

    Raises:
        ValueError: There are no frames.
    """
    task, differences = open_task(contract), _Differences()
    n, same, agreed = 0, 0, 0.0
    for chunk in _chunks(differences.seen(pairs)):
        before, after = (predict(contract, one) for one in zip(*chunk, strict=True))
        same += sum(task.same(one, other) for one, other in zip(before, after, strict=True))
        agreed += float(task.agreement(before, after)) * len(chunk)
        n += len(chunk)
    if not n:
        raise ValueError("no frames to compare")
    low, high = interval(same, n)
    return FrameAgreement(
        round(agreed / n, DECIMALS),
        n,
        float(f"{differences.largest():.6g}"),
        round(low, DECIMALS),
        round(high, DECIMALS),
        differences.varies,
        differences.unlike(),
    )


def _chunks(
    pairs: Iterable[tuple[Tensors, Tensors]],
) -> Iterator[list[tuple[Tensors, Tensors]]]:
    """Collect frames until they have `CHUNK_VALUES` values; nearly always that is all of them."""
    chunk: list[tuple[Tensors, Tensors]] = []
    values = 0
    for pair in pairs:
        chunk.append(pair)
        values += sum(array.size for tensors in pair for array in tensors.values())
        if values >= CHUNK_VALUES:
            yield chunk
            chunk, values = [], 0
    if chunk:
        yield chunk


class _Differences:
    """Collects how far the artifact's outputs are from the source's, and whether those vary."""

    def __init__(self) -> None:
        self._outputs: dict[str, _Output] = {}

    def seen(self, pairs: Iterable[tuple[Tensors, Tensors]]) -> Iterator[tuple[Tensors, Tensors]]:
        """Look at each pair and pass it on."""
        for source, artifact in pairs:
            for name, want in source.items():
                if name not in self._outputs:
                    self._outputs[name] = _Output(want, float(want.mean()))
                self._outputs[name].add(want, artifact[name])
            yield source, artifact

    @property
    def varies(self) -> bool:
        """Whether the source's outputs differ from frame to frame."""
        return any(one.moved >= UNVARIED for one in self._outputs.values())

    def largest(self) -> float:
        """The largest difference, in units of a tensor's range where that exceeds 1; NaN wins."""
        import numpy as np

        return float(np.max([one.off / max(1.0, one.size) for one in self._outputs.values()]))

    def unlike(self) -> tuple[str, float]:
        """The output that follows the source least; see `FrameAgreement.unlike`."""
        found = {name: one.unexplained() for name, one in self._outputs.items()}
        name = max(found, key=lambda one: found[one])
        return name, float(f"{found[name]:.3g}")


@dataclass
class _Output:
    """Sums over the frames of one output.

    Attributes:
        first: The source's values for the first frame, float32 of the output's shape.
        centre: Their mean, from which deviations are measured.
        n: Frames so far.
        off: Largest difference; NaN once there was one.
        moved: Largest difference of the source's values from ``first``.
        error: Sum of the mean differences.
        deviation: Sum of the source's mean deviations.
        low: The source's smallest value.
        high: The source's largest value.
    """

    first: NDArray[np.float32]
    centre: float
    n: int = 0
    off: float = 0.0
    moved: float = 0.0
    error: float = 0.0
    deviation: float = 0.0
    low: float = inf
    high: float = -inf

    def add(self, want: NDArray[np.float32], given: NDArray[np.float32]) -> None:
        """Take the source's and the artifact's values for the next frame."""
        import numpy as np

        off = np.abs(given - want)
        self.n += 1
        self.off = float(np.maximum(self.off, off.max(initial=0)))
        self.moved = max(self.moved, float(np.abs(want - self.first).max(initial=0)))
        self.error += float(off.mean())
        self.deviation += float(np.abs(want - self.centre).mean())
        self.low = min(self.low, float(want.min(initial=inf)))
        self.high = max(self.high, float(want.max(initial=-inf)))

    @property
    def size(self) -> float:
        """The source's largest absolute value."""
        return max(abs(self.low), abs(self.high))

    def unexplained(self) -> float:
        """The mean error beyond rounding as a share of the mean deviation; 0 of a constant."""
        if not self.deviation > self.n * UNVARIED:
            return 0.0
        rounding = self.n * QUANTUM * (self.high - self.low)
        return max(0.0, self.error - rounding) / self.deviation


def interval(same: int, n: int) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper and Pearson, Biometrika 26, 1934)."""
    from scipy.stats import beta

    error = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(error, same, n - same + 1)) if same else 0.0
    high = float(beta.ppf(1 - error, same + 1, n - same)) if same < n else 1.0
    return low, high


def on_recording(
    contract: Contract, engine: Engine, recording: Tensors, outputs: Tensors
) -> Iterator[tuple[Tensors, Tensors]]:
    """Stream a recording through an engine from a zero state; yields outputs as `on_observed`.

    Args:
        contract: The model's contract.
        engine: The engine.
        recording: Input name -> uint8 or float32 ``(N, *shape)`` without a batch axis.
        outputs: The source model's outputs on it, float32 ``(N, *shape)`` without a batch axis.

    Raises:
        EngineFailed: A step failed.
    """
    stream = Stream(contract)
    for step in range(len(next(iter(recording.values())))):
        frames = {one.name: recording[one.name][step] for one in contract.inputs}
        inputs = {one.name: frames[one.name].reshape(one.shape) for one in contract.inputs}
        source = {name: values[step : step + 1] for name, values in outputs.items()}
        yield source, stream.step(engine, inputs)
