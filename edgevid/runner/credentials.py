"""Secrets that a configuration refers to by name, so no release, archive or command contains them.

A credential is a file of one line in ``$CREDENTIALS_DIRECTORY``: systemd's ``LoadCredential=`` puts
it where only the service can read it, and ``edgevid flash`` does that on its devices. A camera has
``credential = "door"``: the line is its password, or its whole URL if that contains secrets. In
the options of a sink the text ``credential:NAME`` stands for the line.
"""

from __future__ import annotations

import os
import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput
from edgevid.settings import shown
from edgevid.text import read_secret

if TYPE_CHECKING:
    from edgevid.runner.config import CameraUse

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
PREFIX = "credential:"
FOLDER = "CREDENTIALS_DIRECTORY"


def read_credential(name: str) -> str:
    """Read a credential.

    Args:
        name: Its name.

    Returns:
        Its line.

    Raises:
        BadInput: It is not there, or empty.
    """
    fix = "flash the device with the password again, or use LoadCredential= in the unit"
    folder = os.environ.get(FOLDER)
    if not NAME.fullmatch(name):
        raise BadInput(f"credential {shown(name)}: use letters, digits, dots, dashes, underscores")
    path = Path(folder, name) if folder else None
    if path is None or not os.access(path, os.R_OK):
        raise BadInput(f"credential {shown(name)} is not on this device; {fix}")
    line = read_secret(path, use="a file with one line that the service's user can read")
    if not line:
        raise BadInput(f"credential {shown(name)} is empty; {fix}")
    return line


def login(camera: CameraUse) -> tuple[str, str | None]:
    """Return the source and password to connect with.

    Args:
        camera: The camera.

    Returns:
        The source, which may contain secrets, and the password; None without a separate one.

    Raises:
        BadInput: A credential or the password file cannot be read, or is empty.
    """
    from edgevid.runner.config import read_password

    if camera.credential is None:
        return camera.source, read_password(camera)
    try:
        line = read_credential(camera.credential)
    except BadInput as error:
        raise BadInput(f"camera {shown(camera.name)}: {error}") from None
    if "://" in line:
        return line, read_password(camera)
    return camera.source, line


def filled(options: Any) -> Any:
    """Return a sink's options with each ``credential:NAME`` replaced by the secret.

    Raises:
        BadInput: A credential cannot be read, or is empty.
    """
    if not is_dataclass(options) or isinstance(options, type):
        return options
    named = {field.name: getattr(options, field.name) for field in fields(options)}
    found = {
        name: read_credential(value.removeprefix(PREFIX))
        for name, value in named.items()
        if isinstance(value, str) and value.startswith(PREFIX)
    }
    return replace(options, **found) if found else options
