"""On what a bundle could be served here: accelerators, and each artifact of one bundle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from edgevid import registry
from edgevid.doctor.check import Check, State
from edgevid.doctor.software import Tried
from edgevid.doctor.surroundings import disk
from edgevid.errors import MissingExtra
from edgevid.runtimes import accelerators as known

if TYPE_CHECKING:
    from edgevid.bundle import Artifact, Bundle

STAND_IN = "null"
"""The runtime that only stands in for others."""


def accelerators() -> Iterator[Check]:
    """Say of every accelerator whether it may be tried here, and if not, why."""
    for name in registry.names("accelerator"):
        runtime, _, short = name.partition("/")
        if runtime == STAND_IN:
            continue
        reason = _why_not(runtime, short)
        if reason is None:
            yield Check(name, "may serve; it is proven before it does")
            continue
        found, _, do = reason.partition("; ")
        # What only the system's owner can mend stands between a device and its use.
        state: State = "warn" if do.startswith("run: sudo") else "ok"
        yield Check(name, f"not usable: {found}", state, do)


def _why_not(runtime: str, name: str) -> str | None:
    try:
        return known.why_not(runtime, name)
    except MissingExtra as error:
        return str(error)


def bundle(opened: Bundle, libraries: Mapping[str, Tried]) -> Iterator[Check]:
    """Say of each artifact on what it could be served; fail where none can be."""
    places = {artifact.name: _places(artifact, libraries) for artifact in opened.artifacts}
    for artifact in opened.artifacts:
        ways, faults = places[artifact.name]
        if ways:
            yield Check(artifact.name, f"could be served: {', '.join(ways)}")
        else:
            found = f"cannot be served: {'; '.join(faults) or 'no runtime executes it'}"
            yield Check(artifact.name, found, "warn", _mend(artifact, libraries))
    served = sum(bool(ways) for ways, _ in places.values())
    found = f"{served} of {len(places)} artifacts could be served"
    yield Check(
        "bundle",
        f"{opened.path}: {found}",
        "ok" if served else "fail",
        f"prove it: edgevid verify {opened.path}" if served else "mend what is said above",
    )
    yield disk("bundle", opened.path.parent)


def _places(artifact: Artifact, libraries: Mapping[str, Tried]) -> tuple[list[str], list[str]]:
    """The ways to execute an artifact as ``openvino on cpu``, and why others are closed."""
    ways, faults = [], []
    for runtime in registry.names("runtime"):
        if runtime == STAND_IN != artifact.format:
            continue
        for name in (known.CPU, *known.known(runtime)):
            try:
                fits = artifact.format in known.formats(runtime, name)[:1]
            except MissingExtra as error:
                faults.append(str(error))
                continue
            if not fits:
                continue
            fault = _runtime_fault(artifact, runtime, libraries) or _why_not(runtime, name)
            if fault is None:
                ways.append(f"{runtime} on {name}")
            elif name == known.CPU:
                faults.append(f"{runtime}: {fault}")
    return ways, faults


def _runtime_fault(artifact: Artifact, runtime: str, libraries: Mapping[str, Tried]) -> str | None:
    """Why a runtime cannot execute an artifact at all; None where it can."""
    own = [tried for tried in libraries.values() if tried.library.runtime == runtime]
    if not own:
        return None  # built in
    working = [tried for tried in own if tried.works]
    if not working:
        broken = next((tried for tried in own if tried.fault), None)
        return f"{broken.library.package} does not load" if broken else "not installed"
    wanted = artifact.smallest_runtime.get(runtime)
    # TFLite's operators count TensorFlow's versions, which LiteRT left behind long ago.
    version = next((t.version for t in working if t.library.package != "ai-edge-litert"), None)
    if wanted and version and len(working) == 1 and _numbers(version) < _numbers(wanted):
        return f"needs version {wanted}, this is {version}"
    return None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def _mend(artifact: Artifact, libraries: Mapping[str, Tried]) -> str:
    for tried in libraries.values():
        if tried.library.runtime == artifact.format:
            if tried.version is None:
                return f"run: {tried.library.install}"
            return "see the library above, or make the bundle again with: edgevid convert"
    return "make the bundle again with: edgevid convert"
