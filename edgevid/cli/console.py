"""Console output: one JSON document or text on stdout, everything else on stderr."""

from __future__ import annotations

import codecs
import errno
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

import click

from edgevid.errors import READABLE, BadInput, BadOutput, OutputFailed
from edgevid.files import text_bytes
from edgevid.output import (
    STDOUT,
    Destination,
    is_stdout,
    print_bytes,
    reject_input,
    same_file,
)
from edgevid.progress import in_digits
from edgevid.text import expand, printable, printable_json

Command = TypeVar("Command", bound=Callable[..., Any])


def common(function: Command) -> Command:
    """Add ``--json`` and ``--debug``, which every command has."""
    function = click.option(
        "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
    )(function)
    return click.option(
        "--json", "as_json", is_flag=True, help="Print exactly one JSON document on stdout."
    )(function)


class PathType(click.Path):
    """The path of a file or folder; ``~`` works where a shell leaves it, as in ``--out=~/x``.

    Attributes:
        role: What the command does with it: an ``input``, an ``output`` that may be a file or a
            folder, or an ``output file``.
    """

    name = "path"

    def __init__(self, role: Literal["input", "output", "output file"]) -> None:
        """Make the type of a parameter."""
        super().__init__()
        self.role = role

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Make a path of the argument; one that can never be used is rejected with its option."""
        if not str(value):
            self.fail("an empty path; name a file or folder", param, ctx)
        path = Path(expand(os.fspath(value)))
        if self.role != "input" and is_stdout(path):
            return STDOUT
        if self.role == "output file" and str(value).endswith("/"):
            self.fail(f"{str(value)!r} is the name of a folder; name a file", param, ctx)
        try:
            path.stat()
        except OSError as error:
            if error.errno in UNUSABLE_NAMES:
                self.fail(f"{path}: {error.strerror}; give another path", param, ctx)
        else:
            if self.role == "input" and not os.access(path, os.R_OK):
                self.fail(f"{path}: Permission denied; {READABLE}", param, ctx)
        return path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        """Let the shell complete files."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class FiniteFloat(click.types.FloatParamType):
    """A number; ``nan`` and ``inf``, which Python's ``float`` accepts, are rejected."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Make a number of the argument."""
        return _finite(self, super().convert(value, param, ctx), param, ctx)


class FiniteRange(click.FloatRange):
    """A finite number within limits."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Make a number of the argument."""
        return _finite(self, super().convert(value, param, ctx), param, ctx)


