"""The stand-in on the CPU: a built-in step, or a real engine, with latency and faults added."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from edgevid import runtimes
from edgevid.errors import EngineFailed
from edgevid.runtimes import CPU, Accelerator, Operator, catalog
from edgevid.runtimes.null import SPEC, VARIABLE
from edgevid.runtimes.null.faults import Faults, falsified, falsified_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Inputs, Tensors
    from edgevid.runtimes import Engine


class NullCPU(Accelerator):
    """The CPU of the runtime ``null``; ``name`` is the accelerator that its engines belong to."""

    name = CPU

    def load(
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int = 1
    ) -> NullEngine:
        """Load ``files["json"]``, or a real artifact; see `edgevid.runtimes.Accelerator.load`."""
        return NullEngine.load(files, contract, self.name, threads)

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        steps: Iterable[Inputs],
        *,
        threads: int = 1,
    ) -> list[Operator]:
        """Report one operator of its own, and those that ``stay_on_cpu`` names.

        See `edgevid.runtimes.Accelerator.profile`.
        """
        left = _behaviour(files)[0].get("stay_on_cpu", []) if self.name != CPU else []
        own = Operator("step", "ARITHMETIC", self.name)
        return [own, *(Operator(f"{kind}:{n}", kind, CPU) for n, kind in enumerate(left))]


def _parameters(content: bytes) -> dict[str, Any]:
    try:
        parameters = json.loads(content)
    except ValueError as error:
        raise EngineFailed(f"null cannot load the artifact: {error}") from error
    if not isinstance(parameters, dict):
        raise EngineFailed("null cannot load the artifact: it is not a table")
    return parameters


def _behaviour(files: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """How to behave, and the parameters of the built-in step if that is the artifact."""
    asked = json.loads(os.environ.get(VARIABLE) or "{}")
    if "json" not in files:
        return asked, None
    parameters = _parameters(files["json"])
    return {**parameters.pop("behaviour", {}), **asked}, parameters


class NullEngine:
    """An engine around another one, which adds latency and faults on schedule."""

    runtime = SPEC.name

    def __init__(
        self, inner: Engine, behaviour: Mapping[str, Any], accelerator: str = "cpu"
    ) -> None:
        self.accelerator = accelerator
        self.precision = inner.precision
        self._inner = inner
        if behaviour.get("on", accelerator) != accelerator:
            behaviour = {}
        self._latency_s = float(behaviour.get("latency_ms", 0)) / 1000
        self._faults = Faults(behaviour.get("faults", []))
        self._faults.strike()

    @classmethod
    def load(
        cls,
        files: Mapping[str, bytes],
        contract: Contract,
        accelerator: str,
        threads: int,
    ) -> NullEngine:
        """Load an artifact, with the behaviour that it or the environment requests.

        Args:
            files: Content of the artifact's files by ending.
            contract: The contract of the step.
            accelerator: ``cpu`` or ``null``.
            threads: Unused.

        Returns:
            The engine.

        Raises:
            EngineFailed: No runtime reads these files.
        """
        behaviour, parameters = _behaviour(files)
        if parameters is not None:
            return cls(Arithmetic(parameters, contract), behaviour, accelerator)
        name = catalog.made_for_files(files)
        if name is None:
            endings = ", ".join(sorted(files))
            raise EngineFailed(f"null cannot load the artifact: no runtime has files {endings}")
        inner = runtimes.get(name).load(files, contract, threads=threads)
        return cls(inner, behaviour, accelerator)

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take the inner engine's step, late or falsified as scheduled."""
        falsify = self._faults.strike()
        if self._latency_s:
            time.sleep(self._latency_s)
        outputs, following = self._inner.step(inputs, state)
        if falsify is None:
            return outputs, following
        return falsified(outputs, falsify), falsified_state(following, falsify)

    def close(self) -> None:
        """Close the inner engine."""
        self._inner.close()


class Arithmetic:
    """The built-in step: scores that move from label to label as the image brightens over time.

    Every state tensor decays towards the level of the inputs; the scores are a softmax around the
    label that the state, in 0..1, points at. The level is the mean brightness of a frame, or the
    mean magnitude of other inputs; each input counts half of the one before it, so that swapped
    inputs give other outputs. Pure float32, the same on every machine.
    """

    runtime = SPEC.name
    accelerator = "cpu"
    precision = "float32"

    def __init__(self, parameters: Mapping[str, Any], contract: Contract) -> None:
        import numpy as np

        self._decay = np.float32(parameters.get("decay", 0.5))
        self._sharpness = np.float32(parameters.get("sharpness", 8.0))
        self._contract = contract

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`."""
        import numpy as np

        now = np.float32(self._level(inputs))
        following = {
            name: (self._decay * old + (1 - self._decay) * now).astype(np.float32)
            for name, old in state.items()
        }
        level = float(next((value.mean() for value in following.values()), now))
        outputs = {o.name: self._shares(level, o.shape) for o in self._contract.outputs}
        return outputs, following

    def _level(self, inputs: Inputs) -> float:
        """The weighted mean of the inputs' levels, in 0..1 for frames and audio."""
        import numpy as np

        total, weights, weight = 0.0, 0.0, 1.0
        for one in self._contract.inputs:
            values = inputs[one.name]
            if one.kind == "frame":
                level = float(values.mean(dtype=np.float64) / 255)
            else:
                level = float(np.abs(values).mean(dtype=np.float64))
            total, weights, weight = total + weight * level, weights + weight, weight / 2
        return total / weights

    def _shares(self, level: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
        import numpy as np

        places = np.linspace(0, 1, shape[-1], dtype=np.float32)
        powers = np.exp(-self._sharpness * np.abs(places - np.float32(level)))
        shares = (powers / powers.sum()).astype(np.float32)
        return np.broadcast_to(shares, shape).copy()

    def close(self) -> None:
        """Nothing to free."""
