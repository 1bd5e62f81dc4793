"""``edgevid fleet``."""

from __future__ import annotations

from dataclasses import asdict

import click

from edgevid.cli.console import common, emit, table


@click.group(name="fleet")
def command() -> None:
    """Show many devices at once; ~/.config/edgevid/devices.toml lists them.

    Example:  edgevid fleet status --target gates
    """


@command.command()
@click.option(
    "--target",
    "names",
    multiple=True,
    metavar="T",
    help="A device, a tag, or user@host:port; repeatable. Default: all in the inventory.",
)
@common
def status(names: tuple[str, ...], as_json: bool) -> int:
    """Show what each device serves, how well, and whether it is what was deployed from here.

    The exit code is 1 if a device is not serving or has drifted, otherwise 4 if one could not be
    reached.

    Example:  edgevid fleet status
    """
    from edgevid.flash import fleet
    from edgevid.flash.inventory import read_inventory, resolve_all, some

    inventory = read_inventory()
    devices = resolve_all(names, inventory) if names else some(inventory)
    found = fleet.conditions(devices)
    text = table([one.row() for one in found], fleet.CONDITION_HEAD)
    emit({"devices": [asdict(one) for one in found]}, as_json, text)
    codes = {one.exit_code for one in found}
    return next((code for code in (1, 4) if code in codes), 0)
