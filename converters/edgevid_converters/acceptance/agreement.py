"""How often an artifact predicts what its source model predicts, on all frames at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevid.contract import Contract
from edgevid.evaluation import predict
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
    """

    agreement: float
    n: int
    max_abs: float
    at_least: float
    at_most: float
    varied: bool = True

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


def engine_outputs(contract: Contract, engine: Engine, observed: ObservedSteps) -> list[Tensors]:
    """Take each observed step on an engine.

    Raises:
        EngineFailed: A step failed.
    """
    return [engine.step(inputs, state)[0] for inputs, state in observed.steps(contract)]


def source_outputs(observed: ObservedSteps) -> list[Tensors]:
    """Return the source model's outputs of each observed step."""
    outputs = observed.outputs
    return [{name: values[k] for name, values in outputs.items()} for k in range(len(observed))]


def measure(
    contract: Contract, source: Sequence[Tensors], artifact: Sequence[Tensors]
) -> FrameAgreement:
    """Compare outputs, one mapping for each frame.

    Args:
        contract: The model's contract.
        source: The source model's outputs.
        artifact: The artifact's on the same frames.

    Raises:
        ValueError: There are no frames.
    """
    task = open_task(contract)
    before, after = predict(contract, source), predict(contract, artifact)
    same = sum(task.same(one, other) for one, other in zip(before, after, strict=True))
    low, high = interval(same, len(before))
    return FrameAgreement(
        round(float(task.agreement(before, after)), DECIMALS),
        len(before),
        float(f"{_largest_difference(source, artifact):.6g}"),
        round(low, DECIMALS),
        round(high, DECIMALS),
        _varies(source),
    )


def interval(same: int, n: int) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper and Pearson, Biometrika 26, 1934)."""
    from scipy.stats import beta

    error = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(error, same, n - same + 1)) if same else 0.0
    high = float(beta.ppf(1 - error, same + 1, n - same)) if same < n else 1.0
    return low, high


def _largest_difference(source: Sequence[Tensors], artifact: Sequence[Tensors]) -> float:
    import numpy as np

    worst = 0.0
    for name in source[0]:
        want = np.stack([one[name] for one in source])
        given = np.stack([one[name] for one in artifact])
        scale = max(1.0, float(np.abs(want).max(initial=0)))
        off = float(np.abs(given - want).max(initial=0)) / scale
        worst = off if not off <= worst else worst
    return worst


def _varies(source: Sequence[Tensors]) -> bool:
    import numpy as np

    for name in source[0]:
        values = np.stack([one[name] for one in source])
        if len(values) > 1 and float(np.ptp(values, axis=0).max(initial=0)) >= UNVARIED:
            return True
    return False


def rows(outputs: Tensors) -> list[Tensors]:
    """Split outputs ``(N, *shape)`` without a batch axis into those of each step, with one."""
    count = len(next(iter(outputs.values())))
    return [{name: values[k : k + 1] for name, values in outputs.items()} for k in range(count)]


def streamed(contract: Contract, engine: Engine, recording: Tensors) -> list[Tensors]:
    """Stream a recording through an engine from a zero state; returns the outputs of each step.

    Args:
        contract: The model's contract.
        engine: The engine.
        recording: Input name -> uint8 or float32 ``(N, *shape)`` without a batch axis.

    Raises:
        EngineFailed: A step failed.
    """
    stream = Stream(contract)
    return [
        stream.step(
            engine,
            {one.name: recording[one.name][step].reshape(one.shape) for one in contract.inputs},
        )
        for step in range(len(next(iter(recording.values()))))
    ]
