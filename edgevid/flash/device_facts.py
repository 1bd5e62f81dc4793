"""The facts of a device, as its agent reads them, and the target that fits it.

The agent reads the facts on the device; here they become a `DeviceFacts`, which is compared with
what a `Target` requires. Nothing here talks to a device.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any, Literal

from edgevid import targets
from edgevid.runtimes import catalog
from edgevid.targets import EngineChoice, Target

SHOWN_WRONG_CLOCK_S = 300.0


@dataclass(frozen=True)
class DeviceFacts:
    """One device; unknown texts are empty, unknown numbers 0.

    Attributes:
        architecture: Of its user space, as ``uname -m`` prints it.
        glibc: The version of its C library.
        python: The version of the ``python3`` that runs the runner.
        modules: The versions of the modules that it can import, by name.
        cpu: The name of its processor.
        cpu_flags: The features of its processor.
        cpu_count: The number of cores.
        model: The board's own name.
        system: The name of its operating system.
        memory_mb: Its memory, mebibytes.
        disk_free_mb: Free disk space for edgevid, mebibytes.
        systemd: Whether systemd runs services for all users, for this user, or not at all.
        systemd_version: The version of systemd.
        user: The user that edgevid logs in as.
        groups: The groups of that user.
        all_groups: All groups of the device.
        sudo: Whether the user can become root without a password.
        nodes: Device nodes of accelerators and cameras.
        usb: USB devices as ``vendor:product``.
        libraries: The paths of shared libraries that a runtime needs.
        ssh_keygen: Whether ssh-keygen is installed.
        clock_unix_s: Its clock, seconds since 1970.
        root: edgevid's folder.
    """

    architecture: str
    glibc: str = ""
    python: tuple[int, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    cpu: str = ""
    cpu_flags: tuple[str, ...] = ()
    cpu_count: int = 0
    model: str = ""
    system: str = ""
    memory_mb: int = 0
    disk_free_mb: int = 0
    systemd: Literal["system", "user", "none"] = "none"
    systemd_version: int = 0
    user: str = ""
    groups: tuple[str, ...] = ()
    all_groups: tuple[str, ...] = ()
    sudo: bool = False
    nodes: tuple[str, ...] = ()
    usb: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    ssh_keygen: bool = False
    clock_unix_s: float = 0.0
    root: str = ""

    @property
    def python_version(self) -> str:
        """``3.11`` for 3.11.2."""
        return ".".join(map(str, self.python[:2]))


def probe_request() -> dict[str, list[str]]:
    """The fields of a ``probe`` request: modules and libraries that any target wants."""
    known = [targets.load(name) for name in targets.names()]
    libraries = {library.package for one in catalog.built_in() for library in one.libraries}
    return {
        "modules": sorted(
            {wanted.module for one in known for wanted in one.distribution} | libraries
        ),
        "libraries": sorted(
            {name for one in known for way in one.engine for name in way.libraries}
        ),
    }


@dataclass(frozen=True)
class MissingRequirement:
    """Something that a device lacks for a target.

    Attributes:
        what: What is missing or wrong.
        fix: The remedy; may be empty.
        blocks: Whether the device cannot serve without it.
    """

    what: str
    fix: str
    blocks: bool = True

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}" if self.fix else self.what

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"what": self.what, "mend": self.fix, "blocks": self.blocks}


@dataclass(frozen=True)
class TargetProposal:
    """A target that a device may be, and what the device lacks for it."""

    target: Target
    lacks: tuple[MissingRequirement, ...]

    @property
    def fits(self) -> bool:
        """Whether the device can serve as it is."""
        return not any(lack.blocks for lack in self.lacks)


def propose(facts: DeviceFacts) -> list[TargetProposal]:
    """Return the targets of the device's architecture, the best one first.

    Targets that the device meets come before others, and a target for this board before one for any
    board. A target for another board is not proposed.
    """
    found = []
    for name in targets.names():
        target = targets.load(name)
        if target.architecture == facts.architecture and _may_be(target, facts):
            rank = (len(_there(target, facts)), bool(target.models))
            found.append((rank, TargetProposal(target, tuple(missing_requirements(facts, target)))))
    found.sort(key=lambda one: (not one[1].fits, -one[0][0], -one[0][1], one[1].target.name))
    return [proposal for _, proposal in found]


def _may_be(target: Target, facts: DeviceFacts) -> bool:
    """Whether the target is for this board or any, and its accelerator is present."""
    named = any(
        fnmatch(said, model) for said in (facts.model, facts.cpu) for model in target.models
    )
    wanted = target.engine[0].accelerator != "cpu"
    return (named or not target.models) and (not wanted or is_there(target.engine[0], facts))


def _there(target: Target, facts: DeviceFacts) -> list[EngineChoice]:
    return [way for way in target.engine if way.accelerator != "cpu" and is_there(way, facts)]


def is_there(way: EngineChoice, facts: DeviceFacts) -> bool:
    """Whether an engine's accelerator is present, as far as device nodes and USB show."""
    if not way.nodes and not way.usb:
        return True
    nodes = any(fnmatch(node, pattern) for node in facts.nodes for pattern in way.nodes)
    return nodes or bool(set(way.usb) & set(facts.usb))


