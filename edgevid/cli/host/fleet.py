"""``edgevid fleet``."""

from __future__ import annotations

from dataclasses import asdict

import click

from edgevid.cli.console import common, emit, table


@click.group(name="fleet")
def command() -> None:
    """Look after many devices at once; they stand in ~/.config/edgevid/devices.toml.

    Example:  edgevid fleet status --target gates
    """


@command.command()
@click.option(
    "--target",
    "words",
    multiple=True,
    metavar="T",
    help="A device, a tag, or user@host:port; may be repeated. Left out: all of the inventory.",
)
@common
def status(words: tuple[str, ...], as_json: bool) -> int:
    """Ask each device what it serves, how well, and whether that is what was flashed from here.

    The exit code is 1 where a device does not serve or has drifted, else 4 where one could not be
    reached.

    Example:  edgevid fleet status
    """
    from edgevid.flash import fleet
    from edgevid.flash.inventory import read_inventory, resolve_all, some

    inventory = read_inventory()
    devices = resolve_all(words, inventory) if words else some(inventory)
    found = fleet.conditions(devices)
    text = table([one.row() for one in found], fleet.CONDITION_HEAD)
    emit({"devices": [asdict(one) for one in found]}, as_json, text)
    codes = {one.exit_code for one in found}
    return next((code for code in (1, 4) if code in codes), 0)
