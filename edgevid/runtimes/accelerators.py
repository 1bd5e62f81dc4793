"""What a runtime can execute on besides the CPU: found in the registry, judged by a look.

An accelerator is one file, ``runtimes/<runtime>/<name>.py``, and one row ``<runtime>/<name>``. That
it may be tried says nothing about its answers: it serves only after its proof, in a process of its
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.errors import BadInput

if TYPE_CHECKING:
    from edgevid.contract import Contract
    from edgevid.runtimes import Accelerator, Engine

CPU = "cpu"


def known(runtime: str) -> tuple[str, ...]:
    """The accelerators that have a file, sorted, without the CPU."""
    rows = (name.partition("/") for name in registry.names("accelerator"))
    return tuple(name for owner, _, name in rows if owner == runtime)


def get(runtime: str, name: str) -> Accelerator:
    """The accelerator ``name`` of a runtime; raises `BadInput` that names those that there are."""
    if name not in known(runtime):
        raise BadInput(
            f"{runtime} has no accelerator {name!r}; known: {', '.join((CPU, *known(runtime)))}"
        )
    accelerator: Accelerator = registry.load("accelerator", f"{runtime}/{name}")()
    return accelerator


def usable(runtime: str) -> tuple[str, ...]:
    """``cpu``, and every accelerator that may be tried here without being asked for."""
    found = [name for name in known(runtime) if not get(runtime, name).stand_in]
    return (CPU, *(name for name in found if get(runtime, name).why_not() is None))


def why_not(runtime: str, name: str) -> str | None:
    """Why an accelerator cannot be tried on this machine, with the remedy; None where it can.

    No library is imported for it.
    """
    return None if name == CPU else get(runtime, name).why_not()


def formats(runtime: str, name: str) -> tuple[str, ...]:
    """Formats of artifact that an accelerator or the CPU executes, the preferred one first."""
    owner: Any = registry.load("runtime", runtime) if name == CPU else get(runtime, name)
    found: tuple[str, ...] = owner.formats
    return found


def load(
    runtime: str, name: str, files: Mapping[str, bytes], contract: Contract, threads: int | None
) -> Engine:
    """Load an artifact on an accelerator; raises `BadInput` with the reason where there is none."""
    accelerator = get(runtime, name)
    if reason := accelerator.why_not():
        raise BadInput(f"{runtime} cannot use {name} on this machine: {reason}")
    return accelerator.load(files, contract, threads=threads)
