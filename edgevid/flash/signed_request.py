"""A request to the agent that carries a package's manifest and its signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevid.flash.keys import SigningKey, own_key
from edgevid.flash.package import Package


def sign(
    package: Package,
    key: SigningKey | None = None,
    *,
    allow_downgrade: bool = False,
    pin: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Sign a package.

    Args:
        package: The package.
        key: The key that signs; None: the one that edgevid made for this user.
        allow_downgrade: Whether the device may replace a newer release.
        pin: The change to another key, signed by the one that the device trusts so far.

    Returns:
        The fields of the agent's requests ``check`` and ``stage``.

    Raises:
        BadInput: The key cannot be used.
    """
    signer = key if key is not None else own_key()[0]
    fields: dict[str, Any] = {
        "manifest": package.manifest.decode(),
        "signature": signer.sign(package.manifest).decode(),
        "key": signer.public,
        "allow_downgrade": allow_downgrade,
    }
    return fields if pin is None else fields | {"pin": dict(pin)}
