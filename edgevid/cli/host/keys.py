"""``edgevid keys``."""

from __future__ import annotations

from pathlib import Path

import click

from edgevid.cli.console import PATH, common, emit


@click.command(name="keys")
@click.option(
    "--key",
    type=PATH,
    help="Show this SSH key instead (its .pub if the private part is in your SSH agent).",
)
@common
def command(key: Path | None, as_json: bool) -> None:
    """Create the key that signs deployments, or show it.

    A device trusts the key of its first deployment, and refuses releases signed by another one. The
    key is an SSH key, and stays on this machine in ~/.config/edgevid/signing-key.

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
    state = "created" if made else "exists"
    emit(document, as_json, f"{found.path} ({state})\n{found.fingerprint}\n{found.public}")
