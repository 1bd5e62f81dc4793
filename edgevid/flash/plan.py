"""What a flash would change on one device, and what stands in its way; nothing is written there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevid import targets
from edgevid.errors import BadInput, DeviceFailed, EdgevidError
from edgevid.flash import site as sites
from edgevid.flash.client import Installed, fetch, look, package_sizes, read_back, sign
from edgevid.flash.conversation import Device
from edgevid.flash.keys import SigningKey
from edgevid.flash.package import Package, build, same_release
from edgevid.flash.probe import Facts, Lack, lacks, propose
from edgevid.flash.site import Site
from edgevid.progress import Progress, silent
from edgevid.targets import Target

_MARGIN_MB = 16
Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What a person asks to be served; ``kind`` is a target's name, None: found by looking."""

    bundles: tuple[Path, ...] = ()
    sources: tuple[str, ...] = ()
    config: Path | None = None
    add: bool = False
    replace: bool = False
    kind: str | None = None


@dataclass(frozen=True)
class Plan:
    """What would be done; ``missing`` maps each blob that is to be sent to how much is there."""

    device: str
    facts: Facts
    installed: Installed
    target: Target
    site: Site
    package: Package
    missing: Mapping[str, int]
    lacks: tuple[Lack, ...]

    @property
    def release(self) -> str:
        """The release that would serve."""
        return str(self.installed.current) if self.unchanged else self.package.release

    @property
    def unchanged(self) -> bool:
        """Whether the device serves the very same already."""
        before = self.installed.manifest
        return before is not None and same_release(before, self.package.manifest)

    @property
    def send_bytes(self) -> int:
        """How much would be sent."""
        if self.unchanged:
            return 0
        sizes = package_sizes(self.package)
        return sum(sizes[sha256] - there for sha256, there in self.missing.items())

    @property
    def new_runner(self) -> bool:
        """Whether the runner is another one than that which serves."""
        return _runner(self.installed.manifest) != _runner(self.package.manifest)

    def document(self) -> dict[str, Any]:
        """Give it for machines."""
        return {
            "device": self.device,
            "target": self.target.name,
            "release": self.release,
            "replaces": self.installed.current,
            "unchanged": self.unchanged,
            "send_bytes": self.send_bytes,
            "send_files": 0 if self.unchanged else len(self.missing),
            "new_runner": self.new_runner,
            "restart": not self.unchanged,
            "bundles": {
                name: list(getattr(self.site, name))
                for name in ("added", "replaced", "kept", "removed")
            },
            "lacks": [vars(lack) for lack in self.lacks],
            "fits": not any(lack.blocks for lack in self.lacks),
        }

    def text(self) -> str:
        """Give it for people."""
        facts, site = self.facts, self.site
        python = ".".join(map(str, facts.python))
        board = facts.model or facts.system or "a device"
        lines = [
            f"{self.device}: {board}, {facts.architecture}, Python {python}, as {self.target.name}",
            f"  serves now   {self.installed.current or 'nothing'}",
            f"  would serve  {self.release}{' (the same)' if self.unchanged else ''}",
        ]
        for what, names in _changes(site):
            lines.append(f"  {what:<12} {', '.join(names)}")
        if not self.unchanged:
            count, much = len(self.missing), self.send_bytes / 1e6
            lines.append(f"  sends        {count} files, {much:.1f} MB")
            lines.append(f"  runner       {'another one' if self.new_runner else 'stays'}")
        lines.append(f"  restart      {'no' if self.unchanged else 'yes'}")
        lines += [f"  {'FAILS' if lack.blocks else 'note':<12} {lack}" for lack in self.lacks]
        return "\n".join(lines)


def _changes(site: Site) -> Iterator[tuple[str, tuple[str, ...]]]:
    for what, names in (
        ("adds", site.added),
        ("replaces", site.replaced),
        ("keeps", site.kept),
        ("removes", site.removed),
    ):
        if names:
            yield what, names


def changes_text(site: Site) -> str:
    """Say in a few words what becomes of the bundles."""
    return "; ".join(f"{what} {', '.join(names)}" for what, names in _changes(site))


