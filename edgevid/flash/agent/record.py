"""What this device has accepted and revoked: ``trusted/record.json``.

It is written whole and durably, before a release counts as staged, so that a power cut loses
nothing that was accepted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from . import disk
from .transport import Refused

STEP = 366 * 24 * 3600
"""The largest step of serials, which are seconds since 1970: one year after the last release. A
device may have no clock to compare with, and a release from the far future would shut out all
later ones."""
_OLD = "remove it with: edgevid flash --uninstall; then flash again"


class TrustRecord(NamedTuple):
    """The record.

    Attributes:
        device: The id of this device, made at the first installation.
        floor: The serial below which no release is accepted; None before the first release.
        target: The target of the last release.
        used: The nonces of the permissions that were used.
        revoked: Releases (by ID) and keys (by fingerprint) that are no longer accepted.
        accepted: The key by which each release on this device was accepted.
    """

    device: str
    floor: int | None = None
    target: str = ""
    used: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    accepted: dict[str, str] = {}  # noqa: RUF012 - never changed in place

    def write(self, path: Path) -> None:
        """Replace the file, durably."""
        text = json.dumps(self._asdict(), indent=2, sort_keys=True)
        disk.write_whole(path, text.encode() + b"\n")


def read(path: Path) -> TrustRecord | None:
    """Read the record; None if there is none.

    Raises:
        Refused: It is damaged, or not of this version.
    """
    try:
        data = json.loads(path.read_text())
        used, revoked = tuple(data.pop("used")), tuple(data.pop("revoked"))
        return TrustRecord(used=used, revoked=revoked, **data)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Refused("damaged", f"{path} cannot be read", _OLD) from None


def known(path: Path, signers: Path) -> TrustRecord | None:
    """As `read`; refuses an installation that trusts a key, but has no record.

    Raises:
        Refused: An older version of edgevid made the installation.
    """
    record = read(path)
    if record is None and signers.exists():
        raise Refused("damaged", "an older version of edgevid is installed on this device", _OLD)
    return record
