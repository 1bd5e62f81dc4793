"""The wheel lock of a target: versions and hashes, so an index cannot substitute a wheel.

``targets/NAME.lock`` is next to ``targets/NAME.toml``; one in the user's own folder of targets
takes precedence. For each Python, and each glibc from which the result changes, it lists the wheels
of all engines of the target. A device gets a wheel of a listed project only in that version and
with that hash; projects that plug-ins add are not listed. To update it::

    python -m edgevid.flash.target_lock NAME...

writes the user's own ``~/.config/edgevid/targets/NAME.lock`` from the package index, or with
``--shipped`` the project's. Review what changes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgevid import targets
from edgevid.documents import from_json, to_json
from edgevid.errors import BadInput, EdgevidError
from edgevid.files import canonical_json, user_folder, write_bytes
from edgevid.flash import resolve_pip, resolve_uv, wheels
from edgevid.flash.wheels import LockedWheel, LockedWheels, WheelRequest
from edgevid.progress import silent
from edgevid.runtimes import catalog
from edgevid.targets import EngineChoice, Target
from edgevid.text import read_text


@dataclass(frozen=True)
class LockSection:
    """The wheels for one Python, from one minor version of glibc 2 on."""

    python: str
    glibc: int
    wheels: tuple[LockedWheel, ...]


@dataclass(frozen=True)
class TargetLock:
    """The lock of one target."""

    format: Literal[1]
    target: str
    sections: tuple[LockSection, ...]


def find(name: str) -> Path | None:
    """The lock's file: the user's own, or the one beside the target's file; None if there is none.

    Raises:
        BadInput: There is no such target.
    """
    for file in (own_file(name), targets.find(name).with_suffix(".lock")):
        if file.is_file():
            return file
    return None


def own_file(name: str) -> Path:
    """The path of the user's own lock of a target."""
    return user_folder("XDG_CONFIG_HOME", ".config") / "edgevid" / "targets" / f"{name}.lock"


def locked(name: str, request: WheelRequest) -> LockedWheels | None:
    """Return what the lock of a target allows for a device.

    Args:
        name: The target.
        request: What the device needs.

    Returns:
        The wheels; None if the target has no lock.

    Raises:
        BadInput: The lock is damaged, or has nothing for this Python and glibc.
    """
    file = find(name)
    if file is None:
        return None
    try:
        data = json.loads(read_text(file))
    except (ValueError, RecursionError):
        raise BadInput(f"{file} is damaged; regenerate it: {_again(name)}") from None
    lock = from_json(TargetLock, data, str(file), f"regenerate it: {_again(name)}")
    glibc = wheels.newest_glibc(request)
    fitting = [one for one in lock.sections if one.python == request.python and one.glibc <= glibc]
    if not fitting:
        raise BadInput(
            f"{file} has no wheels for Python {request.python} and glibc 2.{glibc}; regenerate it: "
            f"{_again(name)}"
        )
    best = max(fitting, key=lambda section: section.glibc)
    return LockedWheels(str(file), best.wheels, _again(name))


def _again(name: str) -> str:
    return f"python -m edgevid.flash.target_lock {name}"


# ---------------------------------------------------------------- making one


def make(target: Target) -> TargetLock:
    """Resolve a target's wheels again, for every Python and glibc that it may have.

    Raises:
        BadInput: There is no wheel of a requirement.
        EnvironmentFailed: The package index cannot be reached.
    """
    sections: list[LockSection] = []
    for python in target.python:
        before: LockSection | None = None
        for glibc in _versions(target):
            section = LockSection(python, glibc, tuple(_wheels(target, python, glibc)))
            if before is None or before.wheels != section.wheels:
                sections.append(section)
            before = section
    return TargetLock(1, target.name, tuple(sections))


def _versions(target: Target) -> Iterator[int]:
    """The minor versions of glibc that uv distinguishes, from the target's oldest on."""
    least = int((target.glibc or "2.17").split(".")[1])
    newest = wheels.newest_glibc(_request(target, target.python[0], 99, ()))
    yield least
    yield from (minor for minor in resolve_uv.MINORS if least < minor <= newest)


def _request(
    target: Target, python: str, glibc: int, choices: Sequence[EngineChoice]
) -> WheelRequest:
    """A request for some engines of a target."""
    needed = [*target.requires, *(r for one in choices for r in catalog.requirements(one))]
    return WheelRequest(
        tuple(dict.fromkeys(needed)),
        target.architecture,
        python,
        wheels.platforms(target.wheels, target.architecture, f"2.{glibc}"),
        tuple(one.project for one in target.distribution),
    )


def _wheels(target: Target, python: str, glibc: int) -> list[LockedWheel]:
    """The wheels of all engines, except those without wheels for a glibc this old."""

    def found(choices: Sequence[EngineChoice]) -> list[LockedWheel]:
        return _listed(_request(target, python, glibc, choices))

    try:
        return found(target.engine)
    except BadInput:
        return found([one for one in target.engine if _resolves(found, one)])


def _resolves(found: Callable[[Sequence[EngineChoice]], object], choice: EngineChoice) -> bool:
    try:
        found([choice])
    except BadInput:
        return False
    return True


def _listed(request: WheelRequest) -> list[LockedWheel]:
    if not request.requirements:
        return []
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as part:
        if resolve_uv.knows(request):
            found = resolve_uv.listed(request, Path(kept), Path(part))
        else:
            got = resolve_pip.resolve(request, Path(kept), Path(part), silent)
            found = [LockedWheel(one.name, one.project, one.version, one.sha256) for one in got]
    return sorted(found, key=lambda wheel: wheel.name)


def main(args: Sequence[str]) -> int:
    """Regenerate the locks of targets; returns the exit code."""
    shipped = "--shipped" in args
    for name in [arg for arg in args if arg != "--shipped"]:
        try:
            file = targets.find(name).with_suffix(".lock") if shipped else own_file(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, canonical_json(to_json(make(targets.load(name)))))
        except EdgevidError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return error.exit_code
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
