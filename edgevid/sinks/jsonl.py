"""The sink ``jsonl``: one JSON object per line, one line per result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgevid.files import is_special
from edgevid.output import STDOUT, open_append, stdout
from edgevid.sinks import Sink
from edgevid.text import printable_json

if TYPE_CHECKING:
    from edgevid.results import Result

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(data: Mapping[str, Any]) -> str:
    """Encode one result on one line that can be shown on a terminal."""
    return printable_json(_encode(data))


@dataclass(frozen=True)
class JsonLinesOptions:
    """Options of the sink ``jsonl``.

    Attributes:
        path: The file to append to, created if it does not exist; ``-`` is stdout.
        full: Write all values of raw outputs, not the first 8 of each.
    """

    path: Path
    full: bool = False


class JsonLines(Sink):
    """Writes each batch of results with one system call."""

    Options = JsonLinesOptions

    def __init__(self, options: JsonLinesOptions) -> None:
        self._path: Path | None = options.path
        self._is_full = options.full
        self._file = stdout() if options.path == STDOUT else open_append(options.path)
        self._lines: list[str] = []
        self._is_torn = False

    @classmethod
    def to(cls, file: BinaryIO) -> JsonLines:
        """Write to an open binary file; whoever opened it closes it."""
        made = cls.__new__(cls)
        made._path, made._file, made._lines, made._is_torn = None, file, [], False
        made._is_full = False
        return made

    def write(self, result: Result) -> None:
        """Encode one result; `flush` writes it."""
        self._lines.append(encode(result.to_json(full=self._is_full)))

    def flush(self) -> None:
        """Write the lines of this batch.

        Raises:
            OSError: The file cannot be written; the batch is discarded.
        """
        if not self._lines:
            return
        text = "\n".join((*self._lines, ""))
        self._lines.clear()
        # After a failed write the file may end in the middle of a line.
        data = memoryview(
            (f"\n{text}" if self._is_torn else text).encode("utf-8", "backslashreplace")
        )
        try:
            while data:
                data = data[self._file.write(data) :]
            self._file.flush()
        except OSError:
            self._is_torn = True
            raise
        self._is_torn = False

    def reopen(self) -> None:
        """Continue at the end of the file of this name, which may be a new one."""
        if self._path is None or self._path == STDOUT or is_special(self._path):
            return
        opened = open_append(self._path)
        self._close_file()
        self._file, self._is_torn = opened, False

    def close(self) -> None:
        """Close a file that this sink opened."""
        if self._path is not None and self._path != STDOUT:
            self._close_file()

    def _close_file(self) -> None:
        with suppress(OSError):
            self._file.close()
