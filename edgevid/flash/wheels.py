"""Wheels for another machine: resolved once, locked by hash, kept, and then had without a network.

    $XDG_CACHE_HOME/edgevid/wheels/NAME.whl         as they came; others may be put here by hand
    $XDG_CACHE_HOME/edgevid/wheels/locks/KEY.json   what was resolved for one kind of device

A lock is used as it is until it is asked to be renewed; what of its wheels is missing is fetched
again, and is only taken with the very same content.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgevid import settings
from edgevid.children import die_with_parent
from edgevid.errors import BadInput, EnvironmentFailed
from edgevid.files import canonical_json, sha256_of, user_folder, write_json
from edgevid.progress import Progress, silent

LOCK_FORMAT = 1
OLDEST_MANYLINUX = 17  # manylinux2014; wheels for Python 3.11 are not made for older ones
_RESOLVER = Path(__file__).with_name("resolve.py")
_NO_NETWORK = re.compile(
    r"Retrying|connection broken|NewConnectionError|ConnectTimeout|ProxyError|SSLError"
    r"|Temporary failure|Could not fetch URL",
    re.IGNORECASE,
)
_ERROR = re.compile(r"^(?:ERROR: )(.*)$", re.MULTILINE)
_NOT_FOUND = re.compile(r"No matching distribution found for (\S[^\n(]*)")


@dataclass(frozen=True)
class WheelRequest:
    """What is wanted for one kind of device.

    ``requirements`` as pip reads them; ``provided`` are projects that the device has already;
    ``python`` is ``3.11``, ``platforms`` are platform tags, the newest first.
    """

    requirements: tuple[str, ...]
    architecture: str
    python: str
    platforms: tuple[str, ...]
    provided: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What the lock's file is called."""
        return sha256_of(canonical_json(asdict(self)))[:16]

    def __str__(self) -> str:
        return f"{self.architecture}, Python {self.python}, {self.platforms[0]}"


@dataclass(frozen=True)
class Wheel:
    """One wheel: its file's name, what it is of, and its content's hash and size in bytes."""

    name: str
    project: str
    version: str
    sha256: str
    size: int


@dataclass(frozen=True)
class _Lock:
    format: int
    wanted: Mapping[str, Any]
    wheels: tuple[Wheel, ...]


def folder() -> Path:
    """Where wheels are kept."""
    return user_folder("XDG_CACHE_HOME", ".cache") / "edgevid" / "wheels"


def platforms(tags: Sequence[str], architecture: str, glibc: str) -> tuple[str, ...]:
    """Every platform tag that a device may install, the newest first.

    A ``manylinux_2_N`` among ``tags`` stands for all older ones too, as far as the device's glibc
    goes; without tags it is glibc alone that counts.
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
            f"the device's C library {glibc!r} is no glibc 2, and wheels are made for that; "
            "use Debian, Ubuntu or Raspberry Pi OS"
        )
    return int(parts[1])


def gather(
    wanted: WheelRequest,
    *,
    renew: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda _: None,
) -> list[tuple[Wheel, Path]]:
    """Give the wheels and their files, from what is kept or from the package index.

    With ``renew`` they are resolved anew. Raises `EnvironmentFailed` that names the wheel which
    cannot be had, and `BadInput` where there is none for such a device.
    """
    if not wanted.requirements:
        return []
    with _alone():
        lock = None if renew else _read_lock(wanted, say)
        if lock is None:
            lock = _resolve(wanted, progress)
            write_json(_lock_file(wanted), asdict(lock))
        elif missing := [wheel for wheel in lock.wheels if not _is_kept(wheel)]:
            _fetch(wanted, missing, progress)
    return [(wheel, folder() / wheel.name) for wheel in lock.wheels]


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time; a fleet's devices of the same kind share what the first one resolved."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_file(wanted: WheelRequest) -> Path:
    return folder() / "locks" / f"{wanted.key}.json"


def _read_lock(wanted: WheelRequest, say: Callable[[str], None]) -> _Lock | None:
    file = _lock_file(wanted)
    try:
        lock = settings.build_json(_Lock, json.loads(file.read_bytes()), str(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, BadInput) as error:
        say(f"{file} is not usable ({error}); resolving anew")
        return None
    return lock if lock.format == LOCK_FORMAT else None


def _is_kept(wheel: Wheel) -> bool:
    file = folder() / wheel.name
    return file.is_file() and file.stat().st_size == wheel.size and sha256_of(file) == wheel.sha256


def _resolve(wanted: WheelRequest, progress: Progress) -> _Lock:
    with _download(wanted, list(wanted.requirements), progress) as part:
        wheels = tuple(read_wheel(file) for file in sorted(part.glob("*.whl")))
        _keep(part)
    return _Lock(LOCK_FORMAT, json.loads(canonical_json(asdict(wanted))), wheels)


def _fetch(wanted: WheelRequest, missing: Sequence[Wheel], progress: Progress) -> None:
    """Get wheels of a lock again, with the same content and no other."""
    for wheel in missing:  # a damaged one would be found, and refused, before the index is asked
        (folder() / wheel.name).unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for wheel in missing:
            file.write(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        file.flush()
        words = ["--no-deps", "--require-hashes", "--requirement", file.name]
        with _download(wanted, words, progress, complete=False) as part:
            _keep(part)
    if still := [wheel.name for wheel in missing if not _is_kept(wheel)]:
        raise EnvironmentFailed(
            f"the package index no longer has the locked wheel {still[0]}; put it into {folder()}, "
            f"or resolve anew: remove {_lock_file(wanted)}"
        )


def _keep(part: Path) -> None:
    for file in part.glob("*.whl"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        file.replace(folder() / file.name)


def read_wheel(file: Path) -> Wheel:
    """Describe a wheel by its file's name and content."""
    project, version = file.name.split("-")[:2]
    return Wheel(
        file.name, project.replace("_", "-"), version, sha256_of(file), file.stat().st_size
    )


