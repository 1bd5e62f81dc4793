"""The plug-ins of other packages that a device needs, as wheels that the command names.

A device gets code only from edgevid itself, from the locked wheels of its target, and from wheel
files that somebody named with ``--wheel``. Their hashes are in the signed manifest.
"""

from __future__ import annotations

import re
import tomllib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.flash.wheels import Wheel, WheelRequest, read_wheel
from edgevid.targets import EngineChoice

OWN = frozenset({"edgevid", "edgevid_converters"})
"""Packages that no wheel may bring."""


@dataclass(frozen=True)
class PluginWheel:
    """A wheel with plug-ins.

    Attributes:
        path: The file.
        wheel: Its name, project, version and hash.
        requirements: What it requires besides edgevid, as pip takes it.
        members: The files in it.
    """

    path: Path
    wheel: Wheel
    requirements: tuple[str, ...]
    members: frozenset[str]


def read(path: Path) -> PluginWheel:
    """Read a wheel file.

    Raises:
        BadInput: It is not a wheel, has no plug-in for edgevid, or brings edgevid itself.
    """
    if path.suffix != ".whl" or path.name.count("-") not in (4, 5):
        raise BadInput(f"{path} is not a wheel; build one with: pip wheel --no-deps PACKAGE")
    try:
        with zipfile.ZipFile(path) as archive:
            members = frozenset(archive.namelist())
            info = next(name.rpartition("/")[0] for name in members if _is_metadata(name))
            headers = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode("utf-8"))
            points = archive.read(f"{info}/entry_points.txt").decode("utf-8")
    except (OSError, ValueError, KeyError, StopIteration, zipfile.BadZipFile) as error:
        reason = "it has no entry points" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"{path} has no plug-in for edgevid: {reason}; name another wheel") from None
    if not re.search(r"^\[edgevid\.\w+\]$", points, re.MULTILINE):
        raise BadInput(f"{path} has no plug-in for edgevid; name the wheel that has it")
    if own := sorted(OWN & {name.partition("/")[0] for name in members}):
        raise BadInput(f"{path} brings the package {own[0]}, which is edgevid's own; rename it")
    required = headers.get_all("Requires-Dist") or ()
    requirements = [one for one in required if project_of(one) != "edgevid" and "extra" not in one]
    return PluginWheel(path, read_wheel(path), tuple(requirements), members)


def _is_metadata(name: str) -> bool:
    return re.fullmatch(r"[^/]+\.dist-info/METADATA", name) is not None


def project_of(requirement: str) -> str:
    """The normalised name of a requirement's project."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", found[0] if found else "").lower()


def needed(
    tasks: Iterable[str], ways: Sequence[EngineChoice], service: bytes
) -> dict[str, list[str]]:
    """The packages whose plug-ins a release uses.

    Args:
        tasks: The tasks of its bundles.
        ways: The engines that may serve them.
        service: The service configuration, TOML.

    Returns:
        The package's normalised name, and what it provides: ``{"my-package": ["sink webhook"]}``.

    Raises:
        BadInput: A plug-in is unknown.
    """
    names = [("task", task) for task in tasks]
    names += [("runtime", way.runtime) for way in ways]
    names += _in_service(service)
    found: dict[str, list[str]] = {}
    for kind, name in dict.fromkeys(names):
        package = registry.distribution(kind, name)
        if package is not None:
            found.setdefault(project_of(package), []).append(f"{kind} {name}")
    return found


def _in_service(service: bytes) -> list[tuple[str, str]]:
    """The plug-ins that a service configuration names; one that cannot be read names none."""
    try:
        data = tomllib.loads(service.decode())
    except ValueError:
        return []
    found = [
        (kind, str(table["kind"]))
        for kind in ("event", "sink")
        for table in _tables(data, kind)
        if "kind" in table
    ]
    schemes = [urlsplit(str(table.get("source", ""))).scheme for table in _tables(data, "camera")]
    return found + [("source", one) for one in schemes if one and registry.has("source", one)]


def _tables(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    listed = data.get(name)
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def choose(
    wanted: Mapping[str, Sequence[str]], files: Sequence[Path], request: WheelRequest
) -> list[PluginWheel]:
    """Choose the wheels that a release needs.

    Args:
        wanted: What `needed` found.
        files: The wheel files that the command names.
        request: What the device is.

    Returns:
        One wheel for each package, in the order of the files.

    Raises:
        BadInput: A wheel is missing, is of another version than the plug-in that is installed
            here, is for another kind of device, or is not needed.
    """
    given = {project_of(one.wheel.project): one for one in map(read, files)}
    for package, provides in wanted.items():
        if package not in given:
            raise BadInput(
                f"{provides[0]} is provided by the package {package}, which the device does not "
                f"have; give its wheel: --wheel {package.replace('-', '_')}-VERSION.whl"
            )
    for package, one in given.items():
        if package not in wanted:
            raise BadInput(f"{one.path}: nothing that will be served uses it; leave --wheel out")
        here = metadata.version(package)
        if one.wheel.version != here:
            raise BadInput(
                f"{one.path} is version {one.wheel.version}, and {here} is installed here, with "
                "which the bundles are used; give the wheel of the same version"
            )
        _check_fits(one, request)
    return list(given.values())


def with_requirements(request: WheelRequest, plugins: Sequence[PluginWheel]) -> WheelRequest:
    """Add what plug-ins require to a request, but for what the device provides itself."""
    provided = set(map(project_of, request.provided))
    more = [one for plugin in plugins for one in plugin.requirements]
    kept = [one for one in more if project_of(one) not in provided]
    return replace(request, requirements=tuple(dict.fromkeys([*request.requirements, *kept])))


def _check_fits(one: PluginWheel, request: WheelRequest) -> None:
    """Check a wheel's tags against the device.

    Raises:
        BadInput: The wheel is for another kind of device.
    """
    pythons, _, platforms = (part.split(".") for part in one.path.stem.split("-")[-3:])
    own = f"cp{request.python.replace('.', '')}"
    python_fits = any(tag in (own, "py3") or tag == own.replace("cp", "py") for tag in pythons)
    if not python_fits or not {"any", *request.platforms} & set(platforms):
        raise BadInput(f"{one.path} is not for {request}; build the wheel for that device")


def check_apart(plugins: Sequence[PluginWheel], others: Sequence[Path]) -> None:
    """Check that no wheel replaces a file of another one: all are unpacked into one folder.

    Raises:
        BadInput: Two wheels have a file of the same name.
    """
    seen: dict[str, str] = {}
    for path in others:
        with zipfile.ZipFile(path) as archive:
            seen.update(dict.fromkeys(archive.namelist(), path.name))
    for one in plugins:
        for name in sorted(one.members):
            if name in seen and not name.endswith("/"):
                raise BadInput(f"{one.path} and {seen[name]} both bring {name}; rename it in one")
        seen.update(dict.fromkeys(one.members, one.path.name))
