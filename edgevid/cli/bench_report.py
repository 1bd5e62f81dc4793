"""``edgevid bench report``, and ``--page`` and ``--markdown`` of what measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from edgevid.cli.console import common, emit, on_host, say, table

Command = TypeVar("Command", bound=Callable[..., Any])
STDOUT = Path("-")


def reporting(function: Command) -> Command:
    """Add ``--page`` and ``--markdown``."""
    function = click.option(
        "--page",
        type=click.Path(path_type=Path),
        help="Write a page for a browser here: one file, everything inside.",
    )(function)
    return click.option(
        "--markdown",
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE",
        help="Write tables as Markdown here; - prints them instead of the text.",
    )(function)


@dataclass(frozen=True)
class Reports:
    """What is to be written; made before anything is measured, so that it fails early."""

    page: Path | None
    markdown: Path | None

    @classmethod
    def wanted(cls, page: Path | None, markdown: Path | None, as_json: bool) -> Reports:
        """Raise `BadInput` for what could not be written in the end."""
        from edgevid.errors import BadInput

        if as_json and markdown == STDOUT:
            raise BadInput("--json and --markdown - would both be printed; give --markdown a file")
        for path in (page, None if markdown == STDOUT else markdown):
            if path is not None and not path.resolve().parent.is_dir():
                raise BadInput(f"{path} cannot be written: {path.parent} is no folder; make it")
        if page is not None:
            _pages()
        return cls(page, markdown)

    def give(self, documents: Sequence[Mapping[str, Any]], said: str) -> str:
        """Write them; what is to be printed then, in place of ``said`` or as it is."""
        from edgevid.bench.report.markdown import markdown
        from edgevid.files import write_bytes

        if self.page is not None:
            write_bytes(self.page, _pages()(documents).encode())
            say(f"written: {self.page}")
        if self.markdown == STDOUT:
            return markdown(documents).rstrip("\n")
        if self.markdown is not None:
            write_bytes(self.markdown, markdown(documents).encode())
            say(f"written: {self.markdown}")
        return said


def _pages() -> Callable[[Sequence[Mapping[str, Any]]], str]:
    pages = on_host(
        "edgevid.bench.report.html",
        "pages are not made on a device; make one of what --out wrote, on a computer, with: "
        "edgevid bench report",
    )
    page: Callable[[Sequence[Mapping[str, Any]]], str] = pages.page
    return page


@click.command(name="report")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@reporting
@common
def command(
    results: tuple[Path, ...], page: Path | None, markdown: Path | None, as_json: bool
) -> int:
    """One table, page or Markdown of RESULTS that --out wrote, here or on several devices.

    Example:  edgevid bench report pi-4.json pi-5.json --page bench.html
    """
    from edgevid.bench.comparison.pairing import check
    from edgevid.bench.summary_table import HEAD, rows
    from edgevid.cli.bench_compare import read
    from edgevid.errors import BadInput

    reports = Reports.wanted(page, markdown, as_json)
    documents = [read(path) for path in results]
    for path, document in zip(results, documents, strict=True):
        check(document, str(path))
    try:
        found = rows(documents)
        said = reports.give(documents, table(found, HEAD))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"a result is damaged ({error!r}); measure again") from None
    head = [name or "valid" for name in HEAD]
    told = [dict(zip(head, row, strict=True)) for row in found]
    emit({"rows": told}, as_json, said)
    return 0
