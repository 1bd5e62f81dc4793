"""What a deployment would change on one device, and what it lacks; writes nothing there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import unified_diff
from pathlib import Path
from typing import Any

from edgevid import targets
from edgevid.errors import BadInput, DeviceFailed, EdgevidError, EnvironmentFailed, shorten
from edgevid.files import sha256_of
from edgevid.flash import replies, service_config
from edgevid.flash.activation import Log
from edgevid.flash.agent_client import AgentClient, raise_fault
from edgevid.flash.blob_transfer import missing_blobs
from edgevid.flash.device_facts import (
    DeviceFacts,
    MissingRequirement,
    missing_requirements,
    propose,
)
from edgevid.flash.installed import Installed, fetch, look, read_back
from edgevid.flash.package import Package, build
from edgevid.flash.replies import CHECK
from edgevid.flash.request import DeployOptions, DeployRequest
from edgevid.flash.service_config import ServiceConfig
from edgevid.media.secrets import without_secrets
from edgevid.progress import Progress
from edgevid.targets import Target

_MARGIN_MB = 16
_SHOWN_BYTES = 64 << 10
_SHOWN_LINES = 40
_SHOWN_CHARACTERS = 160


@dataclass(frozen=True)
class DeployPlan:
    """What a deployment would do.

    Attributes:
        device: The device's name.
        facts: What the device is.
        installed: What is on it.
        target: The kind of device it is treated as.
        service: What would serve.
        package: What would be sent.
        missing: How many bytes the device has of each blob that it does not have whole.
        lacks: What the device lacks.
    """

    device: str
    facts: DeviceFacts
    installed: Installed
    target: Target
    service: ServiceConfig
    package: Package
    missing: Mapping[str, int]
    lacks: tuple[MissingRequirement, ...]

    @property
    def release(self) -> str:
        """The release that would serve."""
        return str(self.installed.current) if self.unchanged else self.package.release

    @property
    def unchanged(self) -> bool:
        """Whether the device serves the same release already."""
        return self.installed.serves(self.package.manifest)

    @property
    def send_bytes(self) -> int:
        """How many bytes would be sent."""
        if self.unchanged:
            return 0
        sizes = self.package.sizes()
        return sum(sizes[sha256] - there for sha256, there in self.missing.items())

    @property
    def new_runner(self) -> bool:
        """Whether the runner differs from the one that serves."""
        content = self.installed.content
        return content is None or content.runner.id != _runner(self.package.manifest)["id"]

    def document(self) -> dict[str, Any]:
        """Return the plan as a JSON document."""
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
                name: list(getattr(self.service, name))
                for name in ("added", "replaced", "kept", "removed")
            },
            "lacks": [lack.to_json() for lack in self.lacks],
            "fits": not any(lack.blocks for lack in self.lacks),
        }

    def text(self) -> str:
        """Return the plan as text."""
        facts, service = self.facts, self.service
        python = ".".join(map(str, facts.python))
        board = facts.model or facts.system or "a device"
        lines = [
            f"{self.device}: {board}, {facts.architecture}, Python {python}, as {self.target.name}",
            f"  serves now   {self.installed.current or 'nothing'}",
            f"  would serve  {self.release}{' (the same)' if self.unchanged else ''}",
        ]
        for what, names in _changes(service):
            lines.append(f"  {what:<12} {', '.join(names)}")
        if not self.unchanged:
            count, much = len(self.missing), self.send_bytes / 1e6
            lines.append(f"  sends        {count} files, {much:.1f} MB")
            lines.append(f"  runner       {'replaced' if self.new_runner else 'unchanged'}")
        lines.append(f"  restart      {'no' if self.unchanged else 'yes'}")
        lines += [f"  {'FAILS' if lack.blocks else 'note':<12} {lack}" for lack in self.lacks]
        return "\n".join(lines)


def _changes(service: ServiceConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    for what, names in (
        ("adds", service.added),
        ("replaces", service.replaced),
        ("keeps", service.kept),
        ("removes", service.removed),
    ):
        if names:
            yield what, names


def changes_text(service: ServiceConfig) -> str:
    """Summarise which bundles are added, replaced, kept or removed."""
    return "; ".join(f"{what} {', '.join(names)}" for what, names in _changes(service))


def make(device: AgentClient, request: DeployRequest, options: DeployOptions) -> DeployPlan:
    """Look at the device, make its package, and find what would change; writes nothing there.

    Args:
        device: The device.
        request: What it is to serve.
        options: How; with ``dry_run`` the device's own checks are made, too.

    Returns:
        The plan, with everything that the device lacks.

    Raises:
        BadInput: The request is contradictory, no wheel fits the device, or edgevid is installed in
            another folder there.
        DeviceFailed: The device cannot be reached, or can never take the release.
    """
    facts, installed = look(device)
    if installed.second is not None:
        raise_fault(device.name, installed.second)
    target = choose(device.name, request.kind, facts, options.log)
    found = list(missing_requirements(facts, target))
    stop(device.name, [lack for lack in found if lack.blocks], options.log)
    service = service_of(device, request, installed, options)
    kept = [_kept(device, installed, name, options.progress) for name in service.kept]
    package = build(
        facts,
        request.adapt(target),
        [*service.bundles, *kept],
        service.text,
        plugins=request.wheels,
        progress=options.progress,
        log=options.log,
    )
    missing = missing_blobs(device, package.sizes())
    plan = DeployPlan(
        device.name, facts, installed, target, service, package, missing, tuple(found)
    )
    if plan.unchanged:
        return plan
    found += _room(plan)
    if options.dry_run:
        found += _refusals(device, package, options, installed.id)
    return replace(plan, lacks=tuple(found))


def stop(name: str, blocking: list[MissingRequirement], log: Log) -> None:
    """Stop if the device lacks something that it cannot serve without; all of it is logged.

    Raises:
        DeviceFailed: The device lacks something.
    """
    if not blocking:
        return
    for lack in blocking[1:]:
        log(f"{name}: {lack}")
    more = f" (and {len(blocking) - 1} more, above)" if blocking[1:] else ""
    raise DeviceFailed(f"{name}: {blocking[0]}{more}", "unfit")


def choose(name: str, kind: str | None, facts: DeviceFacts, log: Log) -> Target:
    """Return the target called ``kind``, or the one that fits the device best.

    Raises:
        BadInput: There is no such target, or none for the device's architecture.
    """
    if kind is not None:
        return targets.load(kind)
    proposals = propose(facts)
    if not proposals:
        raise BadInput(
            f"{name}: there is no target for {facts.architecture}; write one, and name it with "
            "--kind"
        )
    target = proposals[0].target
    log(f"{name}: treated as {target.name} ({target.title}); use --kind to change that")
    return target


def service_of(
    device: AgentClient | None,
    request: DeployRequest,
    installed: Installed,
    options: DeployOptions,
) -> ServiceConfig:
    """Return the service configuration for a request.

    What the device serves now is kept only if this user has signed it: the new release gets the
    user's signature, so it must contain nothing that someone else put on the device.

    Raises:
        BadInput: The request is contradictory or incomplete, or it keeps something that this user
            has not signed.
    """
    if request.config is not None:
        if request.bundles or request.sources or request.add or request.replace:
            raise BadInput(
                "bundles, --source, --add and --replace cannot be combined with --config; "
                f"put them into {request.config}"
            )
        return service_config.from_config(request.config)
    before = None
    unsigned = False
    if device is not None and installed.content is not None:
        unsigned = not installed.verified(options.signers())
        if unsigned and not request.replace:
            raise BadInput(
                f"{device.name}: what it serves is not signed by your key, so nothing of it can be "
                "kept; specify everything it should serve with --replace and --source, or with "
                "--config"
            )
        held = installed.content.site
        before = None if unsigned else fetch(device, held.sha256, held.size)
    service = service_config.from_arguments(
        request.bundles, request.sources, before, add=request.add, replace=request.replace
    )
    if unsigned and device is not None:
        for line in differences(device, installed, service):
            options.log(f"{device.name}: {line}")
    return service


def differences(device: AgentClient, installed: Installed, service: ServiceConfig) -> list[str]:
    """Return how the new configuration differs from what the device claims to serve, as lines."""
    assert installed.content is not None
    site, bundles = installed.content.site, installed.content.bundles
    text = b""
    if site.size <= _SHOWN_BYTES:
        with suppress(EnvironmentFailed):
            text = fetch(device, site.sha256, site.size)
    theirs = [f"bundle {one.name} {one.sha256[:16]}" for one in bundles]
    theirs += text.decode(errors="replace").splitlines()
    ours = [f"bundle {path.name} {sha256_of(path)[:16]}" for path in service.bundles]
    ours += service.text.decode().splitlines()
    found = [*unified_diff(theirs, ours, lineterm="", n=0)][2:]
    lines = [_shown(one) for one in found if not one.startswith("@@")]
    more = [f"... and {len(lines) - _SHOWN_LINES} lines more"] * (len(lines) > _SHOWN_LINES)
    return [
        "what it serves is not signed by your key; it is replaced (- there, + here):",
        *lines[:_SHOWN_LINES],
        *more,
    ]


def _shown(line: str) -> str:
    """A line of a configuration for the terminal, without passwords of cameras."""
    plain = replies.one_line(line)
    url = re.sub(r"\w+://[^\s\"']+", lambda found: without_secrets(found[0]), plain)
    return shorten(url, _SHOWN_CHARACTERS)


def _kept(device: AgentClient, installed: Installed, name: str, progress: Progress) -> Path:
    """The file of a bundle that stays; fetched, since the signed manifest has its hash."""
    assert installed.content is not None
    for one in installed.content.bundles:
        if one.name == name:
            return read_back(device, name, one.sha256, one.size, progress)
    raise DeviceFailed(f"{device.name}: {name} is not in its release; flash with --replace")


def _room(plan: DeployPlan) -> Iterator[MissingRequirement]:
    unpacked = _runner(plan.package.manifest)["unpacked_bytes"]
    need = plan.send_bytes + (unpacked if plan.new_runner else 0)
    need_mb = 2 * need / (1 << 20) + _MARGIN_MB
    if plan.facts.disk_free_mb < need_mb:
        yield MissingRequirement(
            f"{plan.facts.root} has {plan.facts.disk_free_mb} MB free, {need_mb:.0f} are needed",
            "make room there, or give --root on a larger disk",
        )


def _refusals(
    device: AgentClient, package: Package, options: DeployOptions, name: str
) -> Iterator[MissingRequirement]:
    """What the device itself refuses; ``name`` is its id."""
    try:
        signed = options.sign(package, name)
        for note in device.call(CHECK, signed).notes:
            yield MissingRequirement(note, "", blocks=False)
    except EdgevidError as error:
        yield MissingRequirement(str(error).removeprefix(f"{device.name}: "), "")


def _runner(manifest: bytes) -> dict[str, Any]:
    """The runner of a manifest that was made here."""
    found: dict[str, Any] = json.loads(manifest)["runner"]
    return found
