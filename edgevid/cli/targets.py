"""``edgevid targets``."""

from __future__ import annotations

from dataclasses import asdict

import click

from edgevid.cli.console import common, emit, table


@click.group(name="targets", invoke_without_command=True)
@common
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the kinds of device that edgevid knows.

    Example:  edgevid targets show generic-arm64
    """
    if ctx.invoked_subcommand:
        return
    from edgevid import targets

    found = [targets.load(name) for name in targets.names()]
    rows = [(t.name, t.architecture, t.engine[0].runtime, t.title) for t in found]
    text = table(rows, ("name", "architecture", "first runtime", "title"))
    emit({"targets": [asdict(target) for target in found]}, as_json, text)


@command.command()
@click.argument("name")
@common
def show(name: str, as_json: bool) -> None:
    """Show one target.

    Example:  edgevid targets show generic-arm64
    """
    from edgevid import targets

    target = asdict(targets.load(name))
    emit(target, as_json, "\n".join(f"{key:<13} {value}" for key, value in target.items()))
