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

from . import statement
from .statement import Statement
from .transport import SAME_EDGEVID, Refused

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
    return f'{statement.IDENTITY} namespaces="{",".join(statement.PURPOSES)}" {key}\n'.encode()


def pinned(path: Path) -> str | None:
    """The key that the device trusts; None if there is none yet."""
    try:
        content = path.read_text()
    except FileNotFoundError:
        return None
    return public_key(" ".join(content.split()[2:4]))


def trusted_key(before: str | None, request: dict[str, Any], device: str) -> str:
    """The key that must have signed a request, and that is pinned once it is carried out.

    Args:
        before: The key that is pinned. If there is none, the request's ``key`` counts; its ``pin``
            counts if the pinned key has signed it.
        request: The request.
        device: The id of this device.

    Raises:
        Refused: There is no such key.
    """
    if before is None:
        if not request.get("key"):
            raise Refused("key", "the device trusts no key yet", "send the public key along")
        return public_key(str(request["key"]))
    pin = request.get("pin")
    if not pin:
        return before
    if not isinstance(pin, dict) or not isinstance(pin.get("key"), str):
        raise Refused("protocol", "pin cannot be read", SAME_EDGEVID)
    line = pin["key"]
    if public_key(line) == before:  # it was pinned before the link was lost
        return before
    try:
        checked(statement.KEY, line.encode(), pin, before, device)
    except Refused as fault:
        if fault.kind == "tools":
            raise
        raise Refused(
            "key",
            f"the new key is not signed by the one that this device trusts ({fingerprint(before)})",
            "sign it with that one",
        ) from None
    return public_key(line)


def checked(
    purpose: str, content: bytes, signed: dict[str, Any], key: str, device: str
) -> Statement:
    """Verify a signed statement, and that it is about this content and this device.

    Args:
        purpose: The purpose for which it must have been signed.
        content: What it is about: a manifest, a request or a key's line.
        signed: Contains the ``statement``, its ``signature`` and the signer's ``key``.
        key: The key that must have signed.
        device: The id of this device.

    Returns:
        The statement.

    Raises:
        Refused: The key did not sign exactly this, for this purpose and this device.
    """
    text, signature = signed.get("statement"), signed.get("signature")
    if not isinstance(text, str) or not isinstance(signature, str):
        raise Refused("signature", "it has no signed statement", SAME_EDGEVID)
    if not verify(purpose, text.encode(), signature, key):
        other = public_key(str(signed["key"])) if signed.get("key") else key
        if other != key and verify(purpose, text.encode(), signature, other):
            raise Refused(
                "key",
                f"it is signed by another key ({fingerprint(other)}) than the one that this "
                f"device trusts ({fingerprint(key)})",
                "sign with that key; or pin the new key, signed by the old one (--old-key); or "
                "uninstall on the device first",
            )
        raise Refused("signature", "the signature does not match", _NEW)
    try:
        found = statement.read(text)
    except ValueError as error:
        raise Refused(
            "signature", f"the signed statement is invalid: {error}", SAME_EDGEVID
        ) from None
    if found.sha256 != hashlib.sha256(content).hexdigest():
        raise Refused("signature", "the signature does not match what was sent", _NEW)
    if found.device not in (statement.ANY, device):
        raise Refused(
            "device",
            f"it is signed for the device {found.device[:8]}, this is {device[:8]}",
            "flash this device itself, so that it is signed for it",
        )
    return found


def verify(purpose: str, text: bytes, signature: str, key: str) -> bool:
    """Check a signature; nothing stays on the disk.

    Args:
        purpose: The purpose for which it was made, one of `statement.PURPOSES`.
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
        command = [program, "-Y", "verify", "-I", statement.IDENTITY, "-n", purpose]
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
