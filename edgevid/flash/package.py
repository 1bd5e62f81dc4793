"""The package for one device: wheels for that device, edgevid, bundles and a manifest.

The manifest is canonical JSON (`MANIFEST_FORMAT`); it has the sha256 of every file, so that its
signature covers them all:

    format         1
    edgevid        version of edgevid that made it
    created_unix_s, serial        the time; a release with a lower serial is a downgrade
    target         name of the target
    architecture, python, glibc   of the device: "aarch64", "3.11", "2.28" (the oldest)
    runner         {"id", "wheels": [{"name", "sha256", "size"}], "packages": [module...],
                    "unpacked_bytes"}; wheels are zips to be unpacked into one folder, in this order
    bundles        [{"name", "sha256", "size", "key"}]
    site, agent    {"sha256", "size"}
    service        {"user", "groups", "devices"}
    limits         {"memory_mb", "disk_mb"}
    udev           [rule...]
"""

from __future__ import annotations

import json
import re
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from edgevid import __version__
from edgevid.bundle import Artifact, Bundle
from edgevid.errors import BadInput
from edgevid.files import canonical_json, sha256_of
from edgevid.flash import device_code, plugin_wheels, target_lock, wheels
from edgevid.flash.device_facts import DeviceFacts, is_there, misfits
from edgevid.flash.wheels import Wheel, WheelRequest
from edgevid.progress import Progress, silent
from edgevid.runtimes import CPU, catalog
from edgevid.targets import EngineChoice, Target

MANIFEST_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,190}\.edgevid")
# Files of a wheel that unpacking does not put in place.
_ELSEWHERE = re.compile(r"[^/]+\.data/(purelib|platlib)/.")


@dataclass(frozen=True)
class Package:
    """A release before it is signed.

    Attributes:
        manifest: The manifest, JSON.
        blobs: The content of each file, by its sha256.
    """

    manifest: bytes
    blobs: Mapping[str, Path | bytes]

    @property
    def release(self) -> str:
        """The release's name."""
        return sha256_of(self.manifest)[:16]

    def sizes(self) -> dict[str, int]:
        """The size of each blob in bytes, by its sha256."""
        return {sha256: size_of(blob) for sha256, blob in self.blobs.items()}


def build(
    facts: DeviceFacts,
    target: Target,
    bundles: Sequence[Path],
    site: bytes,
    *,
    plugins: Sequence[Path] = (),
    agent: bytes | None = None,
    now: float | None = None,
    renew: bool = False,
    progress: Progress = silent,
    log: Callable[[str], None] = lambda _: None,
) -> Package:
    """Make a package.

    Args:
        facts: The device.
        target: The kind of device.
        bundles: The bundles to serve.
        site: The service configuration, TOML.
        plugins: The wheels of plug-ins of other packages.
        agent: The agent's program; None: this edgevid's.
        now: The time, seconds since 1970.
        renew: Look for newer wheels.
        progress: Receives progress.
        log: Receives messages.

    Raises:
        BadInput: The device or a bundle does not fit, the wheel of a plug-in is missing, or there
            is no wheel for such a device.
        EnvironmentFailed: A wheel cannot be downloaded.
    """
    if unfit := misfits(facts, target):
        raise BadInput(f"{target.name} does not fit this device: {unfit[0]}")
    opened = [Bundle.open(path) for path in bundles]
    _check_names(opened)
    ways = _ways(facts, target, opened, site)
    wanted = wanted_wheels(facts, target, opened, site)
    needed = plugin_wheels.needed([one.contract.task for one in opened], ways, site)
    chosen = plugin_wheels.choose(needed, plugins, wanted)
    wanted = plugin_wheels.with_requirements(wanted, chosen)
    lock = target_lock.locked(target.name, wanted)
    got = wheels.gather(wanted, locked=lock, renew=renew, progress=progress, log=log)
    plugin_wheels.check_apart(chosen, [path for _, path in got])
    got += [(one.wheel, one.path) for one in chosen]
    _check_versions(opened, target, [wheel for wheel, _ in got])

    content: dict[str, Path | bytes] = {}
    code = device_code.archive(target)
    runner = _runner(target, got, code, content)
    text = agent if agent is not None else import_module("edgevid.flash.agent").source()
    moment = int(time.time() if now is None else now)
    manifest = {
        "format": MANIFEST_FORMAT,
        "edgevid": __version__,
        "created_unix_s": moment,
        "serial": moment,
        "target": target.name,
        "architecture": facts.architecture,
        "python": facts.python_version,
        "glibc": _oldest_glibc(target, [wheel for wheel, _ in got]),
        "runner": runner,
        "bundles": [
            {"name": bundle.path.name, "key": bundle.key, **_blob(bundle.path, content)}
            for bundle in opened
        ],
        "site": _blob(site, content),
        "agent": _blob(text, content),
        "service": _service(facts, target),
        "limits": asdict(target.limits),
        "udev": list(target.udev),
    }
    return Package(canonical_json(manifest), content)


