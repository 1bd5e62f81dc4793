"""``edgevid keys``."""

from __future__ import annotations

from pathlib import Path

import click

from edgevid.cli.console import OUTPUT_FILE, PATH, common, emit, outputs, save
from edgevid.errors import BadInput


@click.command(name="keys")
@click.option(
    "--key",
    type=PATH,
    help="Show this SSH key instead (its .pub if the private part is in your SSH agent).",
)
@click.option("--create", is_flag=True, help="Create the key if there is none.")
@click.option(
    "--forced-command",
    "login",
    type=PATH,
    metavar="LOGIN.pub",
    help="Print a script for a device: it creates a login with this SSH key that only accepts "
    "requests signed by the key that the device trusts.",
)
@click.option(
    "--allowed-signers",
    type=OUTPUT_FILE,
    help="Write the public key to this file for ssh-keygen -Y verify, which checks what "
    "edgevid flash --archive writes.",
)
@common
def command(
    key: Path | None,
    create: bool,
    login: Path | None,
    allowed_signers: Path | None,
    as_json: bool,
) -> None:
    """Show the key that signs deployments, or create it.

    The first edgevid flash creates it too.

    A device trusts the key of its first deployment, and refuses releases signed by another one. The
    key is an SSH key, and stays on this machine in ~/.config/edgevid/signing-key.

    \b
    Example:  edgevid keys
              edgevid keys --forced-command ~/.ssh/id_ed25519.pub | ssh pi@10.0.0.21 sudo sh
    """
    from edgevid.flash import keys
    from edgevid.flash.agent.statement import ARCHIVE

    if login is not None:
        from edgevid.flash.forced_command import script

        if key is not None or create or allowed_signers is not None:
            raise BadInput("--forced-command cannot be combined with other options; give one")
        text = script(login)
        emit({"script": text}, as_json, text.rstrip("\n"))
        return

    file = outputs(as_json, **{"allowed-signers": allowed_signers}).get("allowed-signers")
    if key is not None and create:
        raise BadInput("--create makes edgevid's own key; leave --key out")
    if key is None and not create and not keys.key_file().exists():
        raise BadInput("there is no signing key yet; create it with: edgevid keys --create")
    found, made = (keys.load(key), False) if key is not None else keys.own_key()
    if file is not None:
        save(file, found.allowed_signer(ARCHIVE).encode())
    document = {
        "key": str(found.path),
        "fingerprint": found.fingerprint,
        "public": found.public,
        "made": made,
    }
    state = "created" if made else "exists"
    emit(document, as_json, f"{found.path} ({state})\n{found.fingerprint}\n{found.public}")