def make(
    device: Device,
    order: Order,
    *,
    key: SigningKey | None = None,
    papers: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    say: Say = lambda _: None,
) -> Plan:
    """Look at the device, make its package, and see what would change; writes nothing there.

    With ``papers`` (more words for the agent's ``check``) what the device itself would refuse is
    among the lacks too. Raises `BadInput` where the order cannot be, `DeviceFailed` where the
    device can never take it.
    """
    facts, installed = look(device)
    target = choose(device.name, order.kind, facts, say)
    found = list(lacks(facts, target))
    stop(device.name, [lack for lack in found if lack.blocks], say)
    site = site_of(device, order, installed)
    kept = [_kept(device, installed, name, progress) for name in site.kept]
    package = build(facts, target, [*site.bundles, *kept], site.text, progress=progress, say=say)
    answer = device.call({"do": "missing", "blobs": package_sizes(package)})
    plan = Plan(
        device.name, facts, installed, target, site, package, answer["missing"], tuple(found)
    )
    if plan.unchanged:
        return plan
    found += _room(plan)
    if papers is not None:
        found += _refusals(device, package, key, papers)
    return Plan(**{**vars(plan), "lacks": tuple(found)})


def stop(name: str, blocking: list[Lack], say: Say) -> None:
    """Raise `DeviceFailed` where something stands in the way; each such point is told."""
    if not blocking:
        return
    for lack in blocking[1:]:
        say(f"{name}: {lack}")
    more = f" (and {len(blocking) - 1} more, above)" if blocking[1:] else ""
    raise DeviceFailed(f"{name}: {blocking[0]}{more}", "unfit")


def choose(name: str, kind: str | None, facts: Facts, say: Say) -> Target:
    """Give the target called ``kind``, or the one that fits the device best."""
    if kind is not None:
        return targets.load(kind)
    proposals = propose(facts)
    if not proposals:
        raise BadInput(
            f"{name}: no target is for {facts.architecture}; describe one, and give it with --kind"
        )
    target = proposals[0].target
    say(f"{name}: taken as {target.name} ({target.title}); --kind says otherwise")
    return target


def site_of(device: Device | None, order: Order, installed: Installed) -> Site:
    """Make the configuration that the order means on this device."""
    if order.config is not None:
        if order.bundles or order.sources or order.add or order.replace:
            raise BadInput(
                f"bundles, --source, --add and --replace stand beside --config; "
                f"{order.config} says it all"
            )
        return sites.from_config(order.config)
    before = None
    if device is not None and installed.manifest is not None:
        held = json.loads(installed.manifest)["site"]
        before = fetch(device, held["sha256"], held["size"], lambda _: None)
    return sites.from_words(
        order.bundles, order.sources, before, add=order.add, replace=order.replace
    )


def _kept(device: Device, installed: Installed, name: str, progress: Progress) -> Path:
    """The file of a bundle that is served on; fetched, since the package names its content."""
    assert installed.manifest is not None
    for one in json.loads(installed.manifest)["bundles"]:
        if one["name"] == name:
            return read_back(device, name, one["sha256"], one["size"], progress)
    raise DeviceFailed(f"{device.name}: {name} is not in its release; flash with --replace")


def _room(plan: Plan) -> Iterator[Lack]:
    unpacked = json.loads(plan.package.manifest)["runner"].get("unpacked_bytes", 0)
    need = plan.send_bytes + (unpacked if plan.new_runner else 0)
    need_mb = 2 * need / (1 << 20) + _MARGIN_MB
    if plan.facts.disk_free_mb < need_mb:
        yield Lack(
            f"{plan.facts.root} has {plan.facts.disk_free_mb} MB free, {need_mb:.0f} are needed",
            "make room there, or give --root on a larger disk",
        )


def _refusals(
    device: Device, package: Package, key: SigningKey | None, papers: Mapping[str, Any]
) -> Iterator[Lack]:
    try:
        request = {"do": "check", **sign(package, key), **papers}
        for note in device.call(request).get("notes", ()):
            yield Lack(str(note), "", blocks=False)
    except EdgevidError as error:
        yield Lack(str(error).removeprefix(f"{device.name}: "), "")


def _runner(manifest: bytes | None) -> str | None:
    return None if manifest is None else str(json.loads(manifest)["runner"]["id"])
