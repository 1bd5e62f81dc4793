"""A person's words carried out on one device of the inventory: flash, go back, forget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgevid import targets
from edgevid.errors import BadInput
from edgevid.flash import archive, client, fleet, plan
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.client import Health, Installed
from edgevid.flash.device_facts import DeviceFacts
from edgevid.flash.inventory import DeviceEntry
from edgevid.flash.keys import SigningKey
from edgevid.flash.package import build
from edgevid.flash.plan import DeployRequest
from edgevid.progress import Progress, silent
from edgevid.remote import Remote
from edgevid.targets import Target

Log = Callable[[str], None]


@dataclass(frozen=True)
class DeployOptions:
    """How it is to be done, whatever it is."""

    key: SigningKey | None = None
    pin: Mapping[str, str] | None = None
    health: Health = field(default_factory=Health)
    trust_new: bool = False
    allow_downgrade: bool = False
    stage: bool = False
    dry_run: bool = False
    limit_kbit: float | None = None
    root: str | None = None
    progress: Progress = silent
    say: Log = lambda _: None


@contextmanager
def reached(entry: DeviceEntry, options: DeployOptions) -> Iterator[AgentClient]:
    """Give a session with the device, which ends however this ends."""
    remote = Remote(entry.address, trust_new=options.trust_new)
    with remote, AgentClient(remote, options.root or entry.root) as device:
        device.name = entry.name
        yield device


def flash(entry: DeviceEntry, request: DeployRequest, options: DeployOptions) -> dict[str, Any]:
    """Bring what is ordered to the device; with ``dry_run`` only say what would change.

    Raises what `edgevid.flash.client.flash` does.
    """
    request = replace(request, kind=request.kind or entry.target)
    with reached(entry, options) as device:
        signed: dict[str, Any] = {"allow_downgrade": options.allow_downgrade, "pin": options.pin}
        planned = plan.make(
            device,
            request,
            key=options.key,
            signed=signed if options.dry_run else None,
            progress=options.progress,
            say=options.say,
        )
        if options.dry_run:
            return {"outcome": "planned", **planned.document(), "text": planned.text()}
        plan.stop(entry.name, [lack for lack in planned.lacks if lack.blocks], options.say)
        if what := plan.changes_text(planned.site):
            options.say(f"{entry.name}: {what}")
        result = client.flash(
            device,
            planned.package,
            key=options.key,
            activate=not options.stage,
            health=options.health,
            allow_downgrade=options.allow_downgrade,
            pin=options.pin,
            installed=planned.installed,
            limit_kbit=options.limit_kbit,
            progress=options.progress,
            say=options.say,
        )
        bundles = planned.document()["bundles"]
    return noted(entry, {**result, "target": planned.target.name, "bundles": bundles})


def activate(entry: DeviceEntry, options: DeployOptions) -> dict[str, Any]:
    """Let the release that was staged serve."""
    with reached(entry, options) as device:
        return noted(entry, client.activate(device, None, options.health, options.say))


def rollback(entry: DeviceEntry, options: DeployOptions) -> dict[str, Any]:
    """Let the release before serve again."""
    with reached(entry, options) as device:
        return noted(entry, client.rollback(device, options.health, options.say))


def uninstall(entry: DeviceEntry, options: DeployOptions) -> dict[str, Any]:
    """Remove all of edgevid from the device."""
    with reached(entry, options) as device:
        removed = client.uninstall(device)
    fleet.forget(entry)
    return {"outcome": "uninstalled", **removed}


def noted(entry: DeviceEntry, result: dict[str, Any]) -> dict[str, Any]:
    """Keep what serves now, so that drift is seen."""
    if result["outcome"] in ("serving", "unchanged"):
        fleet.note(entry, result)
    return result


def write_archive(
    file: Path, request: DeployRequest, options: DeployOptions, python: str | None
) -> dict[str, Any]:
    """Write an installer for a device that is not asked, only known by its kind.

    ``python`` is its version, as in ``3.11``; None: the oldest that the target allows.
    """
    if request.kind is None:
        raise BadInput(
            "say for what kind of device the archive is, with --kind; see: edgevid targets"
        )
    target = targets.load(request.kind)
    facts = assumed(target, python)
    site = plan.site_of(None, request, Installed())
    package = build(
        facts,
        target,
        site.bundles,
        site.text,
        plugins=request.wheels,
        progress=options.progress,
        say=options.say,
    )
    release = archive.write(file, package, options.key, target.title)
    size = file.stat().st_size
    return {"archive": str(file), "release": release, "target": target.name, "bytes": size}


def assumed(target: Target, python: str | None) -> DeviceFacts:
    """What a device of this kind is at least; its agent checks whether that is so."""
    version = python or target.python[0]
    if version not in target.python:
        raise BadInput(f"{target.name} has Python {', '.join(target.python)}, not {version}")
    if target.architecture == "any":
        raise BadInput(f"{target.name} is any machine; name a kind with an architecture")
    modules: Mapping[str, str] = {one.module: one.least for one in target.distribution}
    return DeviceFacts(
        architecture=target.architecture,
        glibc=target.glibc or "2.17",
        python=tuple(int(part) for part in version.split(".")),
        modules=modules,
        ssh_keygen=True,
    )
