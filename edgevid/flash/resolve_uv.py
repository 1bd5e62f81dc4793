"""Wheels resolved by uv, for every platform that it knows.

``uv pip compile`` resolves for another machine and gives the URL and the hash of each wheel. uv's
own settings count (``UV_DEFAULT_INDEX``, ``uv.toml``, ...), and pip's environment variables for the
index and for folders of wheels.
"""

from __future__ import annotations

import base64
import netrc
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from edgevid.errors import EnvironmentFailed, MissingExtra, shorten
from edgevid.files import sha256_of
from edgevid.flash.wheels import LockedWheel, Wheel, WheelRequest, no_index, no_wheel
from edgevid.isolation.process import die_with_parent
from edgevid.progress import Progress
from edgevid.registry import install_line, need

MINORS = (17, 28, *range(31, 41))
"""The ``manylinux_2_N`` that uv takes as a platform."""
_ARCHITECTURES = ("x86_64", "aarch64")
_TIMEOUT_S = 60.0
_CHUNK = 1 << 20
_NO_NETWORK = re.compile(
    r"error sending request|failed to fetch|dns error|timed out", re.IGNORECASE
)
_BECAUSE = re.compile(
    r"Because (?:only |all of |there (?:is|are) no versions? of "
    r"|(?:all|the following) versions of )*"
    r"([A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]|[A-Za-z0-9])"
)


def knows(request: WheelRequest) -> bool:
    """Whether uv can resolve for the platform of a request."""
    return request.architecture in _ARCHITECTURES and _minor(request) is not None


def _minor(request: WheelRequest) -> int | None:
    """The newest ``manylinux_2_N`` that both the device and uv know."""
    minors = [re.fullmatch(r"manylinux_2_(\d+)_\w+", tag) for tag in request.platforms]
    newest = max((int(found[1]) for found in minors if found), default=0)
    return max((minor for minor in MINORS if minor <= newest), default=None)


def resolve(
    request: WheelRequest, kept: Path, part: Path, progress: Progress, constraints: str = ""
) -> list[Wheel]:
    """Resolve a request, and download into ``part`` what ``kept`` lacks.

    Args:
        request: The requirements and the device.
        kept: The folder of wheels, in which uv looks, too.
        part: The folder for new wheels.
        progress: Receives the number of wheels downloaded.
        constraints: Versions of projects, as pip takes constraints.

    Returns:
        The wheels, whose files are in ``kept`` or in ``part``.

    Raises:
        BadInput: There is no wheel of a requirement for such a device.
        MissingExtra: uv is not installed.
        EnvironmentFailed: The package index cannot be reached.
    """
    progress("wheels", 0, 1)
    packages = _compile(request, kept, part, constraints)
    wheels = []
    for number, package in enumerate(packages, 1):
        found = _best(request, package["wheels"])
        if found is None:
            raise no_wheel(package["name"], request)
        url, sha256 = found["url"], found["hashes"]["sha256"]
        file = _get(url, sha256, kept, part)
        progress("wheels", number, len(packages), package["name"])
        name, version, size = package["name"], package["version"], file.stat().st_size
        wheels.append(Wheel(file.name, name, version, sha256, size, _without_credentials(url)))
    return wheels


def listed(request: WheelRequest, kept: Path, part: Path) -> list[LockedWheel]:
    """Resolve a request without a download.

    Args:
        request: The requirements and the device.
        kept: A folder of wheels in which uv looks, too.
        part: A folder for temporary files.

    Returns:
        All wheels of the resolved versions that may fit.

    Raises:
        BadInput: There is no wheel of a requirement for such a device.
        EnvironmentFailed: The package index cannot be reached.
    """
    return [
        LockedWheel(
            _file_name(wheel["url"]), one["name"], one["version"], wheel["hashes"]["sha256"]
        )
        for one in _compile(request, kept, part, "")
        for wheel in one["wheels"]
    ]


def _compile(
    request: WheelRequest, kept: Path, part: Path, constraints: str
) -> Sequence[Mapping[str, Any]]:
    """Return the packages of a lock that uv writes (the format of PEP 751)."""
    requirements, excluded, lock = (part / f for f in ("in.txt", "excluded.txt", "pylock.toml"))
    limits = part / "constraints.txt"
    limits.write_text(constraints)
    requirements.write_text("".join(f"{one}\n" for one in request.requirements))
    excluded.write_text("".join(f"{one}\n" for one in request.provided))
    platform = f"{request.architecture}-manylinux_2_{_minor(request)}"
    command = [_uv(), "pip", "compile", "--quiet", "--no-header", "--format", "pylock.toml"]
    command += ["--output-file", str(lock), "--only-binary", ":all:", "--no-python-downloads"]
    command += ["--python-platform", platform, "--python-version", request.python]
    command += ["--constraint", str(limits)]
    command += ["--find-links", str(kept), "--excludes", str(excluded), str(requirements)]
    done = _run([*command, *_pip_settings()], part)
    if done.returncode and _NO_NETWORK.search(done.stderr):
        alone = _run([*command, "--offline", "--no-index", *_folders()], part)
        if alone.returncode:
            raise no_index(_missing(request, alone.stderr) or request.requirements[0], request)
        done = alone
    if done.returncode:
        if what := _missing(request, done.stderr):
            raise no_wheel(what, request)
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise EnvironmentFailed(f"uv could not resolve wheels for {request}: {shorten(lines[0])}")
    return [one for one in tomllib.loads(lock.read_text()).get("packages", ()) if one["wheels"]]


