"""The honest stand-in: a runtime that needs no library, as slow and as faulty as one asks.

It executes artifacts of its own format ``null``, a small JSON with which a built-in arithmetic step
is parametrised, or any real artifact through the runtime that is made for it. In both cases it is
an engine like any other and passes golden replay like any other. What it adds is set by the
artifact's ``behaviour`` or by the environment variable ``EDGEVID_NULL``, both JSON:

    {"latency_ms": 5, "on": "null", "faults": [{"at": 10, "kind": "error"}]}

As an accelerator it says of the operators that ``stay_on_cpu`` names that it did not take them.
``on`` confines it to engines on that accelerator: ``cpu``, or ``null``, which like every
accelerator serves from a process of its own. A fault begins ``at`` a step, counted from 0 in its
process and with the proof's steps (``-1`` is the moment of loading), or at the first step
``after_s`` seconds, or strikes ``when`` a file exists. ``kind`` is one of ``error`` (raises),
``abort`` and ``vanish`` (the process dies), ``hang`` and ``freeze`` (never returns; ``freeze`` in
native code), ``nan`` and ``wrong`` (bad answers and a bad memory). ``times`` bounds how many steps
in a row it strikes: without it lies go on, what happens ``when`` a file exists goes on as long as
the file, and the rest happens once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.errors import EngineFailed
from edgevid.runtimes import Operator, accelerators
from edgevid.runtimes.null.faults import Faults, falsified, falsified_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors
    from edgevid.runtimes import Engine


class Null:
    """The runtime ``null``."""

    name = "null"
    formats = ("null", *(name for name in registry.names("runtime") if name != "null"))

    def version(self) -> str:
        """It comes with edgevid and has edgevid's version."""
        from edgevid import __version__

        return f"null {__version__}"

    def accelerators(self) -> tuple[str, ...]:
        """The CPU; the stand-in for accelerators is used where it is asked for by name."""
        return accelerators.usable(self.name)

    def load(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        *,
        accelerator: str = "cpu",
        threads: int | None = None,
    ) -> Engine:
        """Load ``files["json"]``, or a real artifact; see `edgevid.runtimes.Runtime.load`."""
        if accelerator != accelerators.CPU:
            return accelerators.load(self.name, accelerator, files, contract, threads)
        return NullEngine.load(files, contract, accelerator, threads)

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        frames: Iterable[NDArray[np.uint8]],
        *,
        threads: int | None = None,
    ) -> list[Operator]:
        """See `edgevid.runtimes.Profiles`."""
        return operators(files, accelerators.CPU)


def operators(files: Mapping[str, bytes], accelerator: str) -> list[Operator]:
    """What a profile says: one operator that it took, and what ``stay_on_cpu`` names."""
    left = _behaviour(files)[0].get("stay_on_cpu", []) if accelerator != accelerators.CPU else []
    taken = Operator("step", "ARITHMETIC", accelerator)
    return [taken, *(Operator(f"{kind}:{n}", kind, "cpu") for n, kind in enumerate(left))]


def _parameters(content: bytes) -> dict[str, Any]:
    try:
        parameters = json.loads(content)
    except ValueError as error:
        raise EngineFailed(f"null cannot load the artifact: {error}") from error
    if not isinstance(parameters, dict):
        raise EngineFailed("null cannot load the artifact: it is not a table")
    return parameters


def _behaviour(files: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """How to behave, and the parameters of the built-in step where it is the artifact."""
    asked = json.loads(os.environ.get("EDGEVID_NULL") or "{}")
    if "json" not in files:
        return asked, None
    parameters = _parameters(files["json"])
    return {**parameters.pop("behaviour", {}), **asked}, parameters


class NullEngine:
    """An engine around another one, which adds latency and faults on schedule."""

    runtime = "null"

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
        threads: int | None,
    ) -> NullEngine:
        """Load what is in ``files``, around it the behaviour that the environment asks for."""
        behaviour, parameters = _behaviour(files)
        if parameters is not None:
            return cls(Arithmetic(parameters, contract), behaviour, accelerator)
        name = "tflite" if "tflite" in files else "openvino"
        inner: Engine = registry.load("runtime", name)().load(files, contract, threads=threads)
        return cls(inner, behaviour, accelerator)

    def step(self, frame: NDArray[np.uint8], state: Tensors) -> tuple[Tensors, Tensors]:
        """Take the inner engine's step, late or falsified as the schedule says."""
        lie = self._faults.strike()
        if self._latency_s:
            time.sleep(self._latency_s)
        answer, following = self._inner.step(frame, state)
        if lie is None:
            return answer, following
        return falsified(answer, lie), falsified_state(following, lie)

    def close(self) -> None:
        """Let go of the inner engine."""
        self._inner.close()


class Arithmetic:
    """The built-in step: scores that lean to a label as the picture brightens over time.

    Every state tensor decays towards the frame's mean brightness; the scores are a softmax around
    the label at which the state, in 0..1, points. Pure float32, the same on every machine.
    """

    runtime = "null"
    accelerator = "cpu"
    precision = "float32"

    def __init__(self, parameters: Mapping[str, Any], contract: Contract) -> None:
        import numpy as np

        self._decay = np.float32(parameters.get("decay", 0.5))
        self._sharpness = np.float32(parameters.get("sharpness", 8.0))
        self._contract = contract

    def step(self, frame: NDArray[np.uint8], state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`."""
        import numpy as np

        now = np.float32(frame.mean(dtype=np.float64) / 255)
        following = {
            name: (self._decay * old + (1 - self._decay) * now).astype(np.float32)
            for name, old in state.items()
        }
        level = float(next((value.mean() for value in following.values()), now))
        answer = {o.name: self._scores(level, o.shape) for o in self._contract.outputs}
        return answer, following

    def _scores(self, level: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
        import numpy as np

        places = np.linspace(0, 1, shape[-1], dtype=np.float32)
        powers = np.exp(-self._sharpness * np.abs(places - np.float32(level)))
        scores = (powers / powers.sum()).astype(np.float32)
        return np.broadcast_to(scores, shape).copy()

    def close(self) -> None:
        """Nothing to let go of."""
