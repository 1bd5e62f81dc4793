"""One line of what the doctor says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at; ``fail`` where something that serving needs is missing."""

    name: str
    found: str
    state: State = "ok"
    do: str = ""


def names(items: list[str], most: int = 4) -> str:
    """List a few names, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
