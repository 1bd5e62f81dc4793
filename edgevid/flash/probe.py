"""What a device is, as its agent tells it, and the target that fits it.

The agent reads the facts on the device; here they become a `Facts`, and are held against what a
`Target` asks for. Nothing here talks to a device.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any, Literal

from edgevid import settings, targets
from edgevid.targets import EngineChoice, Target

SHOWN_WRONG_CLOCK_S = 300.0


@dataclass(frozen=True)
class Facts:
    """One device as it is; unknown texts are empty, unknown numbers 0.

    ``architecture`` is what ``uname -m`` says of its user space, ``python`` the version of the
    ``python3`` that will run the runner, ``modules`` the versions of modules that it can import
    already, by the name they are imported by. ``nodes`` are device nodes that matter to an
    accelerator or a camera, ``usb`` the plugged devices as ``vendor:product``, ``model`` the
    board's own name. ``groups`` are those of ``user``; ``all_groups`` all that the device knows.
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


def asked() -> dict[str, list[str]]:
    """What the agent is to look for: modules and libraries that any target wants."""
    known = [targets.load(name) for name in targets.names()]
    return {
        "modules": sorted({wanted.module for one in known for wanted in one.distribution}),
        "libraries": sorted(
            {name for one in known for way in one.engine for name in way.libraries}
        ),
    }


def read_facts(answer: Mapping[str, Any]) -> Facts:
    """Read the agent's answer to ``probe``; what this version does not know is passed over.

    Raises `BadInput` where something has another form than it should.
    """
    known = {name: answer[name] for name in Facts.__dataclass_fields__ if name in answer}
    return settings.build_json(Facts, {"modules": {}, **known}, "the device's answer")


@dataclass(frozen=True)
class Lack:
    """Something that a device lacks for a target; ``blocks`` where nothing serves without it."""

    what: str
    mend: str
    blocks: bool = True

    def __str__(self) -> str:
        return f"{self.what}; {self.mend}" if self.mend else self.what


@dataclass(frozen=True)
class Proposal:
    """A target for a device, and what the device lacks for it."""

    target: Target
    lacks: tuple[Lack, ...]

    @property
    def fits(self) -> bool:
        """Whether a flash can be tried as the device is."""
        return not any(lack.blocks for lack in self.lacks)


def propose(facts: Facts) -> list[Proposal]:
    """Give the targets of the device's architecture, the one that fits best first.

    Those that fit as it is come before others, and what knows this very board before what fits
    any. A board's own target is no proposal for another board.
    """
    found = []
    for name in targets.names():
        target = targets.load(name)
        if target.architecture == facts.architecture and _may_be(target, facts):
            rank = (len(_there(target, facts)), bool(target.models))
            found.append((rank, Proposal(target, tuple(lacks(facts, target)))))
    found.sort(key=lambda one: (not one[1].fits, -one[0][0], -one[0][1], one[1].target.name))
    return [proposal for _, proposal in found]


def _may_be(target: Target, facts: Facts) -> bool:
    """Whether the board, or its processor, is one of the target's; and its accelerator is there."""
    named = any(
        fnmatch(said, model) for said in (facts.model, facts.cpu) for model in target.models
    )
    wanted = target.engine[0].accelerator != "cpu"
    return (named or not target.models) and (not wanted or is_there(target.engine[0], facts))


def _there(target: Target, facts: Facts) -> list[EngineChoice]:
    return [way for way in target.engine if way.accelerator != "cpu" and is_there(way, facts)]


def is_there(way: EngineChoice, facts: Facts) -> bool:
    """Whether a way's accelerator is plugged in or built in, as far as nodes and USB tell."""
    if not way.nodes and not way.usb:
        return True
    nodes = any(fnmatch(node, pattern) for node in facts.nodes for pattern in way.nodes)
    return nodes or bool(set(way.usb) & set(facts.usb))


def misfits(facts: Facts, target: Target) -> list[Lack]:
    """What no flash can mend: another architecture, an older system, a weaker processor."""
    return [lack for lack in (*_system(facts, target), *_modules(facts, target)) if lack.blocks]


