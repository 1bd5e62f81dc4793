"""What a flash would change on one device, and what stands in its way; nothing is written there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevid import targets
from edgevid.errors import BadInput, DeviceFailed, EdgevidError
from edgevid.flash import service_config
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.client import Installed, fetch, look, package_sizes, read_back, sign
from edgevid.flash.device_facts import (
    DeviceFacts,
    MissingRequirement,
    missing_requirements,
    propose,
)
from edgevid.flash.keys import SigningKey
from edgevid.flash.package import Package, build, same_release
from edgevid.flash.service_config import ServiceConfig
from edgevid.progress import Progress, silent
from edgevid.targets import Target

_MARGIN_MB = 16
Log = Callable[[str], None]


@dataclass(frozen=True)
class DeployRequest:
    """What to serve.

    Attributes:
        bundles: The bundles.
        sources: Where frames come from.
        config: A service configuration in place of sources.
        add: Keep what the device serves already.
        replace: Remove what the device serves already.
        kind: The name of a target; None finds the one that fits.
        wheels: The wheels of the plug-ins of other packages.
    """

    bundles: tuple[Path, ...] = ()
    sources: tuple[str, ...] = ()
    config: Path | None = None
    add: bool = False
    replace: bool = False
    kind: str | None = None
    wheels: tuple[Path, ...] = ()


@dataclass(frozen=True)
class DeployPlan:
    """What would be done; ``missing`` maps each blob that is to be sent to how much is there."""

    device: str
    facts: DeviceFacts
    installed: Installed
    target: Target
    site: ServiceConfig
    package: Package
    missing: Mapping[str, int]
    lacks: tuple[MissingRequirement, ...]

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
            "lacks": [lack.to_json() for lack in self.lacks],
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


def _changes(site: ServiceConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    for what, names in (
        ("adds", site.added),
        ("replaces", site.replaced),
        ("keeps", site.kept),
        ("removes", site.removed),
    ):
        if names:
            yield what, names


def changes_text(site: ServiceConfig) -> str:
    """Say in a few words what becomes of the bundles."""
    return "; ".join(f"{what} {', '.join(names)}" for what, names in _changes(site))


def make(
    device: AgentClient,
    request: DeployRequest,
    *,
    key: SigningKey | None = None,
    signed: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    say: Log = lambda _: None,
) -> DeployPlan:
    """Look at the device, make its package, and see what would change; writes nothing there.

    With ``signed`` (more words for the agent's ``check``) what the device itself would refuse is
    among the lacks too. Raises `BadInput` where the request cannot be, `DeviceFailed` where the
    device can never take it.
    """
    facts, installed = look(device)
    target = choose(device.name, request.kind, facts, say)
    found = list(missing_requirements(facts, target))
    stop(device.name, [lack for lack in found if lack.blocks], say)
    site = site_of(device, request, installed)
    kept = [_kept(device, installed, name, progress) for name in site.kept]
    package = build(
        facts,
        target,
        [*site.bundles, *kept],
        site.text,
        plugins=request.wheels,
        progress=progress,
        say=say,
    )
    answer = device.call({"do": "missing", "blobs": package_sizes(package)})
    plan = DeployPlan(
        device.name, facts, installed, target, site, package, answer["missing"], tuple(found)
    )
    if plan.unchanged:
        return plan
    found += _room(plan)
    if signed is not None:
        found += _refusals(device, package, key, signed)
    return DeployPlan(**{**vars(plan), "lacks": tuple(found)})


def stop(name: str, blocking: list[MissingRequirement], say: Log) -> None:
    """Raise `DeviceFailed` where something stands in the way; each such point is told."""
    if not blocking:
        return
    for lack in blocking[1:]:
        say(f"{name}: {lack}")
    more = f" (and {len(blocking) - 1} more, above)" if blocking[1:] else ""
    raise DeviceFailed(f"{name}: {blocking[0]}{more}", "unfit")


def choose(name: str, kind: str | None, facts: DeviceFacts, say: Log) -> Target:
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


def site_of(
    device: AgentClient | None, request: DeployRequest, installed: Installed
) -> ServiceConfig:
    """Make the configuration that the request means on this device."""
    if request.config is not None:
        if request.bundles or request.sources or request.add or request.replace:
            raise BadInput(
                f"bundles, --source, --add and --replace stand beside --config; "
                f"{request.config} says it all"
            )
        return service_config.from_config(request.config)
    before = None
    if device is not None and installed.manifest is not None:
        held = json.loads(installed.manifest)["site"]
        before = fetch(device, held["sha256"], held["size"], lambda _: None)
    return service_config.from_words(
        request.bundles, request.sources, before, add=request.add, replace=request.replace
    )


def _kept(device: AgentClient, installed: Installed, name: str, progress: Progress) -> Path:
    """The file of a bundle that is served on; fetched, since the package names its content."""
    assert installed.manifest is not None
    for one in json.loads(installed.manifest)["bundles"]:
        if one["name"] == name:
            return read_back(device, name, one["sha256"], one["size"], progress)
    raise DeviceFailed(f"{device.name}: {name} is not in its release; flash with --replace")


def _room(plan: DeployPlan) -> Iterator[MissingRequirement]:
    unpacked = json.loads(plan.package.manifest)["runner"].get("unpacked_bytes", 0)
    need = plan.send_bytes + (unpacked if plan.new_runner else 0)
    need_mb = 2 * need / (1 << 20) + _MARGIN_MB
    if plan.facts.disk_free_mb < need_mb:
        yield MissingRequirement(
            f"{plan.facts.root} has {plan.facts.disk_free_mb} MB free, {need_mb:.0f} are needed",
            "make room there, or give --root on a larger disk",
        )


def _refusals(
    device: AgentClient, package: Package, key: SigningKey | None, signed: Mapping[str, Any]
) -> Iterator[MissingRequirement]:
    try:
        request = {"do": "check", **sign(package, key), **signed}
        for note in device.call(request).get("notes", ()):
            yield MissingRequirement(str(note), "", blocks=False)
    except EdgevidError as error:
        yield MissingRequirement(str(error).removeprefix(f"{device.name}: "), "")


def _runner(manifest: bytes | None) -> str | None:
    return None if manifest is None else str(json.loads(manifest)["runner"]["id"])
