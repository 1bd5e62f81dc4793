"""What this machine has to serve with, what is wrong with it, and what to do about that.

Everything is read through a root path, so that another machine's ``/proc`` and ``/sys`` can be
looked at as well. Libraries are never imported here: each is tried in a child process, because a
broken native library ends the process that imports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevid.doctor import hardware, serving, software, surroundings
from edgevid.doctor.check import Check, State
from edgevid.system import devices

if TYPE_CHECKING:
    from edgevid.bundle import Bundle

__all__ = ["Check", "State", "examine", "fit"]


def examine(bundle: Bundle | None = None, root: Path | None = None) -> list[Check]:
    """Look at everything; with ``bundle`` also at what of it could be served here, and on what."""
    root = devices.ROOT if root is None else root
    return list(_checks(bundle, root))


def _checks(bundle: Bundle | None, root: Path) -> Iterator[Check]:
    yield from hardware.checks(root)
    yield from surroundings.checks(root)
    libraries = software.try_all()
    yield from software.checks(libraries)
    yield from serving.accelerators()
    if bundle is not None:
        yield from serving.bundle(bundle, libraries)


def fit(checks: Sequence[Check]) -> bool:
    """Whether all that is needed to serve is there."""
    return all(check.state != "fail" for check in checks)
