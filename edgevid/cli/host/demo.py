"""``edgevid demo``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from edgevid.cli.console import OUTPUT, common, emit, say


@click.command(name="demo")
@click.option(
    "--out",
    type=OUTPUT,
    default=Path("demo"),
    show_default=True,
    help="Directory for everything that the demo creates.",
)
@common
def command(out: Path, as_json: bool) -> None:
    """Train, convert, verify, run and benchmark a model on this machine, and write a report.

    It takes about four minutes on two cores. An interrupted demo resumes where it stopped.

    Example:  edgevid demo --out demo
    """
    from edgevid.demo import demo
    from edgevid.output import try_folder

    try_folder(out)
    result = demo(out, partial(say, lines=True))
    emit(result, as_json, result["report"])