def _best(request: WheelRequest, wheels: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The wheel that fits the device best; the lock may list several of one version."""
    tags, utils = need("packaging.tags", "flash"), need("packaging.utils", "flash")
    version = tuple(int(part) for part in request.python.split("."))
    ordered = [
        *tags.cpython_tags(version, platforms=request.platforms),
        *tags.compatible_tags(version, f"cp{version[0]}{version[1]}", request.platforms),
    ]
    ranks = {tag: rank for rank, tag in reversed(list(enumerate(ordered)))}
    fitting = [
        (min(ranks[tag] for tag in own), place)
        for place, wheel in enumerate(wheels)
        if (own := utils.parse_wheel_filename(_file_name(wheel["url"]))[3] & ranks.keys())
    ]
    return wheels[min(fitting)[1]] if fitting else None


def _file_name(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _uv() -> str:
    with suppress(ImportError, FileNotFoundError):
        return str(import_module("uv").find_uv_bin())
    if found := shutil.which("uv"):
        return found
    raise MissingExtra(install_line("uv, which resolves wheels for devices,", "flash"))


def _run(command: list[str], part: Path) -> subprocess.CompletedProcess[str]:
    """Run uv in ``part``, where no project's settings count."""
    return subprocess.run(
        command,
        cwd=part,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={"UV_PYTHON": sys.executable, "UV_HTTP_RETRIES": "1", **os.environ, "NO_COLOR": "1"},
        preexec_fn=die_with_parent,
    )


def _pip_settings() -> Iterator[str]:
    """Options for pip's environment variables, where uv has no setting of its own."""
    yield from _folders()
    if os.environ.get("PIP_NO_INDEX", "0").lower() in ("1", "true", "yes", "on"):
        yield "--no-index"
    index = os.environ.get("PIP_INDEX_URL")
    if index and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & os.environ.keys():
        yield from ("--default-index", index)
    if "UV_INDEX" not in os.environ:
        for extra in os.environ.get("PIP_EXTRA_INDEX_URL", "").split():
            yield from ("--index", extra)


def _folders() -> Iterator[str]:
    if "UV_FIND_LINKS" not in os.environ:
        for where in os.environ.get("PIP_FIND_LINKS", "").split():
            yield from ("--find-links", where)


def _missing(request: WheelRequest, stderr: str) -> str | None:
    """The requirement without a wheel, from uv's explanation."""
    text = " ".join(stderr.split())
    if (found := _BECAUSE.search(text)) is None:
        return None
    project = re.escape(found[1])
    asked = re.search(rf"(?:depends? on|requires?) ({project}(?![\w.-])[^\s,]*)", text)
    own = [one for one in request.requirements if re.match(rf"{project}(?![\w.-])", one)]
    return own[0] if own else asked[1] if asked else found[1]


# ---------------------------------------------------------------- downloads


def download(wheels: Sequence[Wheel], part: Path, progress: Progress) -> None:
    """Download locked wheels into ``part`` again.

    Raises:
        EnvironmentFailed: A wheel cannot be downloaded, or is not the one that was locked.
    """
    for number, wheel in enumerate(wheels, 1):
        _get(wheel.url, wheel.sha256, part, part)
        progress("wheels", number, len(wheels), wheel.project)


def _get(url: str, sha256: str, kept: Path, part: Path) -> Path:
    """Return the file of a wheel, downloaded into ``part`` unless ``kept`` has it."""
    name = _file_name(url)
    if (kept / name).is_file() and sha256_of(kept / name) == sha256:
        return kept / name
    file = part / name
    try:
        opened = urllib.request.urlopen(_request(url), timeout=_TIMEOUT_S)
        with opened as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or error
        raise EnvironmentFailed(
            f"the wheel {name} could not be downloaded: {reason}; try again, or put it into "
            f"{kept if kept != part else part.parent}"
        ) from error
    if sha256_of(file) != sha256:
        file.unlink()
        raise EnvironmentFailed(
            f"the wheel {name} does not have the locked hash (sha256 {sha256[:16]}...); "
            "the package index has another file of this name"
        )
    return file


def _request(url: str) -> urllib.request.Request:
    """A request with the credentials of the index, where it needs some."""
    plain = _without_credentials(url)
    request = urllib.request.Request(plain)
    if credentials := _credentials(url):
        token = base64.b64encode(":".join(credentials).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _credentials(url: str) -> tuple[str, str] | None:
    """From the URL, from an index of the same host, or from ``~/.netrc``."""
    host = urlsplit(url).hostname
    if host is None:
        return None
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
    known = [word for name in names for word in os.environ.get(name, "").split()]
    for one in map(urlsplit, (url, *known)):
        if one.hostname == host and one.username:
            return unquote(one.username), unquote(one.password or "")
    with suppress(OSError, netrc.NetrcParseError):
        if found := netrc.netrc().authenticators(host):
            return found[0], found[2]
    return None
