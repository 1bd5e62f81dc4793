"""Who may deploy to this device: the pinned key, checked with ``ssh-keygen``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from .transport import SAME_EDGEVID, Refused

SPACE = "edgevid"
PIN = b"edgevid pin\n"
"""The prefix of a key that is to be pinned; no manifest begins with it."""
NAME = "edgevid"
TEMPORARY = ("/run", "/dev/shm", "/tmp", "/var/tmp")
_KEY = re.compile(r"(?P<kind>[a-z0-9@.-]+) (?P<body>[A-Za-z0-9+/]+={0,2})( [^\n\r]*)?")
_NEW = "make the package again, on a machine that has the right key"


def public_key(line: str) -> str:
    """Parse the line of a public key.

    Args:
        line: The line.

    Returns:
        ``kind body``, without the comment.

    Raises:
        Refused: It is no public key.
    """
    found = _KEY.fullmatch(line.strip())
    try:
        if found is None or not base64.b64decode(found.group("body"), validate=True):
            raise ValueError
    except (ValueError, binascii.Error):
        raise Refused(
            "key", "the key is not a public key", "give the .pub file of ssh-keygen"
        ) from None
    return "{} {}".format(found.group("kind"), found.group("body"))


def fingerprint(key: str) -> str:
    """What ``ssh-keygen -l`` shows of a key."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:{}".format(base64.b64encode(digest).decode().rstrip("="))


def signers(key: str) -> bytes:
    """The file of allowed signers with this one key."""
    return f'{NAME} namespaces="{SPACE}" {key}\n'.encode()


def pinned(path: Path) -> str | None:
    """The key that the device trusts; None if there is none yet."""
    try:
        content = path.read_text()
    except FileNotFoundError:
        return None
    return public_key(" ".join(content.split()[2:4]))


def accepted_key(text: bytes, signature: str, before: str | None, request: dict[str, Any]) -> str:
    """Check a signature; returns the key to be pinned from now on.

    Args:
        text: The manifest.
        signature: Its signature.
        before: The key that is pinned. If there is none, the request's ``key`` counts; its ``pin``
            counts if the pinned key has signed it.
        request: The request.

    Raises:
        Refused: The manifest is not to be trusted.
    """
    given = request.get("key")
    key = public_key(str(given)) if given else None
    pin = request.get("pin")
    if before is None:
        if key is None:
            raise Refused("key", "the device trusts no key yet", "send the public key along")
        trusted = key
    elif pin:
        trusted = _next(before, pin)
    else:
        trusted = before
    if verify(text, signature, trusted):
        return trusted
    if key is not None and key != trusted and verify(text, signature, key):
        raise Refused(
            "key",
            f"it is signed by another key ({fingerprint(key)}) than the one that this device "
            f"trusts ({fingerprint(trusted)})",
            "sign with that key; or pin the new key, signed by the old one (--old-key); or "
            "uninstall on the device first",
        )
    raise Refused("signature", "the signature does not match the manifest", _NEW)


def _next(before: str, pin: Any) -> str:
    if not isinstance(pin, dict) or not isinstance(pin.get("key"), str):
        raise Refused("protocol", "pin cannot be read", SAME_EDGEVID)
    line = pin["key"]
    if not verify(PIN + line.encode(), str(pin.get("signature") or ""), before):
        raise Refused(
            "key",
            f"the new key is not signed by the one that this device trusts ({fingerprint(before)})",
            "sign it with that one",
        )
    return public_key(line)


def verify(text: bytes, signature: str, key: str) -> bool:
    """Check a signature; nothing stays on the disk.

    Args:
        text: The text.
        signature: Its signature.
        key: The public key.

    Returns:
        Whether the key has signed the text.

    Raises:
        Refused: ssh-keygen is missing or too old.
    """
    program = shutil.which("ssh-keygen")
    if program is None:
        raise Refused("tools", "ssh-keygen is missing", "apt-get install openssh-client")
    with tempfile.TemporaryDirectory(prefix="edgevid-", dir=_temporary()) as name:
        folder = Path(name)
        (folder / "signers").write_bytes(signers(key))
        (folder / "signature").write_text(signature)
        command = [program, "-Y", "verify", "-I", NAME, "-n", SPACE]
        command += ["-f", str(folder / "signers"), "-s", str(folder / "signature")]
        done = subprocess.run(
            command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
        )
    if b"unknown option" in done.stdout or b"illegal option" in done.stdout:
        raise Refused("tools", "its ssh-keygen is too old", "it needs OpenSSH 8.1 or newer")
    return done.returncode == 0


def _temporary() -> str | None:
    for name in TEMPORARY:
        if os.path.isdir(name) and os.access(name, os.W_OK):
            return name
    return None
