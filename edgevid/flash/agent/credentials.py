"""Secrets of the service: files owned by root, outside the releases, which name them.

systemd passes them to the unit (``LoadCredential=``), so the service's user cannot read the files;
without systemd they belong to that user, in a folder owned by root.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import disk, fields
from .manifest import Manifest
from .store import Store
from .transport import Refused

LIMIT = 1 << 16
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
# As edgevid.flash.service_config writes it: a key of its own line, or a text "credential:NAME".
_USED = re.compile(
    r'^credential = "([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})"$|"credential:([A-Za-z0-9_][\w.-]{0,63})"',
    re.MULTILINE | re.ASCII,
)
_CHANGED = ".changed"


def receive(store: Store, request: dict[str, Any], parts: Iterable[bytes]) -> dict[str, Any]:
    """Receive and store a credential.

    Args:
        store: The device's folder.
        request: Contains the name, and the hash of the content.
        parts: The content.

    Raises:
        Refused: The name or the content cannot be used.
    """
    content = b""
    for part in parts:
        content += part
        if len(content) > LIMIT:
            break
    if hashlib.sha256(content).hexdigest() != fields.sha256(request.get("sha256")):
        raise Refused("hash", "a credential arrived damaged", "send it again")
    return {"changed": keep(store, request.get("name"), content)}


def keep(store: Store, name: Any, content: bytes) -> bool:
    """Store a credential; returns whether it differs from the stored one.

    Raises:
        Refused: The name is invalid, or the content is empty or too long.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refused("protocol", "a credential has no usable name", "use the same edgevid")
    if not 0 < len(content) <= LIMIT:
        raise Refused("protocol", f"the credential {name} is empty or too long", "make it shorter")
    path = store.credentials / name
    try:
        if path.read_bytes() == content:
            return False
    except FileNotFoundError:
        store.credentials.mkdir(exist_ok=True)
        # The service's user can open its own files, but cannot list the folder.
        store.credentials.chmod(0o711)
    disk.remove(disk.aside(path))
    disk.write_whole(path, content, 0o600)
    disk.write_whole(store.credentials / _CHANGED, b"", 0o600)
    disk.sync_folder(store.credentials)
    return True


def named(store: Store, release: str) -> list[str]:
    """The credentials that a release uses."""
    try:
        site = (store.release(release) / "site.toml").read_text("utf-8")
    except OSError:
        return []
    return sorted({one or other for one, other in _USED.findall(site)})


def missing(store: Store, manifest: Manifest) -> list[str]:
    """The credentials that a release uses and that are not stored here."""
    names = named(store, manifest.id)
    return [name for name in names if not (store.credentials / name).is_file()]


def check(store: Store, manifest: Manifest) -> None:
    """Check that every credential that a release uses is stored.

    Raises:
        Refused: A credential is missing.
    """
    for name in missing(store, manifest):
        path = store.credentials / name
        raise Refused(
            "use",
            f"the credential {name} is not on this device",
            f"flash it with the camera's URL and password, or write it to {path} (mode 0600)",
        )


def unit_lines(store: Store, manifest: Manifest) -> str:
    """Lines of a unit that pass the release's credentials to the service."""
    there = [name for name in named(store, manifest.id) if (store.credentials / name).is_file()]
    return "".join(f"LoadCredential={name}:{store.credentials / name}\n" for name in there)


def environment(store: Store) -> dict[str, str]:
    """The variable that tells the runner where to find its credentials."""
    own = os.environ.get("CREDENTIALS_DIRECTORY")
    return {"CREDENTIALS_DIRECTORY": own or str(store.credentials)}


def give(store: Store, user: int, group: int) -> None:
    """Give the files to the service's user, where there is no systemd to pass them on."""
    for path in _files(store):
        os.chown(str(path), user, group, follow_symlinks=False)


def changed(store: Store) -> bool:
    """Whether a credential was replaced since the service was started."""
    return (store.credentials / _CHANGED).exists()


def settle(store: Store) -> None:
    """Record that the service is started with the stored credentials."""
    disk.remove(store.credentials / _CHANGED)


def collect(store: Store) -> None:
    """Remove the credentials that no release on this device uses."""
    releases = [folder.name for folder in store.releases.glob("[!.]*")]
    used = {name for release in releases for name in named(store, release)}
    for path in _files(store):
        if path.name not in used:
            disk.remove(path)


def _files(store: Store) -> list[Path]:
    return [path for path in store.credentials.glob("*") if not path.name.startswith(".")]
