"""How often an artifact predicts what its source model predicts, on all available frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.evaluation import predict
from edgevid.proof.replay import QUANTUM
from edgevid.runner.stream import Stream
from edgevid.tasks import open_task
from edgevid.tasks.host.metrics import CONFIDENCE

if TYPE_CHECKING:
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
        self._first: Tensors = {}
        self._off: dict[str, float] = {}
        self._size: dict[str, float] = {}
        self._sums: dict[str, tuple[float, float, float, float]] = {}
        self._n = 0
        self.varies = False

    def seen(self, pairs: Iterable[tuple[Tensors, Tensors]]) -> Iterator[tuple[Tensors, Tensors]]:
        """Look at each pair and pass it on."""
        import numpy as np

        for source, artifact in pairs:
            self._first = self._first or source
            for name, want in source.items():
                off = float(np.abs(artifact[name] - want).max(initial=0))
                known = self._off.get(name, 0.0)
                self._off[name] = off if not off <= known else known
                size = float(np.abs(want).max(initial=0))
                self._size[name] = max(self._size.get(name, 1.0), size)
                moved = float(np.abs(want - self._first[name]).max(initial=0))
                self.varies = self.varies or moved >= UNVARIED
                self._add(name, want, artifact[name])
            self._n += 1
            yield source, artifact

    def _add(self, name: str, want: Any, given: Any) -> None:
        """Add to the sums of errors and of deviations, and to the range."""
        import numpy as np

        error, deviation, low, high = self._sums.get(name, (0.0, 0.0, np.inf, -np.inf))
        centre = float(self._first[name].mean())
        self._sums[name] = (
            error + float(np.abs(given - want).mean()),
            deviation + float(np.abs(want - centre).mean()),
            min(low, float(want.min())),
            max(high, float(want.max())),
        )

    def unlike(self) -> tuple[str, float]:
        """The output that follows the source least; see `FrameAgreement.unlike`."""
        found = {
            name: max(0.0, error - self._n * QUANTUM * (high - low)) / deviation
            for name, (error, deviation, low, high) in self._sums.items()
            if deviation > self._n * UNVARIED
        }
        name = max(found, key=lambda one: found[one], default="")
        return name, float(f"{found.get(name, 0.0):.3g}")

    def largest(self) -> float:
        """The largest difference, in units of a tensor's range where that exceeds 1; NaN wins."""
        worst = 0.0
        for name, off in self._off.items():
            off /= self._size[name]
            worst = off if not off <= worst else worst
        return worst


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
