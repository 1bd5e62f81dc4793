"""Libraries that execute artifacts, behind one small protocol; one file each.

A runtime loads an artifact on an accelerator and gives an engine; an engine has ``step()``. An
engine holds no memory of a stream: ``step`` is a pure function of its arguments, so a step that
failed can be taken again, with the same state, by another engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors


@dataclass(frozen=True)
class Operator:
    """One operator as it was executed; ``place`` is ``cpu`` or the accelerator that took it.

    ``mean_ms`` is its time a step, None where that is not told.
    """

    name: str
    kind: str
    place: str
    mean_ms: float | None = None


class Engine(Protocol):
    """An artifact loaded in a runtime on an accelerator."""

    runtime: str
    accelerator: str
    precision: str
    """The arithmetic that really runs: ``float32``, ``bf16``, ``int8``, ..."""

    def step(self, frame: NDArray[np.uint8], state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step: ``(answer, next state)``, by the contract's bare names.

        ``frame`` is uint8 ``(1, height, width, 3)``; ``state`` has one float32 array per state
        tensor. What is returned belongs to the caller and is never written to again.
        Raises `EngineFailed`.
        """

    def close(self) -> None:
        """Let go of the artifact; the engine is not used again."""


class Accelerator(Protocol):
    """Where a runtime executes besides the CPU; kind ``accelerator`` in the registry."""

    name: str
    formats: tuple[str, ...]
    """Formats of artifact that it executes, the preferred one first."""
    stand_in: bool
    """Whether it only stands in for one, and is used where it is asked for by name."""

    def why_not(self) -> str | None:
        """Why it cannot be tried on this machine, with the remedy; None where it can.

        A look at files and devices: nothing is imported, loaded or opened.
        """

    def load(
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int | None = None
    ) -> Engine:
        """Load an artifact, as `Runtime.load` does. Raises `EngineFailed`."""


class Runtime(Protocol):
    """One library that executes artifacts."""

    name: str
    formats: tuple[str, ...]
    """Formats of artifact that it executes, the preferred one first."""

    def version(self) -> str:
        """The library's version; raises `MissingExtra` where it is not installed."""

    def accelerators(self) -> tuple[str, ...]:
        """The accelerators that it can use on this machine, ``cpu`` among them."""

    def load(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        *,
        accelerator: str = "cpu",
        threads: int | None = None,
    ) -> Engine:
        """Load an artifact from ``files``, ending -> content (``{"xml": ..., "bin": ...}``).

        Raises `EngineFailed` where the library refuses it, `BadInput` for an accelerator that this
        machine lacks.
        """


class Profiles(Protocol):
    """What a runtime, or an accelerator, may offer besides: it says which operator ran where."""

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        frames: Iterable[NDArray[np.uint8]],
        *,
        threads: int | None = None,
    ) -> list[Operator]:
        """Step through ``frames`` on an engine of its own that is profiled, slowly.

        It is called in a process that may die of it. Raises `EngineFailed` where the library cannot
        tell.
        """


def zero_state(contract: Contract) -> dict[str, Any]:
    """The memory at the start of a stream: float32 zeros by the contract's state names."""
    import numpy as np

    return {s.name: np.zeros(s.shape, np.float32) for s in contract.states}