def size_of(blob: Path | bytes) -> int:
    """The number of bytes of a blob."""
    return len(blob) if isinstance(blob, bytes) else blob.stat().st_size


def same_release(one: bytes, other: bytes) -> bool:
    """Whether two manifests describe the same release, apart from the time they were made."""

    def timeless(text: bytes) -> Any:
        return {**json.loads(text), "created_unix_s": 0, "serial": 0}

    return bool(timeless(one) == timeless(other))


def wanted_wheels(
    facts: DeviceFacts, target: Target, bundles: Sequence[Bundle], site: bytes = b""
) -> WheelRequest:
    """Return the wheels that the device needs to serve these bundles, and no other runtime."""
    ways = _ways(facts, target, bundles, site)
    requirements = dict.fromkeys(
        [*target.requires, *(r for way in ways for r in catalog.requirements(way))]
    )
    return WheelRequest(
        tuple(requirements),
        facts.architecture,
        facts.python_version,
        wheels.platforms(target.wheels, facts.architecture, facts.glibc),
        tuple(provided.project for provided in target.distribution),
    )


def _check_names(bundles: Sequence[Bundle]) -> None:
    seen: dict[str, Path] = {}
    for bundle in bundles:
        name = bundle.path.name
        if not _NAME.fullmatch(name):
            raise BadInput(
                f"{bundle.path}: a bundle on a device is called like motion.edgevid; rename it"
            )
        if name in seen:
            raise BadInput(f"{seen[name]} and {bundle.path} have the same name; rename one")
        seen[name] = bundle.path


def _ways(
    facts: DeviceFacts, target: Target, bundles: Sequence[Bundle], site: bytes
) -> list[EngineChoice]:
    """The ways to execute whose runtimes must be there.

    For each bundle those down to the first CPU, which takes over when all others failed; and
    those that the configuration names. An accelerator that is not there needs no runtime.
    """
    named = _named_runtimes(site)
    ways = catalog.engines(target, (), named)
    found: list[EngineChoice] = [way for way in ways if way.runtime in named]
    for bundle in bundles:
        there = [way for way in _engines(target, bundle) if is_there(way, facts)]
        serving = [way for way in there if _executes(way, bundle)]
        if not serving:
            held = ", ".join(artifact.name for artifact in bundle.artifacts)
            raise BadInput(
                f"{bundle.path} has nothing that {target.name} executes, it holds {held}; "
                f"make one with: edgevid convert -f {target.engine[0].runtime}"
            )
        for way in serving:
            found.append(way)
            if way.accelerator == CPU:
                break
    return found


def _named_runtimes(site: bytes) -> set[str]:
    try:
        listed = tomllib.loads(site.decode()).get("bundle", [])
        return {str(use["runtime"]) for use in listed if "runtime" in use}
    except (ValueError, TypeError, AttributeError):
        return set()  # it is checked by who reads it


