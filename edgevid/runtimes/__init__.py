"""Libraries that execute artifacts, behind one small protocol; one package each.

A runtime loads an artifact on an accelerator and returns an engine; an engine has ``step()``. An
engine keeps no state of a stream: ``step`` is a pure function of its arguments, so a failed step
can be rerun, with the same state, on another engine.

What a runtime is and needs is data, its `RuntimeSpec`; how it executes on the CPU and on each
accelerator is one subclass of `Accelerator` in one module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from edgevid import registry
from edgevid.errors import BadInput, EngineFailed, MissingExtra
from edgevid.runtimes.spec import CPU, AcceleratorSpec, ArtifactFormat, Library, RuntimeSpec
from edgevid.system.distributions import installed_version

if TYPE_CHECKING:
    from edgevid.contract import Contract, Inputs, Tensors

__all__ = [
    "CPU",
    "Accelerator",
    "AcceleratorSpec",
    "ArtifactFormat",
    "Engine",
    "Library",
    "Operator",
    "Runtime",
    "RuntimeSpec",
    "get",
    "zero_state",
]


@dataclass(frozen=True)
class Operator:
    """One operator as it was executed.

    Attributes:
        name: Its name in the artifact.
        kind: Its kind, in the format's own terms.
        place: ``cpu``, or the accelerator that executed it.
        mean_ms: Its time per step; None if the profiler does not report it.
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

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step.

        Args:
            inputs: One array per input of the contract, by name, of its shape and dtype.
            state: One float32 array per state tensor, by the contract's names.

        Returns:
            The outputs and the next state, float32, by the contract's names. They belong to the
            caller and are never written to again.

        Raises:
            EngineFailed: The engine crashed or refused the step.
        """

    def close(self) -> None:
        """Free the artifact; the engine is not used again."""


class Accelerator(ABC):
    """How one runtime executes artifacts in one place, the CPU or an accelerator."""

    def why_not(self) -> str | None:
        """The reason it cannot be tried on this machine, with the remedy; None if it can.

        It looks at files and devices only: nothing is imported, loaded or opened.
        """
        return None

    @abstractmethod
    def load(self, files: Mapping[str, bytes], contract: Contract, *, threads: int = 1) -> Engine:
        """Load an artifact.

        Args:
            files: The artifact's files, ending -> content.
            contract: The contract of the artifact's step.
            threads: Threads of the CPU to use.

        Returns:
            The engine.

        Raises:
            EngineFailed: The library refuses the artifact.
        """

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        steps: Iterable[Inputs],
        *,
        threads: int = 1,
    ) -> list[Operator]:
        """Take ``steps`` on an engine of its own and report which operator ran where.

        It runs in a process that may die of it.

        Args:
            files: The artifact's files, ending -> content.
            contract: The contract of the artifact's step.
            steps: The inputs of each step, as for `Engine.step`.
            threads: Threads of the CPU to use.

        Returns:
            The operators in the order in which they ran.

        Raises:
            EngineFailed: There is no profiler, or it failed.
        """
        raise EngineFailed(f"{type(self).__name__} has no profiler")


class Runtime:
    """A runtime in use: it loads and profiles artifacts as its `RuntimeSpec` declares.

    Args:
        spec: The runtime's declaration.
    """

    def __init__(self, spec: RuntimeSpec) -> None:
        self.spec = spec
        self.name = spec.name

    def missing(self) -> str | None:
        """The message with the install line if no library of it is installed, else None."""
        libraries = self.spec.libraries
        if not libraries or any(find_spec(library.package) for library in libraries):
            return None
        return f"runtime {self.name} is not installed; run: {libraries[0].install}"

    def version(self) -> str:
        """The library that is used, and its version, such as ``openvino 2026.4.1``.

        Raises:
            MissingExtra: No library of it is installed.
        """
        for library in self.spec.libraries:
            if find_spec(library.package) is not None:
                version = installed_version(library.project)
                return f"{library.project} {version or 'of an unknown version'}"
        if message := self.missing():
            raise MissingExtra(message)
        return self._own_version()

    def _own_version(self) -> str:
        """A runtime without a library has the version of the package that provides it."""
        origin = registry.row("runtime", self.name).origin
        if origin != registry.BUILT_IN:
            return f"{self.name} of {origin}"
        from edgevid import __version__

        return f"{self.name} {__version__}"

    def accelerators(self) -> tuple[str, ...]:
        """``cpu``, and every accelerator that can be tried here without being requested."""
        return tuple(
            one.name
            for one in sorted(self.spec.accelerators, key=lambda one: one.name != CPU)
            if one.name == CPU or (not one.stand_in and self.why_not(one.name) is None)
        )

    def accelerator(self, name: str) -> Accelerator:
        """The accelerator of that name, or the CPU.

        Raises:
            BadInput: There is no such accelerator; the message lists those that exist.
        """
        found = self.spec.accelerator(name)
        if found is None:
            known = ", ".join(one.name for one in self.spec.accelerators)
            raise BadInput(f"{self.name} has no accelerator {name!r}; known: {known}")
        accelerator: Accelerator = registry.part("runtime", self.name, found.where)()
        return accelerator

    def why_not(self, accelerator: str) -> str | None:
        """Why an accelerator cannot be tried on this machine, with the remedy; None if it can."""
        return self.accelerator(accelerator).why_not()

    def load(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        *,
        accelerator: str = CPU,
        threads: int | None = None,
    ) -> Engine:
        """Load an artifact.

        Args:
            files: The artifact's files, ending -> content: ``{"xml": ..., "bin": ...}``.
            contract: The contract of the artifact's step.
            accelerator: Where to execute it.
            threads: Threads of the CPU to use; None: one.

        Returns:
            The engine.

        Raises:
            BadInput: The runtime has no such accelerator, or this machine lacks it.
            EngineFailed: The library refuses the artifact.
            MissingExtra: The runtime's library is not installed.
        """
        return self._usable(accelerator).load(files, contract, threads=threads or 1)

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        steps: Iterable[Inputs],
        *,
        accelerator: str = CPU,
        threads: int | None = None,
    ) -> list[Operator]:
        """Report which operator of an artifact ran where; see `Accelerator.profile`.

        Raises:
            BadInput: The runtime has no such accelerator, or this machine lacks it.
            EngineFailed: There is no profiler, or it failed.
            MissingExtra: The runtime's library is not installed.
        """
        found = self._usable(accelerator)
        return found.profile(files, contract, steps, threads=threads or 1)

    def _usable(self, name: str) -> Accelerator:
        accelerator = self.accelerator(name)
        if name == CPU and (message := self.missing()):
            raise MissingExtra(message)
        if reason := accelerator.why_not():
            raise BadInput(f"{self.name} cannot use {name} on this machine: {reason}")
        return accelerator


def get(name: str) -> Runtime:
    """The runtime of that name, built in or of another package; its library is not imported.

    Raises:
        BadInput: There is no such runtime.
        PluginFailed: The plug-in of another package cannot be imported.
    """
    return Runtime(registry.load("runtime", name))


def zero_state(contract: Contract) -> dict[str, Any]:
    """The state at the start of a stream: float32 zeros, by the contract's state names."""
    import numpy as np

    return {s.name: np.zeros(s.shape, np.float32) for s in contract.states}
