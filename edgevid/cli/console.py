"""Console output: one JSON document or text on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

import click

from edgevid.errors import BadInput
from edgevid.progress import in_digits

Command = TypeVar("Command", bound=Callable[..., Any])


def common(function: Command) -> Command:
    """Add ``--json`` and ``--debug``, which every command has."""
    function = click.option(
        "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
    )(function)
    return click.option(
        "--json", "as_json", is_flag=True, help="Print exactly one JSON document on stdout."
    )(function)


def emit(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print the result: as JSON, or as ``text``."""
    click.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else text)


def say(text: str) -> None:
    """Print a message on stderr."""
    click.echo(text, err=True)


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
    if value is None:
        return "-"
    return in_digits(value)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == "-"
    return True


class Bar:
    """A `Progress`: a bar on a terminal, a line per quarter elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._what = ""
        self._began = self._drawn = 0.0
        self._quarter = -1

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Draw ``done`` of ``total``."""
        now = time.monotonic()
        if what != self._what or done == 0:
            self._what, self._began, self._quarter, self._drawn = what, now, -1, 0.0
        if self._terminal:
            if done >= total or now - self._drawn > 0.1:
                self._drawn = now
                self._draw(done, total, now - self._began, note)
        elif (quarter := 4 * done // max(total, 1)) > self._quarter:
            self._quarter = quarter
            click.echo(f"{what}: {done}/{total} {note}".rstrip(), err=True)

    def _draw(self, done: int, total: int, elapsed_s: float, note: str) -> None:
        share = done / max(total, 1)
        left_s = elapsed_s / share - elapsed_s if share else 0.0
        filled = "█" * int(24 * share)
        end = "\n" if done >= total else ""
        text = f"{self._what:<24} {filled:<24} {done}/{total} {left_s:4.0f} s left  {note}"
        click.echo(f"\r\033[K{text}{end}", nl=False, err=True)