def lacks(facts: Facts, target: Target, *, now: float | None = None) -> Iterator[Lack]:
    """Give everything that the device lacks for the target, each with its mend.

    ``now`` is the host's time in seconds since 1970, which the device's clock is held against.
    """
    yield from _system(facts, target)
    yield from _modules(facts, target)
    if not facts.ssh_keygen:
        yield Lack("there is no ssh-keygen to check signatures with", _apt("openssh-client"))
    yield from _room(facts, target)
    yield from _surroundings(facts, time.time() if now is None else now)
    for way in target.engine:
        if way.accelerator != "cpu":
            yield from _accelerator(way, facts)


def _apt(*packages: str) -> str:
    return f"run on it: sudo apt-get install {' '.join(packages)}"


def _system(facts: Facts, target: Target) -> Iterator[Lack]:
    if target.architecture not in ("any", facts.architecture):
        yield Lack(
            f"its architecture is {facts.architecture}, not {target.architecture}",
            "see: edgevid targets",
        )
    if target.glibc and _numbers(facts.glibc) < _numbers(target.glibc):
        yield Lack(
            f"its C library is glibc {facts.glibc}" if facts.glibc else "its C library is no glibc",
            f"{target.glibc} or newer is needed: install a newer system",
        )
    if facts.python_version not in target.python:
        yield Lack(
            f"its python3 is {facts.python_version}",
            f"one of {', '.join(target.python)} is needed: install a system that has it",
        )
    # Under emulation /proc/cpuinfo is the host's, with flags of another family.
    missing = sorted(set(target.cpu_flags) - set(facts.cpu_flags))
    if missing and _tells_flags(facts):
        yield Lack(f"its processor lacks {', '.join(missing)}", "use another board")


def _tells_flags(facts: Facts) -> bool:
    family = {"armv7l": {"half", "vfp", "vfpv3", "thumb"}, "x86_64": {"sse2"}}
    return bool(family.get(facts.architecture, set()) & set(facts.cpu_flags))


def _modules(facts: Facts, target: Target) -> Iterator[Lack]:
    for wanted in target.distribution:
        version = facts.modules.get(wanted.module)
        if version is None:
            yield Lack(f"its Python lacks {wanted.module}", _apt(wanted.package))
        elif version and not _between(version, wanted.least, wanted.below):
            limit = f" and below {wanted.below}" if wanted.below else ""
            yield Lack(
                f"its {wanted.module} is {version}",
                f"{wanted.least} or newer{limit} is needed: {_apt(wanted.package)}",
            )


def _between(version: str, least: str, below: str | None) -> bool:
    found = _numbers(version)
    return _numbers(least) <= found and (below is None or found < _numbers(below))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _room(facts: Facts, target: Target) -> Iterator[Lack]:
    if 0 < facts.memory_mb < target.limits.memory_mb:
        yield Lack(
            f"it has {facts.memory_mb} MB of memory, {target.limits.memory_mb} are meant for this",
            "use a smaller model, or another board",
            blocks=False,
        )
    if 0 < facts.disk_free_mb < target.limits.disk_mb:
        yield Lack(
            f"{facts.disk_free_mb} MB of disk are free, {target.limits.disk_mb} are meant for this",
            "make room, or give another folder with --root",
            blocks=False,
        )


def _surroundings(facts: Facts, now: float) -> Iterator[Lack]:
    off_s = facts.clock_unix_s - now
    if facts.clock_unix_s and abs(off_s) > SHOWN_WRONG_CLOCK_S:
        yield Lack(
            f"its clock is {abs(off_s):.0f} s {'ahead' if off_s > 0 else 'behind'}",
            "run on it: sudo timedatectl set-ntp true",
            blocks=False,
        )
    if facts.systemd == "none":
        yield Lack(
            "systemd does not run it", "edgevid's own supervisor serves instead", blocks=False
        )


def _accelerator(way: EngineChoice, facts: Facts) -> Iterator[Lack]:
    """Without an accelerator the CPU serves, so nothing of this blocks."""
    name = f"{way.runtime}/{way.accelerator}"
    if not is_there(way, facts):
        yield Lack(f"{name}: there is no {' or '.join((*way.nodes, *way.usb))}", "", blocks=False)
        return
    present = {PurePosixPath(path).name for path in facts.libraries}
    if missing := [library for library in way.libraries if library not in present]:
        yield Lack(f"{name}: there is no {missing[0]}", _apt(*way.packages), blocks=False)
    if way.groups and facts.all_groups and not set(way.groups) & set(facts.all_groups):
        yield Lack(
            f"{name}: there is no group {' or '.join(way.groups)}",
            f"run on it: sudo groupadd --system {way.groups[0]}",
            blocks=False,
        )
