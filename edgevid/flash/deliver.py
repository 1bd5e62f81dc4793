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
from edgevid.flash.client import Health, Installed
from edgevid.flash.conversation import Device
from edgevid.flash.inventory import DeviceEntry
from edgevid.flash.keys import SigningKey
from edgevid.flash.package import build
from edgevid.flash.plan import Order
from edgevid.flash.probe import Facts
from edgevid.progress import Progress, silent
from edgevid.remote import Remote
from edgevid.targets import Target

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
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
    say: Say = lambda _: None


@contextmanager
def reached(entry: DeviceEntry, wish: Wish) -> Iterator[Device]:
    """Give a session with the device, which ends however this ends."""
    remote = Remote(entry.address, trust_new=wish.trust_new)
    with remote, Device(remote, wish.root or entry.root) as device:
        device.name = entry.name
        yield device


def flash(entry: DeviceEntry, order: Order, wish: Wish) -> dict[str, Any]:
    """Bring what is ordered to the device; with ``dry_run`` only say what would change.

    Raises what `edgevid.flash.client.flash` does.
    """
    order = replace(order, kind=order.kind or entry.target)
    with reached(entry, wish) as device:
        papers: dict[str, Any] = {"allow_downgrade": wish.allow_downgrade, "pin": wish.pin}
        planned = plan.make(
            device,
            order,
            key=wish.key,
            papers=papers if wish.dry_run else None,
            progress=wish.progress,
            say=wish.say,
        )
        if wish.dry_run:
            return {"outcome": "planned", **planned.document(), "text": planned.text()}
        plan.stop(entry.name, [lack for lack in planned.lacks if lack.blocks], wish.say)
        if what := plan.changes_text(planned.site):
            wish.say(f"{entry.name}: {what}")
        result = client.flash(
            device,
            planned.package,
            key=wish.key,
            activate=not wish.stage,
            health=wish.health,
            allow_downgrade=wish.allow_downgrade,
            pin=wish.pin,
            installed=planned.installed,
            limit_kbit=wish.limit_kbit,
            progress=wish.progress,
            say=wish.say,
        )
        bundles = planned.document()["bundles"]
    return noted(entry, {**result, "target": planned.target.name, "bundles": bundles})


def activate(entry: DeviceEntry, wish: Wish) -> dict[str, Any]:
    """Let the release that was staged serve."""
    with reached(entry, wish) as device:
        return noted(entry, client.activate(device, None, wish.health, wish.say))


def rollback(entry: DeviceEntry, wish: Wish) -> dict[str, Any]:
    """Let the release before serve again."""
    with reached(entry, wish) as device:
        return noted(entry, client.rollback(device, wish.health, wish.say))


def uninstall(entry: DeviceEntry, wish: Wish) -> dict[str, Any]:
    """Remove all of edgevid from the device."""
    with reached(entry, wish) as device:
        removed = client.uninstall(device)
    fleet.forget(entry)
    return {"outcome": "uninstalled", **removed}


def noted(entry: DeviceEntry, result: dict[str, Any]) -> dict[str, Any]:
    """Keep what serves now, so that drift is seen."""
    if result["outcome"] in ("serving", "unchanged"):
        fleet.note(entry, result)
    return result


def write_archive(file: Path, order: Order, wish: Wish, python: str | None) -> dict[str, Any]:
    """Write an installer for a device that is not asked, only known by its kind.

    ``python`` is its version, as in ``3.11``; None: the oldest that the target allows.
    """
    if order.kind is None:
        raise BadInput(
            "say for what kind of device the archive is, with --kind; see: edgevid targets"
        )
    target = targets.load(order.kind)
    facts = assumed(target, python)
    site = plan.site_of(None, order, Installed())
    package = build(facts, target, site.bundles, site.text, progress=wish.progress, say=wish.say)
    release = archive.write(file, package, wish.key, target.title)
    size = file.stat().st_size
    return {"archive": str(file), "release": release, "target": target.name, "bytes": size}


def assumed(target: Target, python: str | None) -> Facts:
    """What a device of this kind is at least; its agent checks whether that is so."""
    version = python or target.python[0]
    if version not in target.python:
        raise BadInput(f"{target.name} has Python {', '.join(target.python)}, not {version}")
    if target.architecture == "any":
        raise BadInput(f"{target.name} is any machine; name a kind with an architecture")
    modules: Mapping[str, str] = {one.module: one.least for one in target.distribution}
    return Facts(
        architecture=target.architecture,
        glibc=target.glibc or "2.17",
        python=tuple(int(part) for part in version.split(".")),
        modules=modules,
        ssh_keygen=True,
    )