def _finite(
    kind: click.types.FloatParamType,
    number: float,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> float:
    if not math.isfinite(number):
        kind.fail(f"{number} is not a finite number", param, ctx)
    return number


FLOAT = FiniteFloat()
PATH = PathType("input")
OUTPUT = PathType("output")
OUTPUT_FILE = PathType("output file")
UNUSABLE_NAMES = {errno.ENAMETOOLONG, errno.ELOOP}
"""Errors of names that no path can have; `Path.exists` raises them too, before Python 3.12."""


def emit(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print the result: as JSON, or as ``text``; on stderr if an output of the command is stdout.

    Unprintable characters are shown as escapes.

    Raises:
        OutputFailed: stdout cannot be written, or `save` failed before.
        BadOutput: `save` failed before.
    """
    kept = _kept()
    document = json.dumps(result, indent=2, ensure_ascii=False) if as_json else None
    content = None if document is None else text_bytes(printable_json(document))
    if "stdout" in kept:
        say(text, lines=True)
    else:
        _PRINTED.append(True)
        shown = printable(text, lines=True)
        print_bytes(f"{shown}\n".encode(*_coding()) if content is None else content + b"\n")
    if failed := kept.pop("failed", None):
        raise failed


def outputs(as_json: bool, **named: Path | None) -> dict[str, Destination]:
    """Try the outputs of a command before its work; they are closed at its end.

    Args:
        as_json: Whether the result is printed as JSON, so that no output can be stdout.
        named: The path of each output by the name of its option; None if it is not given.

    Returns:
        The outputs that are given.

    Raises:
        BadOutput: One can never be written, two are the same, or one is an input of the command.
        OutputFailed: One may not be written.
    """
    given = {f"--{name}": path for name, path in named.items() if path is not None}
    for number, (option, path) in enumerate(given.items()):
        for other in list(given)[:number]:
            if same_file(path, given[other]):
                raise BadOutput(f"{other} and {option} both write to {path}; give another one")
        reject_input(path, _inputs())
    opened = {}
    for option, path in given.items():
        opened[option.removeprefix("--")] = output = Destination(path)
        click.get_current_context().call_on_close(output.close)
        if output.is_stdout:
            if as_json:
                text = f"--json and {option} - both write to stdout; give {option} a file"
                raise BadOutput(text)
            _kept()["stdout"] = True
    return opened


def _inputs() -> Iterator[Path]:
    """The paths that the command was given to read."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.type is PATH:
            value = context.params.get(str(parameter.name)) or ()
            yield from value if isinstance(value, tuple) else (value,)


def save(output: Destination, content: bytes) -> bool:
    """Write an output; `emit` raises its error, so that the result is printed all the same.

    Returns:
        Whether it was written.
    """
    try:
        output.write(content)
    except (BadOutput, OutputFailed) as error:
        _kept().setdefault("failed", error)
        return False
    if not output.is_stdout:
        say(f"written: {output.path}")
    return True


_PRINTED: list[bool] = []


def _kept() -> dict[str, Any]:
    """What one call of the command line keeps between its parts."""
    context = click.get_current_context(silent=True)
    kept: dict[str, Any] = {} if context is None else context.meta.setdefault(__name__, {})
    return kept


def has_printed() -> bool:
    """Whether this process has printed a result on stdout."""
    return bool(_PRINTED)


def say(text: str, *, lines: bool = False) -> None:
    """Print a message on stderr, if there is one; unprintable characters become escapes.

    Args:
        text: The message.
        lines: Keep line feeds, for a text that edgevid itself has split into lines; otherwise they
            are escaped too.
    """
    if sys.stderr is None:
        return
    with suppress(OSError):
        click.echo(printable(text, lines=lines), err=True)


def flush() -> int:
    """Write what stdout has buffered.

    Raises:
        OutputFailed: It cannot be written.
        ReaderGone: Its reader has closed it.
    """
    if sys.stdout is not None:
        print_bytes(b"")
    return 0


def abandon_unwritten() -> None:
    """Let what stdout could not write go, or Python would report it once more at its end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def let_names_through(stream: Any) -> None:
    """Let file names that are not UTF-8 pass unchanged, and escape what the stream cannot show."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_ERRORS)


def _coding() -> tuple[str, str]:
    return getattr(sys.stdout, "encoding", None) or "utf-8", _ERRORS


_ERRORS = "edgevid.names"


def _encode_rest(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode one character that a stream's encoding lacks: a raw byte as itself, others escaped."""
    assert isinstance(error, UnicodeEncodeError)
    code = ord(error.object[error.start])
    if 0xDC80 <= code <= 0xDCFF:
        return bytes([code - 0xDC00]), error.start + 1
    return ascii(error.object[error.start])[1:-1], error.start + 1


codecs.register_error(_ERRORS, _encode_rest)


def on_host(module: str, message: str) -> ModuleType:
    """Import a module that is not installed on devices.

    Raises:
        BadInput: with ``message``, where this is a device.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise BadInput(message) from None


def table(rows: Iterable[Sequence[Any]], head: Sequence[str]) -> str:
    """Format a table: numbers right-aligned, text left-aligned, ``None`` as a dash."""
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(_is_number(row[i]) for row in cells) for i in range(len(head))]
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        parts = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        return "  ".join(parts).rstrip()

    return "\n".join([line(head), *map(line, cells)])


def _cell(value: Any) -> str:
    return "-" if value is None else printable(in_digits(value))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == "-"
    return True


LINE_S = 10.0
"""Seconds between lines where there is no terminal; less time left is not worth mentioning."""


class Bar:
    """A `Progress`: a bar on a terminal; elsewhere a line per quarter, and each few seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._what = ""
        self._began: dict[str, float] = {}
        self._drawn = 0.0
        self._quarter = -1

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Draw ``done`` of ``total``."""
        now = time.monotonic()
        if what != self._what or done == 0:
            self._what, self._quarter, self._drawn = what, -1, 0.0
        if done == 0 or what not in self._began:
            self._began[what] = now
        elapsed_s = now - self._began[what]
        quarter = 4 * done // max(total, 1)
        if self._terminal:
            if done >= total or now - self._drawn > 0.1:
                self._drawn = now
                self._draw(done, total, elapsed_s, note)
        elif quarter > self._quarter or now - self._drawn > LINE_S:
            self._quarter, self._drawn = quarter, now
            left_s = elapsed_s * (total - done) / done if done else 0.0
            left = f" (about {left_s:.0f} s left)" if left_s >= LINE_S else ""
            say(f"{what}: {done}/{total} {note}{left}".rstrip())

    def _draw(self, done: int, total: int, elapsed_s: float, note: str) -> None:
        share = done / max(total, 1)
        left_s = elapsed_s / share - elapsed_s if share else 0.0
        filled = "█" * int(24 * share)
        end = "\n" if done >= total else ""
        text = f"{self._what:<24} {filled:<24} {done}/{total} {left_s:4.0f} s left  {note}"
        text = printable(text)
        with suppress(OSError):
            click.echo(f"\r\033[K{text}{end}", nl=False, err=True)
