"""The commands of ``edgevid flash`` on one device: deploy, activate, roll back, uninstall.

The device decides by itself whether a release is kept; the host sends, watches and reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from edgevid.files import sha256_of
from edgevid.flash import fleet, plan
from edgevid.flash.activation import activate as start_and_watch
from edgevid.flash.activation import checked, reporter
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.blob_transfer import missing_blobs, send
from edgevid.flash.installed import Installed, look
from edgevid.flash.inventory import DeviceEntry
from edgevid.flash.package import Package
from edgevid.flash.replies import (
    ACTIVATE,
    CHECK,
    CREDENTIAL,
    REVOKE,
    ROLLBACK,
    SESSION,
    STAGE,
    UNINSTALL,
    unreadable,
)
from edgevid.flash.request import DeployOptions, DeployRequest
from edgevid.remote import Remote

__all__ = ["activate", "deploy", "flash", "perform", "revoke", "rollback", "uninstall"]


def deploy(entry: DeviceEntry, request: DeployRequest, options: DeployOptions) -> dict[str, Any]:
    """Bring what is requested to a device of the inventory.

    Args:
        entry: The device.
        request: What it is to serve.
        options: How; with ``dry_run``, only find out what would change.

    Returns:
        As `flash`, with ``target`` and ``bundles``; for a dry run, the plan.

    Raises:
        BadInput: The request cannot be met by this device.
        DeviceFailed: The device cannot be reached, or refuses the release.
        RolledBack: The release is not healthy there.
    """
    request = replace(request, kind=request.kind or entry.target)
    with _connected(entry, options) as device:
        planned = plan.make(device, request, options)
        if options.dry_run:
            return {"outcome": "planned", **planned.document(), "text": planned.text()}
        plan.stop(entry.name, [lack for lack in planned.lacks if lack.blocks], options.log)
        if changes := plan.changes_text(planned.service):
            options.log(f"{entry.name}: {changes}")
        result = flash(
            device, planned.package, options, planned.installed, planned.service.credentials
        )
    bundles = planned.document()["bundles"]
    return _recorded(entry, {**result, "target": planned.target.name, "bundles": bundles})


def perform(
    entry: DeviceEntry,
    command: Callable[[AgentClient, DeployOptions], dict[str, Any]],
    options: DeployOptions,
) -> dict[str, Any]:
    """Carry out `activate`, `rollback` or `uninstall` on a device of the inventory.

    Raises:
        DeviceFailed: The device cannot be reached, or refuses.
        RolledBack: The release is not healthy there.
    """
    with _connected(entry, options) as device:
        return _recorded(entry, command(device, options))


@contextmanager
def _connected(entry: DeviceEntry, options: DeployOptions) -> Iterator[AgentClient]:
    """Yield a session with the device, which ends in any case."""
    remote = Remote(entry.address, trust_new=options.trust_new)
    root = options.root or entry.root
    with remote, AgentClient(remote, root, key=options.signer, pin=options.pin) as device:
        device.name = entry.name
        yield device


def _recorded(entry: DeviceEntry, result: dict[str, Any]) -> dict[str, Any]:
    """Record what serves now, so that drift is noticed."""
    if result["outcome"] in ("serving", "unchanged"):
        fleet.note(entry, result)
    elif result["outcome"] == "uninstalled":
        fleet.forget(entry)
    return result


# ---------------------------------------------------------------- on a connected device


def flash(
    device: AgentClient,
    package: Package,
    options: DeployOptions,
    installed: Installed | None = None,
    credentials: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Bring a package to a device and activate it, unless ``options.stage``.

    Args:
        device: The device.
        package: The package.
        options: How.
        installed: What is on the device already; None: look.
        credentials: Secrets that the configuration names; they are sent beside the release.

    Returns:
        ``outcome`` (``serving``, ``unchanged`` or ``staged``), ``release``, ``replaced``,
        ``restarted``, ``sent_bytes``, ``wire_bytes``, ``seconds``, and what `activation.activate`
        gives.

    Raises:
        BadInput: The device refuses the package; it serves what it served before.
        DeviceFailed: The link or the device fails; it serves what it served before.
        RolledBack: The release is not healthy there; it serves what it served before.
    """
    began, wire = time.monotonic(), device.wire_bytes
    before = installed if installed is not None else look(device)[1]
    result: dict[str, Any] = {"device": device.name, "replaced": before.current, "sent_bytes": 0}
    if before.serves(package.manifest):
        result |= {"release": before.current, "outcome": "unchanged", "restarted": False}
    else:
        result |= _stage(device, package, options, before.id)
    _send_credentials(device, credentials or {})
    if not options.stage:
        result |= _activate(device, result["release"], options)
    took = {"seconds": round(time.monotonic() - began, 3), "wire_bytes": device.wire_bytes - wire}
    return checked(result | took)


