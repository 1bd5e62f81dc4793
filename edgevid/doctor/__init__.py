"""Whether this machine is fit to serve: what was found, what is wrong, and how to fix it.

Everything is read through a root path, so that another machine's ``/proc`` and ``/sys`` can be
checked as well. Libraries are never imported here: each is tried in a child process, because a
broken native library ends the process that imports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevid.doctor import environment, hardware, plugins, serving, software
from edgevid.doctor.check import Check, State
from edgevid.system import devices

if TYPE_CHECKING:
    from edgevid.bundle import Bundle

__all__ = ["Check", "State", "examine", "fit"]


def examine(bundle: Bundle | None = None, root: Path | None = None) -> list[Check]:
    """Check this machine.

    Args:
        bundle: A bundle to check as well: which of its artifacts can be served here, and on what.
        root: Where the machine's file system begins; None: this machine's.

    Returns:
        The checks, in the order in which they are shown.
    """
    root = devices.ROOT if root is None else root
    return list(_checks(bundle, root))


def _checks(bundle: Bundle | None, root: Path) -> Iterator[Check]:
    yield from hardware.checks(root)
    yield from environment.checks(root)
    libraries = software.try_all()
    yield from software.checks(libraries)
    yield from plugins.checks()
    yield from serving.accelerators()
    if bundle is not None:
        yield from serving.bundle(bundle, libraries)


def fit(checks: Sequence[Check]) -> bool:
    """Whether nothing is missing that serving needs."""
    return all(check.state != "fail" for check in checks)
