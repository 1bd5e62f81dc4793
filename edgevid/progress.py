"""How far long work has come, and how a number is shown: what people see of both."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as ``progress(what, done, total)``; ``done == total`` ends the line ``what``."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Report that ``done`` of ``total`` units of ``what`` are finished."""


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Tell nobody; the default wherever a `Progress` is taken."""


def in_digits(value: object) -> str:
    """A value as it stands in a table: floats with four digits, none of them an exponent's."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
