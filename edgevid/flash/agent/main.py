"""What the agent was started for."""

from __future__ import annotations

import sys
from pathlib import Path

from .session import Session
from .wire import Wire


def main(words: list[str]) -> int:
    """Serve a session (no words), or do what the first word says; gives the exit code."""
    root = Path(words[words.index("--root") + 1]) if "--root" in words else None
    Session(Wire(sys.stdin.buffer, sys.stdout.buffer), root).run()
    return 0