@contextmanager
def _download(
    wanted: WheelRequest, words: Sequence[str], progress: Progress, *, complete: bool = True
) -> Iterator[Path]:
    """Yield a folder with what pip downloads for the device; ``complete``: and all it needs."""
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder()) as name:
        part = Path(name)
        task = part / "task.json"
        # What the device provides has no wheel, so pip must not look for what wheels depend on.
        alone = ["--no-deps"] if wanted.provided else []
        task.write_text(
            json.dumps(
                {
                    "environment": environment(wanted),
                    "words": [*_words(wanted, part), *alone, *words],
                    "folder": str(part) if complete else "",
                    "provided": list(wanted.provided),
                }
            )
        )
        said, code = _run([_python(), "-I", str(_RESOLVER), str(task)], progress)
        if code:
            raise _fault(wanted, said)
        task.unlink()
        yield part


def _words(wanted: WheelRequest, part: Path) -> list[str]:
    words = ["download", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    words += ["--progress-bar=off", "--retries=1", f"--dest={part}", f"--find-links={folder()}"]
    words += ["--implementation=cp", f"--python-version={wanted.python}"]
    words += [f"--abi={abi}" for abi in (f"cp{wanted.python.replace('.', '')}", "abi3", "none")]
    return words + [f"--platform={tag}" for tag in wanted.platforms]


def environment(wanted: WheelRequest) -> dict[str, str]:
    """The values of markers on the device."""
    full = f"{wanted.python}.0"  # the first one of its kind lacks most, so that nothing is missed
    return {
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": wanted.architecture,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full,
        "python_version": wanted.python,
        "sys_platform": "linux",
    }


def _python() -> str:
    """A Python that has pip: this one, or the system's."""
    for candidate in (sys.executable, shutil.which("python3"), shutil.which("python")):
        if (
            candidate
            and not subprocess.run(
                [candidate, "-I", "-c", "import pip"], capture_output=True, check=False
            ).returncode
        ):
            return candidate
    raise BadInput("wheels are fetched with pip, which is missing here; run: python -m ensurepip")


def _run(command: list[str], progress: Progress) -> tuple[str, int]:
    """Run pip; give what it said, and its exit code."""
    said: list[str] = []
    found = 0
    progress("wheels", 0, 1)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=die_with_parent,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            said.append(line)
            if line.startswith("Collecting "):
                found += 1
                progress("wheels", found, found + 1, line.split()[1])
    if not child.returncode:
        progress("wheels", max(found, 1), max(found, 1))
    return "".join(said), child.returncode


def _fault(wanted: WheelRequest, said: str) -> BadInput | EnvironmentFailed:
    errors = _ERROR.findall(said)
    missing = _NOT_FOUND.findall(said)
    what = missing[-1].strip() if missing else None
    if _NO_NETWORK.search(said):
        return EnvironmentFailed(
            f"no wheel of {what or wanted.requirements[0]} for {wanted} is kept here, and the "
            f"package index cannot be reached; connect this computer once, or put the wheel into "
            f"{folder()}"
        )
    if what:
        return BadInput(
            f"there is no wheel of {what} for {wanted}; put one into {folder()}, "
            "or change what the target requires"
        )
    last = (errors or said.strip().splitlines() or ["it said nothing"])[-1]
    return EnvironmentFailed(f"pip could not fetch the wheels for {wanted}: {last[:300]}")
