"""What a key signs: one short text, made and read by both ends, with one namespace per purpose.

A signature for one purpose is invalid for another one, because ``ssh-keygen`` signs and verifies
the namespace too. This module is also imported on the host.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import NamedTuple

RELEASE = "edgevid-release"
"""Purpose: a release, by its manifest, may be installed."""
REQUEST = "edgevid-request"
"""Purpose: one request of one session is carried out."""
KEY = "edgevid-key"
"""Purpose: another key, by its line, is trusted from now on."""
ARCHIVE = "edgevid-archive"
"""Purpose: a file that is carried to a device may be run there; ``ssh-keygen`` checks it."""
PURPOSES = (RELEASE, REQUEST, KEY)
IDENTITY = "edgevid"
"""The signer's name in the file of allowed signers."""
ANY = "any"
"""In place of a device's ID: any device."""
RESET_FLOOR = "reset-floor"
"""Permission: the release's serial becomes the device's floor, however far away that is."""
_DEVICE = re.compile(r"any|[0-9a-f]{32}")
_NONCE = re.compile(r"[0-9a-f]{32}(-[0-9]{1,9})?|")


class Statement(NamedTuple):
    """What is signed.

    Attributes:
        sha256: The hash of the manifest, the request or the key's line.
        device: The id of the device that it is for, or ``any``.
        permits: What it permits beyond its purpose.
        nonce: Makes it valid only once; empty if it may be reused.
    """

    sha256: str
    device: str = ANY
    permits: tuple[str, ...] = ()
    nonce: str = ""

    def text(self) -> str:
        """The text that is signed."""
        return json.dumps(dict(self._asdict(), permits=list(self.permits)), sort_keys=True)


def of(content: bytes, device: str = ANY, permits: tuple[str, ...] = (), nonce: str = "") -> str:
    """Make a statement about ``content``; returns the text that is to be signed."""
    return Statement(hashlib.sha256(content).hexdigest(), device, permits, nonce).text()


def read(text: str) -> Statement:
    """Parse a statement.

    Args:
        text: The text that was signed.

    Returns:
        The statement.

    Raises:
        ValueError: It is not byte for byte what `Statement.text` writes.
    """
    data = json.loads(text)
    if not isinstance(data, dict) or not all(isinstance(data.get(n), str) for n in _TEXTS):
        raise ValueError("a field is missing")
    permits = data.get("permits")
    if permits not in ([], [RESET_FLOOR]):
        raise ValueError("it has an unknown permission")
    found = Statement(data["sha256"], data["device"], tuple(permits), data["nonce"])
    if not _DEVICE.fullmatch(found.device) or not _NONCE.fullmatch(found.nonce):
        raise ValueError("it has an invalid device or nonce")
    if found.text() != text:
        raise ValueError("it is not canonical")
    return found


_TEXTS = ("sha256", "device", "nonce")
