"""``edgevid keys``."""

from __future__ import annotations

from pathlib import Path

import click

from edgevid.cli.console import common, emit


@click.command(name="keys")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="Show this SSH key of your own instead (its .pub where your agent has it).",
)
@common
def command(key: Path | None, as_json: bool) -> None:
    """Make the key that signs what is flashed, or show it.

    A device keeps to the key of its first flash: releases signed by another are refused there. The
    key is an SSH key; it stays on this machine, in ~/.config/edgevid/signing-key.

    Example:  edgevid keys
    """
    from edgevid.flash import keys

    found, made = (keys.load(key), False) if key is not None else keys.own_key()
    document = {
        "key": str(found.path),
        "fingerprint": found.fingerprint,
        "public": found.public,
        "made": made,
    }
    state = "made" if made else "kept"
    emit(document, as_json, f"{found.path} ({state})\n{found.fingerprint}\n{found.public}")
