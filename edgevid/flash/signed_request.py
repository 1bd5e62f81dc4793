"""What the host signs for the agent: a package, a request of one session, a change of key."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput
from edgevid.flash.agent import statement
from edgevid.flash.keys import SigningKey

if TYPE_CHECKING:
    from edgevid.flash.package import Package


def sign(
    package: Package,
    key: SigningKey,
    *,
    device: str,
    reset_floor: bool = False,
    pin: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Sign a package.

    Args:
        package: The package.
        key: The key that signs.
        device: The id of the device that it is for, or ``any``: every device of its target.
        reset_floor: Permit this device, once, to go below its floor of serials, or far above it.
        pin: The change to another key, signed by the one that the device trusts so far.

    Returns:
        The fields of the agent's requests ``check`` and ``stage``.

    Raises:
        BadInput: The key cannot be used, or the permission is for any device.
    """
    if reset_floor and device == statement.ANY:
        raise BadInput("a downgrade is only permitted for one device; name it with --device")
    permits = (statement.RESET_FLOOR,) if reset_floor else ()
    nonce = os.urandom(16).hex() if reset_floor else ""
    text = statement.of(package.manifest, device, permits, nonce)
    fields = {"manifest": package.manifest.decode(), **_signed(text, key, statement.RELEASE)}
    return fields if pin is None else fields | {"pin": dict(pin)}


def sign_request(
    request: Mapping[str, Any],
    key: SigningKey,
    device: str,
    nonce: str,
    pin: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Sign one request of one session.

    Args:
        request: The request.
        key: The key that signs.
        device: The device's id.
        nonce: The session's nonce, and the number of the request.
        pin: As for `sign`.

    Returns:
        The request ``signed``, which wraps it.

    Raises:
        BadInput: The key cannot be used.
    """
    content = json.dumps(request)
    text = statement.of(content.encode(), device, nonce=nonce)
    fields = {"do": "signed", "request": content, **_signed(text, key, statement.REQUEST)}
    if "bytes" in request:  # the payload follows; the request contains its hash
        fields["bytes"] = request["bytes"]
    return fields if pin is None else fields | {"pin": dict(pin)}


def hand_over(before: SigningKey, to: SigningKey) -> dict[str, str]:
    """Sign the change from one key to another, in the form of a request's ``pin``.

    Raises:
        BadInput: The key ``before`` cannot be used.
    """
    text = statement.of(to.public.encode())
    return {**_signed(text, before, statement.KEY), "key": to.public}


def _signed(text: str, key: SigningKey, purpose: str) -> dict[str, str]:
    signature = key.sign(text.encode(), purpose).decode()
    return {"statement": text, "signature": signature, "key": key.public}
