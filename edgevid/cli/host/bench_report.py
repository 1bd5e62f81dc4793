"""``edgevid bench report``, and the files of ``--page`` and ``--markdown``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevid.cli.bench_options import reporting
from edgevid.cli.console import common, emit, say, table
from edgevid.errors import BadInput

if TYPE_CHECKING:
    from edgevid.bench.result import BenchResult

STDOUT = Path("-")


@dataclass(frozen=True)
class Reports:
    """The files to write; checked before anything is measured."""

    page: Path | None
    markdown: Path | None

    @classmethod
    def checked(cls, page: Path | None, markdown: Path | None, as_json: bool) -> Reports:
        """Check that the files can be written.

        Raises:
            BadInput: If one of them cannot.
            MissingExtra: If a page needs a library that is not installed.
        """
        from edgevid.registry import need

        if as_json and markdown == STDOUT:
            raise BadInput("--json and --markdown - both print to stdout; give --markdown a file")
        for path in (page, None if markdown == STDOUT else markdown):
            if path is not None and not path.resolve().parent.is_dir():
                raise BadInput(f"{path} cannot be written: {path.parent} is not a directory")
        if page is not None:
            need("jinja2", "report")
            need("matplotlib", "report")
        return cls(page, markdown)

    def write(self, results: Sequence[BenchResult], text: str) -> str:
        """Write the files; returns what to print: ``text``, or the Markdown."""
        from edgevid.bench.host.html import page
        from edgevid.bench.host.markdown import markdown
        from edgevid.files import write_bytes

        if self.page is not None:
            write_bytes(self.page, page(results).encode())
            say(f"written: {self.page}")
        if self.markdown == STDOUT:
            return markdown(results).rstrip("\n")
        if self.markdown is not None:
            write_bytes(self.markdown, markdown(results).encode())
            say(f"written: {self.markdown}")
        return text


@click.command(name="report")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@reporting
@common
def command(
    results: tuple[Path, ...], page: Path | None, markdown: Path | None, as_json: bool
) -> int:
    """Show RESULTS that --out wrote, of one or several devices, as a table, page or Markdown.

    Example:  edgevid bench report pi-4.json pi-5.json --page bench.html
    """
    from edgevid.bench.summary_table import HEAD, KEYS, rows
    from edgevid.cli.host.bench_compare import read

    reports = Reports.checked(page, markdown, as_json)
    documents = [read(path) for path in results]
    found = rows(documents)
    shown = reports.write(documents, table(found, HEAD))
    emit({"rows": [dict(zip(KEYS, row, strict=True)) for row in found]}, as_json, shown)
    return 0
