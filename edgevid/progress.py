"""Progress of long work, and the format of numbers in tables."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A function that is called as work proceeds."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Report progress.

        Args:
            what: The work.
            done: Units that are finished; equal to ``total`` at the end.
            total: All units.
            note: A short remark, such as the current loss.
        """


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Report nothing; the default everywhere."""


def in_digits(value: object) -> str:
    """Format a value for a table: floats with four digits and without an exponent."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
