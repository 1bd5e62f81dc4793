"""Wheels for another machine: resolved once, locked by hash, and kept for use without a network.

    $XDG_CACHE_HOME/edgevid/wheels/NAME.whl         the wheels; others may be put here by hand
    $XDG_CACHE_HOME/edgevid/wheels/locks/KEY.json   what was resolved for one kind of device

A lock is used until it is renewed. If one of its wheels is missing, it is downloaded again, and
accepted only with the same content.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgevid import settings
from edgevid.errors import BadInput, EnvironmentFailed
from edgevid.files import canonical_json, sha256_of, user_folder, write_json
from edgevid.progress import Progress, silent

LOCK_FORMAT = 2
OLDEST_MANYLINUX = 17  # manylinux2014; wheels for Python 3.11 are not built for older ones


@dataclass(frozen=True)
class WheelRequest:
    """The wheels for one kind of device.

    Attributes:
        requirements: Requirements as pip reads them, such as ``numpy>=1.24``.
        architecture: As ``uname -m`` prints it.
        python: The version of Python, such as ``3.11``.
        platforms: Platform tags, the newest first.
        provided: Projects that the device has from its own distribution.
    """

    requirements: tuple[str, ...]
    architecture: str
    python: str
    platforms: tuple[str, ...]
    provided: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name of the lock's file."""
        return sha256_of(canonical_json(asdict(self)))[:16]

    def __str__(self) -> str:
        return f"{self.architecture}, Python {self.python}, {self.platforms[0]}"


@dataclass(frozen=True)
class Wheel:
    """One locked wheel.

    Attributes:
        name: Its file's name.
        project: The project it belongs to.
        version: The project's version.
        sha256: The hash of its content.
        size: Its size in bytes.
        url: Where it was found; empty if only the package index knows.
    """

    name: str
    project: str
    version: str
    sha256: str
    size: int
    url: str = ""


@dataclass(frozen=True)
class LockedWheel:
    """A wheel that the lock of a target allows.

    Attributes:
        name: Its file's name.
        project: The project it belongs to.
        version: The project's version.
        sha256: The hash of its content.
    """

    name: str
    project: str
    version: str
    sha256: str


@dataclass(frozen=True)
class LockedWheels:
    """What the lock of a target allows for a device; see `edgevid.flash.target_lock`.

    Attributes:
        file: The lock's file.
        wheels: The wheels.
        again: The command that regenerates the lock.
    """

    file: str
    wheels: tuple[LockedWheel, ...]
    again: str

    def constraints(self) -> str:
        """The versions, as pip and uv take constraints."""
        found = {one.project: one.version for one in self.wheels}
        return "".join(f"{project}=={version}\n" for project, version in found.items())

    def other(self, wheels: Iterable[Wheel]) -> Wheel | None:
        """The first wheel of a locked project that differs from the lock's."""
        hashes = {one.sha256 for one in self.wheels}
        projects = {_normal(one.project) for one in self.wheels}
        for wheel in wheels:
            if _normal(wheel.project) in projects and wheel.sha256 not in hashes:
                return wheel
        return None


def _normal(project: str) -> str:
    return re.sub(r"[-_.]+", "-", project).lower()


@dataclass(frozen=True)
class _Lock:
    format: int
    wanted: Mapping[str, Any]
    wheels: tuple[Wheel, ...]


def folder() -> Path:
    """The folder in which wheels are kept."""
    return user_folder("XDG_CACHE_HOME", ".cache") / "edgevid" / "wheels"


def platforms(tags: tuple[str, ...], architecture: str, glibc: str) -> tuple[str, ...]:
    """Return every platform tag that a device can install, the newest first.

    A ``manylinux_2_N`` among ``tags`` stands for all older ones too, as far as the device's glibc
    allows; without tags, glibc alone decides.

    Raises:
        BadInput: The device's C library is not glibc 2.
    """
    device = _minor(glibc)
    found: list[str] = []
    for tag in tags or (f"manylinux_2_{device}_{architecture}",):
        if not (parts := re.fullmatch(r"manylinux_2_(\d+)_(\w+)", tag)):
            found.append(tag)
            continue
        newest = min(int(parts[1]), device)
        found += [
            f"manylinux_2_{minor}_{parts[2]}" for minor in range(newest, OLDEST_MANYLINUX - 1, -1)
        ]
        if newest >= OLDEST_MANYLINUX:
            found.append(f"manylinux2014_{parts[2]}")
    return tuple(dict.fromkeys(found))


def _minor(glibc: str) -> int:
    parts = re.fullmatch(r"2\.(\d+)\b.*", glibc)
    if not parts:
        raise BadInput(
            f"the device's C library {glibc!r} is not glibc 2, which wheels need; "
            "use Debian, Ubuntu or Raspberry Pi OS"
        )
    return int(parts[1])


def newest_glibc(request: WheelRequest) -> int:
    """The N of the newest ``manylinux_2_N`` of a request, by default that of manylinux2014."""
    found = [re.match(r"manylinux_2_(\d+)_", tag) for tag in request.platforms]
    return max((int(one[1]) for one in found if one), default=OLDEST_MANYLINUX)


