"""The sink ``jsonl``: one JSON object a line, one line a step."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from edgevid.errors import BadInput


class JsonLines:
    """Writes answers to a text file that somebody else opens and closes; from any thread.

    With ``each`` every line is handed on at once, as a reader of a live stream wants it. With
    ``patient`` a line that cannot be written (a full disk) is counted in ``lost`` and ``trouble``
    says why, instead of raising: a camera on a pole goes on.
    """

    def __init__(self, file: IO[str], *, each: bool = False, patient: bool = False) -> None:
        self._file = file
        self._each, self._patient = each, patient
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        self._lock = threading.Lock()
        self.lost = 0
        self.trouble: str | None = None

    def write(self, line: dict[str, Any]) -> None:
        """Write one answer."""
        text = self._encode(line) + "\n"
        with self._lock:
            try:
                self._file.write(text)
                if self._each:
                    self._file.flush()
                self.trouble = None
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        if not self._patient or isinstance(error, BrokenPipeError):
            raise error
        self.lost += 1
        self.trouble = f"answers cannot be written: {error.strerror}; {self.lost} are lost"


class Appending(JsonLines):
    """The same at the end of a file, for years: it can be moved away, or another one named."""

    def __init__(self, path: Path) -> None:
        super().__init__(_append(path), each=True, patient=True)

    def reopen(self, path: Path) -> None:
        """Go on at the end of ``path``; raises `BadInput` and stays where it is if it can't."""
        opened = _append(path)
        with self._lock:
            self._close()
            self._file = opened

    def close(self) -> None:
        """Write what is left, and close the file."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        with suppress(OSError):
            self._file.close()


def _append(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}; name another file") from error