def misfits(facts: DeviceFacts, target: Target) -> list[MissingRequirement]:
    """What rules a device out: another architecture, an older system, a weaker processor."""
    return [lack for lack in (*_system(facts, target), *_modules(facts, target)) if lack.blocks]


def missing_requirements(
    facts: DeviceFacts, target: Target, *, now: float | None = None
) -> Iterator[MissingRequirement]:
    """Yield everything that a device lacks for a target, with remedies.

    Args:
        facts: The device.
        target: The target.
        now: The host's clock, seconds since 1970, to compare the device's with.
    """
    yield from _system(facts, target)
    yield from _modules(facts, target)
    if not facts.ssh_keygen:
        yield MissingRequirement(
            "there is no ssh-keygen to check signatures with", _apt("openssh-client")
        )
    yield from _room(facts, target)
    yield from _environment(facts, time.time() if now is None else now)
    for way in target.engine:
        if way.accelerator != "cpu":
            yield from _accelerator(way, facts)


def _apt(*packages: str) -> str:
    return f"run on it: sudo apt-get install {' '.join(packages)}"


def _system(facts: DeviceFacts, target: Target) -> Iterator[MissingRequirement]:
    if target.architecture not in ("any", facts.architecture):
        yield MissingRequirement(
            f"its architecture is {facts.architecture}, not {target.architecture}",
            "see: edgevid targets",
        )
    if target.glibc and _numbers(facts.glibc) < _numbers(target.glibc):
        yield MissingRequirement(
            f"its C library is glibc {facts.glibc}"
            if facts.glibc
            else "its C library is not glibc",
            f"{target.glibc} or newer is needed: install a newer system",
        )
    if facts.python_version not in target.python:
        yield MissingRequirement(
            f"its python3 is {facts.python_version}",
            f"one of {', '.join(target.python)} is needed: install a system that has it",
        )
    # Under emulation /proc/cpuinfo is the host's, with flags of another family.
    missing = sorted(set(target.cpu_flags) - set(facts.cpu_flags))
    if missing and _tells_flags(facts):
        yield MissingRequirement(f"its processor lacks {', '.join(missing)}", "use another board")


def _tells_flags(facts: DeviceFacts) -> bool:
    family = {"armv7l": {"half", "vfp", "vfpv3", "thumb"}, "x86_64": {"sse2"}}
    return bool(family.get(facts.architecture, set()) & set(facts.cpu_flags))


def _modules(facts: DeviceFacts, target: Target) -> Iterator[MissingRequirement]:
    for wanted in target.distribution:
        version = facts.modules.get(wanted.module)
        if version is None:
            yield MissingRequirement(f"its Python lacks {wanted.module}", _apt(wanted.package))
        elif version and not _between(version, wanted.least, wanted.below):
            limit = f" and below {wanted.below}" if wanted.below else ""
            yield MissingRequirement(
                f"its {wanted.module} is {version}",
                f"{wanted.least} or newer{limit} is needed: {_apt(wanted.package)}",
            )


def _between(version: str, least: str, below: str | None) -> bool:
    found = _numbers(version)
    return _numbers(least) <= found and (below is None or found < _numbers(below))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _room(facts: DeviceFacts, target: Target) -> Iterator[MissingRequirement]:
    if 0 < facts.memory_mb < target.limits.memory_mb:
        yield MissingRequirement(
            f"it has {facts.memory_mb} MB of memory, the target expects {target.limits.memory_mb}",
            "use a smaller model, or another board",
            blocks=False,
        )
    if 0 < facts.disk_free_mb < target.limits.disk_mb:
        yield MissingRequirement(
            f"{facts.disk_free_mb} MB of disk are free, the target expects {target.limits.disk_mb}",
            "make room, or give another folder with --root",
            blocks=False,
        )


def _environment(facts: DeviceFacts, now: float) -> Iterator[MissingRequirement]:
    off_s = facts.clock_unix_s - now
    if facts.clock_unix_s and abs(off_s) > SHOWN_WRONG_CLOCK_S:
        yield MissingRequirement(
            f"its clock is {abs(off_s):.0f} s {'ahead' if off_s > 0 else 'behind'}",
            "run on it: sudo timedatectl set-ntp true",
            blocks=False,
        )
    if facts.systemd == "none":
        yield MissingRequirement(
            "it has no systemd", "edgevid's own supervisor serves instead", blocks=False
        )


def _accelerator(way: EngineChoice, facts: DeviceFacts) -> Iterator[MissingRequirement]:
    """Without an accelerator the CPU serves, so none of this blocks."""
    name = f"{way.runtime}/{way.accelerator}"
    if not is_there(way, facts):
        yield MissingRequirement(
            f"{name}: there is no {' or '.join((*way.nodes, *way.usb))}", "", blocks=False
        )
        return
    present = {PurePosixPath(path).name for path in facts.libraries}
    if missing := [library for library in way.libraries if library not in present]:
        yield MissingRequirement(
            f"{name}: there is no {missing[0]}", _apt(*way.packages), blocks=False
        )
    if way.groups and facts.all_groups and not set(way.groups) & set(facts.all_groups):
        yield MissingRequirement(
            f"{name}: there is no group {' or '.join(way.groups)}",
            f"run on it: sudo groupadd --system {way.groups[0]}",
            blocks=False,
        )
