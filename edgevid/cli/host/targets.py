"""``edgevid targets``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli.console import PATH, common, emit, table
from edgevid.errors import BadInput
from edgevid.registry import unknown
from edgevid.runtimes import catalog

if TYPE_CHECKING:
    from edgevid.flash.device_facts import DeviceFacts, TargetProposal
    from edgevid.targets import EngineChoice, Target


class TargetsGroup(click.Group):
    """The group of ``targets``, which recognises the name of a target."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; see `click.Group.resolve_command`.

        Raises:
            BadInput: There is no such command; the message has the one to use.
        """
        if args and args[0] not in self.commands:
            from edgevid import targets

            word = args[0]
            if word in targets.names():
                raise BadInput(f"{word} is a target; use: edgevid targets show {word}")
            if "@" in word:
                raise BadInput(f"{word} is a device; use: edgevid targets probe {word}")
            raise BadInput(unknown("command or target", word, (*self.commands, *targets.names())))
        return super().resolve_command(ctx, args)


@click.group(name="targets", cls=TargetsGroup, invoke_without_command=True)
@common
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the kinds of device that edgevid knows.

    Add your own in ~/.config/edgevid/targets/: one TOML file each, named after the target.

    Example:  edgevid targets show generic-arm64
    """
    if ctx.invoked_subcommand:
        return
    from edgevid import targets

    found = [targets.load(name) for name in targets.names()]
    rows = [(t.name, t.architecture, _way(t.engine[0]), _yes(t.proven), t.title) for t in found]
    text = table(rows, ("name", "architecture", "first engine", "proven", "title"))
    emit({"targets": [_document(target) for target in found]}, as_json, text)


@command.command()
@click.argument("name")
@common
def show(name: str, as_json: bool) -> None:
    """Show everything about one target.

    Example:  edgevid targets show raspberry-pi-5
    """
    from edgevid import targets

    target = targets.load(name)
    emit(_document(target), as_json, "\n".join(_lines(target)))


@command.command()
@click.argument("device", metavar="USER@HOST")
@click.option("--target", "name", help="Compare it with this target. Default: the best match.")
@click.option("--trust-new", is_flag=True, help="Accept an unknown host key.")
@click.option("--key", type=PATH, help="Private key to log in with. Default: ssh's own.")
@common
def probe(device: str, name: str | None, trust_new: bool, key: Path | None, as_json: bool) -> int:
    """Show a device's facts, the best target for it, and what it lacks.

    DEVICE is user@host, user@host:port or a name from the inventory. Nothing is written to it.
    The exit code is 1 if nothing can be deployed to the device as it is.

    Example:  edgevid targets probe pi@raspberrypi.local
    """
    from dataclasses import replace

    from edgevid import targets
    from edgevid.flash import fleet
    from edgevid.flash.device_facts import TargetProposal, missing_requirements, propose
    from edgevid.flash.installed import look
    from edgevid.flash.inventory import read_inventory, resolve

    entries = resolve(device, read_inventory())
    if len(entries) > 1:
        raise BadInput(f"{device} means {len(entries)} devices; name one")
    target = targets.load(name) if name else None
    entry = replace(entries[0], key=key) if key else entries[0]
    with fleet.connect(entry, trust_new=trust_new) as connected:
        facts = look(connected)[0]
    found = (
        [TargetProposal(target, tuple(missing_requirements(facts, target)))]
        if target
        else propose(facts)
    )
    document = {
        "device": device,
        "facts": asdict(facts),
        "target": found[0].target.name if found else None,
        "fits": bool(found) and found[0].fits,
        "proposals": [
            {"target": p.target.name, "fits": p.fits, "lacks": [one.to_json() for one in p.lacks]}
            for p in found
        ],
    }
    emit(document, as_json, "\n".join([*_facts_lines(facts), "", *_proposal_lines(facts, found)]))
    return 0 if document["fits"] else 1


def _document(target: Target) -> dict[str, Any]:
    """The whole target, with the wheels that each engine comes to."""
    ways = [{**asdict(way), "requires": list(catalog.requirements(way))} for way in target.engine]
    return {**asdict(target), "engine": ways}


def _way(way: EngineChoice) -> str:
    return f"{way.runtime}/{way.accelerator}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _lines(target: Target) -> Iterator[str]:
    plain = {
        "name": target.name,
        "title": target.title,
        "proven": _yes(target.proven),
        "note": target.note,
        "boards": ", ".join(target.models),
        "architecture": target.architecture,
        "processor": ", ".join(target.cpu_flags),
        "glibc": f"{target.glibc} or newer" if target.glibc else "",
        "python": ", ".join(target.python),
        "wheel tags": ", ".join(target.wheels) + " and older" if target.wheels else "",
        "wheels": ", ".join(target.requires),
        "memory": f"{target.limits.memory_mb} MB",
        "disk": f"{target.limits.disk_mb} MB",
        "user": target.service.user,
        "groups": ", ".join(target.service.groups),
        "devices": ", ".join(target.service.devices),
    }
    yield from (f"{key:<13} {value}" for key, value in plain.items() if value)
    for wanted in target.distribution:
        limit = f", below {wanted.below}" if wanted.below else ""
        yield f"{'from apt':<13} {wanted.package} ({wanted.least} or newer{limit})"
    yield from (f"{'udev':<13} {rule}" for rule in target.udev)
    yield "\nengines, the preferred one first:"
    rows = [
        (
            _way(w),
            ", ".join(w.quantize),
            ", ".join(catalog.requirements(w)),
            _needs(w),
            _yes(w.proven),
        )
        for w in target.engine
    ]
    yield table(rows, ("engine", "quantize", "wheels", "needs", "proven"))
    for way in target.engine:
        if way.operators:
            yield f"{_way(way)} supports operators up to release {way.operators}"


def _needs(way: EngineChoice) -> str:
    either = " or ".join((*way.nodes, *way.usb))
    libraries = ", ".join(way.libraries)
    packages = f" ({', '.join(way.packages)})" if way.packages else ""
    groups = f"group {' or '.join(way.groups)}" if way.groups else ""
    return "; ".join(filter(None, (either, f"{libraries}{packages}", groups))) or "-"


def _facts_lines(facts: DeviceFacts) -> Iterator[str]:
    plain = {
        "board": facts.model,
        "system": facts.system,
        "processor": f"{facts.architecture}, {facts.cpu_count} x {facts.cpu or 'unnamed'}",
        "glibc": facts.glibc or "none",
        "python": ".".join(map(str, facts.python)),
        "modules": ", ".join(f"{n} {v}".strip() for n, v in sorted(facts.modules.items())),
        "memory": f"{facts.memory_mb} MB",
        "disk": f"{facts.disk_free_mb} MB free",
        "systemd": f"{facts.systemd} {facts.systemd_version or ''}".strip(),
        "user": f"{facts.user}, in {', '.join(facts.groups)}",
        "nodes": ", ".join(facts.nodes),
    }
    yield from (f"{key:<13} {value}" for key, value in plain.items() if value)


def _proposal_lines(facts: DeviceFacts, found: list[TargetProposal]) -> Iterator[str]:
    if not found:
        missing = f"there is no target for {facts.architecture}"
        yield f"{missing}; write one in ~/.config/edgevid/targets/"
        return
    best = found[0]
    verdict = "fits" if best.fits else "does not fit as the device is"
    yield f"target        {best.target.name} ({best.target.title}): {verdict}"
    for lack in best.lacks:
        yield f"{'  lacks' if lack.blocks else '  note':<13} {lack}"
    if others := ", ".join(p.target.name for p in found[1:] if p.fits):
        yield f"others        {others}"
