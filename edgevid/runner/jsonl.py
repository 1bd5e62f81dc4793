"""The sink ``jsonl``: one JSON object a line, one line a step."""

from __future__ import annotations

import json
from typing import IO, Any


class JsonLines:
    """Writes answers to a text file that somebody else opens and closes."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def write(self, line: dict[str, Any]) -> None:
        """Write one answer."""
        self._file.write(self._encode(line) + "\n")

    def flush(self) -> None:
        """Hand on what was written."""
        self._file.flush()
