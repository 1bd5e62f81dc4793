"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as ``progress(what, done, total)``; ``done == total`` ends the line ``what``."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Report that ``done`` of ``total`` units of ``what`` are finished."""


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Tell nobody; the default wherever a `Progress` is taken."""
