"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: What was checked.
        found: What is there.
        state: ``fail`` if something that serving needs is missing.
        do: What to do about it; empty if nothing needs doing.
    """

    name: str
    found: str
    state: State = "ok"
    do: str = ""


def names(items: list[str], most: int = 4) -> str:
    """The first ``most`` names, and the number of the others."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
