"""Canaries: golden steps that an engine repeats while it serves, with the outputs it gave at first.

An engine can begin to compute wrong results long after its proof: overheated, badly powered, with
corrupt memory. Right after the proof it takes a few golden steps, whose outputs must be close to
the recorded ones; from then on it must reproduce its own outputs, so the comparison can be tight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid.errors import CheckFailed
from edgevid.proof import Golden
from edgevid.proof.replay import OWN_TOLERANCE, SOURCE_TOLERANCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.bundle import Bundle
    from edgevid.contract import Inputs, Tensors
    from edgevid.runtimes import Engine

    Arrays = dict[str, NDArray[Any]]

COUNT = 4
SHARES = {"float32": 1e-3, "int8": 2 / 255}
OTHER_SHARE = 5e-3
"""How far an output may move, as a share of its tensor's range, by the precision that ran."""
LEAST = 1e-6


@dataclass(frozen=True)
class CanaryStep:
    """One golden step, and the engine's outputs and next state right after its proof."""

    inputs: Inputs
    state: Tensors
    expected: Arrays


class Canaries:
    """A few golden steps whose outputs are far apart; `check` takes them in turn.

    Args:
        engine: The engine, which takes each step once.
        bundle: The bundle with the golden trajectories.
        artifact: The artifact that the engine has loaded.

    Raises:
        CheckFailed: An output is not the recorded one.
        EngineFailed: A step failed.
    """

    def __init__(self, engine: Engine, bundle: Bundle, artifact: str) -> None:
        golden = Golden.read(bundle, artifact)
        own = golden.references.get(artifact)
        recorded = [
            one.recorded for one in own or [one.source_outputs() for one in golden.trajectories]
        ]
        known = bundle.artifact(artifact).tolerance if own else {}
        known = known or (OWN_TOLERANCE if own else SOURCE_TOLERANCE)
        wide = known.get(engine.precision, min(known.values()))
        wider = bundle.artifact(artifact).tensor_tolerance
        self._allowed = _allowed(recorded, SHARES.get(engine.precision, OTHER_SHARE))
        self._steps = []
        for index, number in distinct(recorded, [o.name for o in bundle.contract.outputs]):
            one = golden.trajectories[index]
            inputs = {name: value.copy() for name, value in one.inputs_at(number).items()}
            state = {name: value.copy() for name, value in one.state_at(number).items()}
            given = _step(engine, inputs, state)
            for name, values in recorded[index].items():
                scale = max(1.0, _largest(values[number]))
                allowed = max(wide, wider.get(name, 0.0)) * scale
                if not _largest(given[name] - values[number]) <= allowed:
                    raise CheckFailed(f"{name} of golden step {number} is not what was recorded")
            self._steps.append(CanaryStep(inputs, state, given))
        self._next = 0

    def check(self, engine: Engine) -> str | None:
        """Take the next canary step; return what is wrong with its outputs, or None.

        Raises:
            EngineFailed: The step failed.
        """
        step = self._steps[self._next]
        self._next = (self._next + 1) % len(self._steps)
        given = _step(engine, step.inputs, step.state)
        for name, expected in step.expected.items():
            off = _largest(given[name] - expected)
            if not off <= self._allowed[name]:
                return f"{name} is off by {off:.3g}, more than {self._allowed[name]:.3g}"
        return None


def _step(engine: Engine, inputs: Inputs, state: Tensors) -> Arrays:
    outputs, following = engine.step(inputs, state)
    return {**outputs, **{f"next_{name}": value for name, value in following.items()}}


def _allowed(recorded: list[Any], share: float) -> dict[str, float]:
    """The allowed difference of each tensor: a share of its range over all golden steps."""
    import numpy as np

    ranges: dict[str, float] = {}
    for tensors in recorded:
        for name, values in tensors.items():
            ranges[name] = max(ranges.get(name, 0.0), float(np.ptp(values)))
    return {name: max(share * reach, LEAST) for name, reach in ranges.items()}


def _largest(values: NDArray[Any]) -> float:
    import numpy as np

    return float(np.abs(values).max(initial=0))


def distinct(recorded: list[Any], outputs: list[str], count: int = COUNT) -> list[tuple[int, int]]:
    """Choose the golden steps whose outputs tell a sound engine from a faulty one.

    The first is the step with the widest range of outputs; each further one is the farthest from
    those chosen, so that neither permuted outputs nor constant ones can pass.

    Args:
        recorded: For each trajectory its tensors by name, (S, *shape).
        outputs: Names of the outputs to compare.
        count: How many steps to choose.

    Returns:
        Pairs of trajectory and step.
    """
    import numpy as np

    places = [
        (index, number)
        for index, tensors in enumerate(recorded)
        for number in range(len(next(iter(tensors.values()))))
    ]
    vectors = np.stack(
        [
            np.concatenate([recorded[index][name][number].ravel() for name in outputs])
            for index, number in places
        ]
    )
    chosen = [int(np.ptp(vectors, axis=1).argmax())]
    nearest = np.abs(vectors - vectors[chosen[0]]).max(axis=1)
    while len(chosen) < count and nearest.max() > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.abs(vectors - vectors[chosen[-1]]).max(axis=1))
    return [places[one] for one in chosen]
