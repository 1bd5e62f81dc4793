"""``edgevid demo``."""

from __future__ import annotations

from pathlib import Path

import click

from edgevid.cli.console import common, emit, say


@click.command(name="demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder.",
)
@common
def command(out: Path, as_json: bool) -> None:
    """Make data, train, convert, prove, run and bench on this machine; ends with a report.

    About four minutes on two cores. Run again, it goes on where it was stopped.

    Example:  edgevid demo --out demo
    """
    from edgevid.demo import demo

    result = demo(out, say)
    emit(result, as_json, result["report"])
