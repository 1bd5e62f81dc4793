"""One line of what the doctor says, and how files of ``/proc`` and ``/sys`` are read for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at; ``fail`` where something that serving needs is missing."""

    name: str
    found: str
    state: State = "ok"
    do: str = ""


def text(path: Path) -> str | None:
    """What a small file holds, without the blanks around it; None where it cannot be read."""
    try:
        return path.read_bytes().decode(errors="replace").strip("\0 \t\r\n")
    except OSError:
        return None


def number(path: Path) -> int | None:
    """The whole number that a file holds; None where there is none."""
    try:
        return int(text(path) or "")
    except ValueError:
        return None


def table(path: Path) -> dict[str, str]:
    """Lines of ``key: value``; of a key that comes again, the first."""
    found: dict[str, str] = {}
    for line in (text(path) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def names(items: list[str], most: int = 4) -> str:
    """List a few names, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