def _stage(
    device: AgentClient, package: Package, options: DeployOptions, name: str
) -> dict[str, Any]:
    """Check, send and stage a package, signed for the id ``name``; what serves is not touched."""
    signed = options.sign(package, name)
    for note in device.call(CHECK, signed).notes:
        options.log(f"{device.name}: {note}")
    device.call(SESSION)
    missing = missing_blobs(device, package.sizes())
    began = time.monotonic()
    sent = send(
        device,
        package.blobs,
        missing,
        limit_kbit=options.limit_kbit,
        progress=options.progress,
    )
    send_s = round(time.monotonic() - began, 3)
    staged = device.call(STAGE, signed, notice=reporter(device, options.log))
    if staged.release != package.release:
        unreadable(device.name, f"it staged {staged.release}, not {package.release}")
    outcome = {"outcome": "staged", "restarted": False, "sent_bytes": sent, "send_s": send_s}
    return {"release": package.release, **outcome}


def _send_credentials(device: AgentClient, credentials: Mapping[str, str]) -> None:
    """Send secrets; those that are new to the device make the activation restart the service."""
    if credentials:
        device.call(SESSION)
    for name, secret in credentials.items():
        content = secret.encode()
        about = {"name": name, "sha256": sha256_of(content), "bytes": len(content)}
        device.post(CREDENTIAL, about, content)
        device.reply(CREDENTIAL)


def _activate(device: AgentClient, release: str | None, options: DeployOptions) -> dict[str, Any]:
    return start_and_watch(device, ACTIVATE, {"id": release}, options.health, options.log)


def activate(device: AgentClient, options: DeployOptions) -> dict[str, Any]:
    """Activate the release that was staged last.

    Raises:
        BadInput: Nothing is staged.
        RolledBack: The release is not healthy there.
    """
    began = time.monotonic()
    device.call(SESSION)
    result = {"device": device.name} | _activate(device, None, options)
    return checked(result | {"seconds": round(time.monotonic() - began, 3)})


def rollback(device: AgentClient, options: DeployOptions) -> dict[str, Any]:
    """Activate the release that served before the present one.

    Raises:
        BadInput: There is none.
        RolledBack: The release is not healthy there.
    """
    began = time.monotonic()
    device.call(SESSION)
    done = start_and_watch(device, ROLLBACK, {}, options.health, options.log)
    result = {"device": device.name} | done
    return checked(result | {"seconds": round(time.monotonic() - began, 3)})


def revoke(device: AgentClient, options: DeployOptions, what: str) -> dict[str, Any]:
    """Revoke a release (by its ID) or a key (by its fingerprint) on a device.

    Raises:
        BadInput: It is in use there, or is neither a release nor a key.
    """
    reply = device.call(REVOKE, {"what": what})
    return {"outcome": "revoked", "device": device.name, "revoked": list(reply.revoked)}


def uninstall(device: AgentClient, options: DeployOptions | None = None) -> dict[str, Any]:
    """Remove everything that edgevid has put on the device."""
    reply = device.call(UNINSTALL)
    found = {"outcome": "uninstalled", "device": device.name, "removed": list(reply.removed)}
    return found | {"left": list(reply.left), "others": list(reply.others)}
