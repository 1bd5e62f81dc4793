"""The honest stand-in: a runtime that needs no library, as slow and as faulty as one asks.

It executes artifacts of its own format ``null``, a small JSON with which a built-in arithmetic step
is parametrised, or any real artifact through the runtime that is made for it. In both cases it is
an engine like any other and passes golden replay like any other. What it adds is set by the
artifact's ``behaviour`` or by the environment variable ``EDGEVID_NULL``, both JSON:

    {"latency_ms": 5, "faults": [{"at": 10, "kind": "error"}]}

``at`` counts steps from 0, ``-1`` is the moment of loading; ``kind`` is one of ``error`` (raises),
``abort`` (kills the process), ``hang`` (never returns), ``nan`` and ``wrong`` (bad answers from
there on).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.errors import BadInput, EngineFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors
    from edgevid.runtimes import Engine

FAULTS = ("abort", "error", "hang", "nan", "wrong")


class Null:
    """The runtime ``null``."""

    name = "null"
    formats = ("null", *(name for name in registry.names("runtime") if name != "null"))

    def version(self) -> str:
        """It comes with edgevid and has edgevid's version."""
        from edgevid import __version__

        return f"null {__version__}"

    def accelerators(self) -> tuple[str, ...]:
        """The CPU."""
        return ("cpu",)

    def load(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        *,
        accelerator: str = "cpu",
        threads: int | None = None,
    ) -> NullEngine:
        """Load ``files["json"]``, or a real artifact; see `edgevid.runtimes.Runtime.load`."""
        if accelerator not in self.accelerators():
            raise BadInput(f"null has no accelerator {accelerator!r}; use cpu")
        behaviour = json.loads(os.environ.get("EDGEVID_NULL", "{}"))
        if "json" in files:
            parameters = _parameters(files["json"])
            behaviour = {**parameters.pop("behaviour", {}), **behaviour}
            inner: Engine = Arithmetic(parameters, contract)
        else:
            name = "tflite" if "tflite" in files else "openvino"
            inner = registry.load("runtime", name)().load(files, contract, threads=threads)
        return NullEngine(inner, behaviour)


def _parameters(content: bytes) -> dict[str, Any]:
    try:
        parameters = json.loads(content)
    except ValueError as error:
        raise EngineFailed(f"null cannot load the artifact: {error}") from error
    if not isinstance(parameters, dict):
        raise EngineFailed("null cannot load the artifact: it is not a table")
    return parameters


class NullEngine:
    """An engine around another one, which adds latency and faults on schedule."""

    runtime = "null"
    accelerator = "cpu"

    def __init__(self, inner: Engine, behaviour: Mapping[str, Any]) -> None:
        self._inner = inner
        self._latency_s = float(behaviour.get("latency_ms", 0)) / 1000
        self._faults = {int(f["at"]): str(f["kind"]) for f in behaviour.get("faults", ())}
        if wrong := sorted(set(self._faults.values()) - set(FAULTS)):
            raise BadInput(registry.unknown("fault", wrong[0], FAULTS))
        self.precision = inner.precision
        self._lie: str | None = None
        self._steps = -1
        self._strike()

    def step(self, frame: NDArray[np.uint8], state: Tensors) -> tuple[Tensors, Tensors]:
        """Take the inner engine's step, late or falsified as the schedule says."""
        self._strike()
        if self._latency_s:
            time.sleep(self._latency_s)
        answer, following = self._inner.step(frame, state)
        return (_falsified(answer, self._lie), following) if self._lie else (answer, following)

    def _strike(self) -> None:
        kind = self._faults.get(self._steps)
        self._steps += 1
        if kind == "error":
            raise EngineFailed("null engine failed on schedule")
        if kind == "abort":
            os.abort()
        if kind == "hang":
            while True:
                time.sleep(3600)
        self._lie = kind or self._lie

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


def _falsified(answer: Tensors, kind: str) -> Tensors:
    import numpy as np

    if kind == "nan":
        return {name: np.full_like(value, np.nan) for name, value in answer.items()}
    return {name: np.roll(value, 1, axis=-1) for name, value in answer.items()}