def gather(
    request: WheelRequest,
    *,
    locked: LockedWheels | None = None,
    renew: bool = False,
    progress: Progress = silent,
    log: Callable[[str], None] = lambda _: None,
) -> list[tuple[Wheel, Path]]:
    """Return the wheels of a request and their files, from the folder or the package index.

    Args:
        request: The requirements and the device.
        locked: What the target's lock allows; None: it has none.
        renew: Resolve again instead of using what was resolved before.
        progress: Receives the number of wheels downloaded.
        log: Receives messages.

    Returns:
        Each wheel with its file in `folder`.

    Raises:
        BadInput: There is no wheel of a requirement for such a device.
        EnvironmentFailed: A wheel cannot be downloaded; the message names it.
    """
    if not request.requirements:
        return []
    with _alone():
        lock = None if renew else _read_lock(request, log)
        if lock is None or (locked is not None and locked.other(lock.wheels)):
            lock = _Lock(
                LOCK_FORMAT,
                json.loads(canonical_json(asdict(request))),
                _resolve(request, locked, progress),
            )
            write_json(_lock_file(request), asdict(lock))
        elif missing := [wheel for wheel in lock.wheels if not _is_kept(wheel)]:
            _fetch(request, missing, progress)
    return [(wheel, folder() / wheel.name) for wheel in lock.wheels]


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time, so that a fleet's devices of one kind share the first resolution."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_file(request: WheelRequest) -> Path:
    return folder() / "locks" / f"{request.key}.json"


def _read_lock(request: WheelRequest, log: Callable[[str], None]) -> _Lock | None:
    file = _lock_file(request)
    try:
        lock = settings.build_json(_Lock, json.loads(file.read_bytes()), str(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, BadInput) as error:
        log(f"{file} is not usable ({error}); resolving again")
        return None
    return lock if lock.format == LOCK_FORMAT else None


def _is_kept(wheel: Wheel) -> bool:
    file = folder() / wheel.name
    return file.is_file() and file.stat().st_size == wheel.size and sha256_of(file) == wheel.sha256


def _resolve(
    request: WheelRequest, locked: LockedWheels | None, progress: Progress
) -> tuple[Wheel, ...]:
    from edgevid.flash import resolve_pip, resolve_uv

    resolver = resolve_uv if resolve_uv.knows(request) else resolve_pip
    with _part() as part:
        constraints = locked.constraints() if locked is not None else ""
        try:
            wheels = resolver.resolve(request, folder(), part, progress, constraints)
        except BadInput as error:
            if locked is None:
                raise
            raise BadInput(
                f"{error}; {locked.file} allows only the versions it lists; update it with: "
                f"{locked.again}"
            ) from None
        if locked is not None and (other := locked.other(wheels)):
            raise BadInput(
                f"{other.name} differs from the wheel that {locked.file} lists: the package index "
                f"or {folder()} has another file of this version; if that is intended, run: "
                f"{locked.again}"
            )
        _keep(part)
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))


def _fetch(request: WheelRequest, missing: list[Wheel], progress: Progress) -> None:
    """Download locked wheels again, with the same content and no other."""
    from edgevid.flash import resolve_pip, resolve_uv

    for wheel in missing:  # a damaged one must not be found in place of the right one
        (folder() / wheel.name).unlink(missing_ok=True)
    with _part() as part:
        if by_url := [wheel for wheel in missing if wheel.url]:
            resolve_uv.download(by_url, part, progress)
        if others := [wheel for wheel in missing if not wheel.url]:
            resolve_pip.download(request, others, folder(), part, progress)
        _keep(part)
    if still := [wheel.name for wheel in missing if not _is_kept(wheel)]:
        raise EnvironmentFailed(
            f"the package index no longer has the locked wheel {still[0]}; put it into {folder()}, "
            f"or resolve again: remove {_lock_file(request)}"
        )


@contextmanager
def _part() -> Iterator[Path]:
    """Yield a temporary folder on the same disk as `folder`."""
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder()) as name:
        yield Path(name)


def _keep(part: Path) -> None:
    for file in part.glob("*.whl"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        file.replace(folder() / file.name)


def read_wheel(file: Path, url: str = "") -> Wheel:
    """Describe a wheel's file."""
    project, version = file.name.split("-")[:2]
    return Wheel(
        file.name, project.replace("_", "-"), version, sha256_of(file), file.stat().st_size, url
    )


def no_wheel(what: str, request: WheelRequest) -> BadInput:
    """The error for a requirement without a wheel."""
    return BadInput(
        f"there is no wheel of {what} for {request}; put one into {folder()}, "
        "or change what the target requires"
    )


def no_index(what: str, request: WheelRequest) -> EnvironmentFailed:
    """The error for a requirement that needs the package index, which cannot be reached."""
    return EnvironmentFailed(
        f"no wheel of {what} for {request} is kept here, and the package index cannot be reached; "
        f"connect this computer once, or put the wheel into {folder()}"
    )
