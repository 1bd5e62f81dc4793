"""Declarations of runtimes: plain data, available without importing any library.

The registry row or entry point of a runtime names one `RuntimeSpec`. Everything outside
`edgevid.runtimes` that needs to know about libraries, formats or accelerators asks it, so a new
runtime is one package and one row. The classes that execute artifacts are named as
``module:attribute`` and loaded when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CPU = "cpu"
"""The name of the accelerator that every runtime has."""


@dataclass(frozen=True)
class ArtifactFormat:
    """One format of artifact.

    Attributes:
        name: The format's name, the first part of an artifact's name.
        endings: The endings of an artifact's files, sorted.
    """

    name: str
    endings: tuple[str, ...]


@dataclass(frozen=True)
class Library:
    """A library that provides a runtime.

    Attributes:
        project: The name of its distribution.
        module: The module to import.
        requirement: The requirement that pip installs.
        extra: The extra of edgevid that installs it; None if none does.
        lazy: An attribute of the module that loads native code only when it is first used.
        counts_releases: Whether its version is comparable with `Artifact.smallest_runtime`.
        below: Versions of other distributions at which it stops loading.
    """

    project: str
    module: str
    requirement: str
    extra: str | None = None
    lazy: str | None = None
    counts_releases: bool = True
    below: Mapping[str, str] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """The top-level package of `module`."""
        return self.module.partition(".")[0]

    @property
    def install(self) -> str:
        """The command that installs it."""
        wanted = f"edgevid[{self.extra}]" if self.extra else self.requirement
        plain = wanted.replace("-", "").replace("_", "").isalnum()
        return f"pip install {wanted}" if plain else f"pip install '{wanted}'"


@dataclass(frozen=True)
class OperatorRules:
    """What is known about the operators of an accelerator before anything is tried on it.

    Attributes:
        source: Where the rules are published.
        operators: The operators it executes, by their names in the artifact format; None if that
            is not published.
        wrong: Operators for which it has given wrong outputs, and how.
        one_piece: Whether everything after an operator that it does not execute stays on the CPU
            too.
    """

    source: str
    operators: frozenset[str] | None = None
    wrong: Mapping[str, str] = field(default_factory=dict)
    one_piece: bool = False


@dataclass(frozen=True)
class AcceleratorSpec:
    """One place where a runtime executes artifacts; the CPU is one of them.

    Attributes:
        name: Its name; also the name of its module in the runtime's package.
        where: ``module:attribute`` of a subclass of `edgevid.runtimes.Accelerator`.
        formats: Formats of artifact that it executes, the preferred one first.
        quantize: Quantisations that it executes, the preferred one first.
        stand_in: Whether it only imitates an accelerator and is used only if it is asked for.
        any_format: Whether it also executes every other format, through the runtime made for it.
        rules: What is known about its operators.
    """

    name: str
    where: str
    formats: tuple[str, ...]
    quantize: tuple[str, ...]
    stand_in: bool = False
    any_format: bool = False
    rules: OperatorRules | None = None

    def executes(self, format_name: str) -> bool:
        """Whether it executes artifacts of a format, if it is asked to."""
        return self.any_format or format_name in self.formats

    def prefers(self, format_name: str) -> bool:
        """Whether it is made for a format, so that it executes it without being asked to."""
        return format_name == self.formats[0]


@dataclass(frozen=True)
class RuntimeSpec:
    """The declaration of one runtime.

    Attributes:
        name: The runtime's name in the registry.
        formats: Its formats of artifact, the preferred one first. A format's name need not be the
            runtime's.
        accelerators: Where it executes; one of them is the CPU.
        libraries: The libraries that provide it, the preferred one first; any one of them is
            enough. Empty if it needs none.
        stand_in: Whether it only imitates other runtimes, for trials and tests.
        variables: Environment variables that change what it computes.
    """

    name: str
    formats: tuple[ArtifactFormat, ...]
    accelerators: tuple[AcceleratorSpec, ...]
    libraries: tuple[Library, ...] = ()
    stand_in: bool = False
    variables: tuple[str, ...] = ()

    @property
    def requirements(self) -> tuple[str, ...]:
        """What a device installs for it unless its target says otherwise."""
        return tuple(library.requirement for library in self.libraries[:1])

    @property
    def cpu(self) -> AcceleratorSpec:
        """How it executes on the CPU."""
        return next(one for one in self.accelerators if one.name == CPU)

    def accelerator(self, name: str) -> AcceleratorSpec | None:
        """The accelerator of that name, or None."""
        return next((one for one in self.accelerators if one.name == name), None)