def _executes(way: EngineChoice, bundle: Bundle) -> bool:
    return next(_artifacts(way, bundle), None) is not None


def _engines(target: Target, bundle: Bundle) -> tuple[EngineChoice, ...]:
    """The device's engines for a bundle, with the stand-ins that are a part of edgevid."""
    formats = {artifact.format for artifact in bundle.artifacts}
    return (*catalog.engines(target, formats), *catalog.stand_ins())


def _artifacts(way: EngineChoice, bundle: Bundle) -> Iterator[Artifact]:
    for artifact in bundle.artifacts:
        if catalog.prefers(way, artifact.format) and artifact.quantize in way.quantize:
            yield artifact


def _check_versions(bundles: Sequence[Bundle], target: Target, got: Sequence[Wheel]) -> None:
    """Check that an artifact of each bundle loads in the runtimes that the device gets.

    Raises:
        BadInput: No artifact of a bundle does.
    """
    versions = {wheel.project: wheel.version for wheel in got}
    for bundle in bundles:
        ways = _engines(target, bundle)
        faults = [_too_old(a, way, versions) for way in ways for a in _artifacts(way, bundle)]
        if faults and all(faults):
            raise BadInput(f"{bundle.path}: {faults[0]}; convert it with: --quantize int8")


def _too_old(artifact: Artifact, way: EngineChoice, versions: Mapping[str, str]) -> str | None:
    """Why an artifact does not load in the runtime that the device gets; None if it does."""
    needed = artifact.smallest_runtime.get(way.runtime)
    for library in catalog.spec(way.runtime).libraries if needed else ():
        version = versions.get(library.project)
        if library.counts_releases and version and _numbers(version) < _numbers(str(needed)):
            return f"{artifact.name} needs {library.project} {needed}, the device gets {version}"
    return None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def _runner(
    target: Target,
    got: Sequence[tuple[Wheel, Path]],
    code: bytes,
    content: dict[str, Path | bytes],
) -> dict[str, Any]:
    listed = [{"name": device_code.name(), **_blob(code, content)}]
    listed += [{"name": wheel.name, "sha256": wheel.sha256, "size": wheel.size} for wheel, _ in got]
    content.update({wheel.sha256: path for wheel, path in got})
    sums = sorted(str(one["sha256"]) for one in listed)
    return {
        "id": sha256_of("\n".join(sums).encode())[:16],
        "wheels": listed,
        "packages": [provided.module for provided in target.distribution],
        "unpacked_bytes": len(code) + sum(_unpacked_bytes(path) for _, path in got),
    }


def _unpacked_bytes(path: Path) -> int:
    with zipfile.ZipFile(path) as wheel:
        for member in wheel.namelist():
            if _ELSEWHERE.match(member):
                raise BadInput(
                    f"{path.name} keeps {member} where unpacking alone does not put it in place; "
                    "require another version in the target"
                )
        return sum(member.file_size for member in wheel.infolist())


def _blob(what: Path | bytes, content: dict[str, Path | bytes]) -> dict[str, Any]:
    sha256 = sha256_of(what)
    content[sha256] = what
    return {"sha256": sha256, "size": size_of(what)}


def _oldest_glibc(target: Target, got: Sequence[Wheel]) -> str:
    """The oldest glibc on which every wheel works, as their tags log."""
    needed = [_numbers(target.glibc or "2.17")]
    for wheel in got:
        minors = [int(m) for m in re.findall(r"manylinux_2_(\d+)_", wheel.name)]
        if "manylinux2014_" in wheel.name:
            minors.append(17)
        if minors:
            needed.append([2, min(minors)])
    return ".".join(map(str, max(needed)))


def _service(facts: DeviceFacts, target: Target) -> dict[str, Any]:
    """The service's user, groups and devices; systemd would reject groups that do not exist."""
    groups = [g for g in target.service.groups if not facts.all_groups or g in facts.all_groups]
    return {
        "user": target.service.user,
        "groups": groups,
        "devices": list(target.service.devices),
    }
