"""What this machine can execute: its accelerators, and each artifact of one bundle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from edgevid import runtimes
from edgevid.doctor.check import Check, State
from edgevid.doctor.environment import disk
from edgevid.doctor.software import Tried
from edgevid.runtimes import CPU, RuntimeSpec, catalog

if TYPE_CHECKING:
    from edgevid.bundle import Artifact, Bundle


def accelerators() -> Iterator[Check]:
    """Check for every accelerator whether it can be tried here, and why not if it cannot."""
    for runtime in catalog.importable():
        for one in sorted(runtime.accelerators, key=lambda one: one.name):
            if one.name != CPU and not runtime.stand_in:
                yield _accelerator(runtime, one.name)


def _accelerator(runtime: RuntimeSpec, name: str) -> Check:
    reason = runtimes.get(runtime.name).why_not(name)
    if reason is None:
        return Check(f"{runtime.name}/{name}", "may serve; it is proven before it does")
    found, _, do = reason.partition("; ")
    # Only an administrator can fix what keeps a device that is there from being used.
    state: State = "warn" if do.startswith("run: sudo") else "ok"
    return Check(f"{runtime.name}/{name}", f"not usable: {found}", state, do)


def bundle(opened: Bundle, libraries: Mapping[str, Tried]) -> Iterator[Check]:
    """Check each artifact of a bundle.

    Args:
        opened: The bundle.
        libraries: The libraries that were tried, by the name of their distribution.

    Yields:
        One check for each artifact, with the engines that can serve it; one for the bundle, which
        fails if no artifact can be served; and one for the disk that the bundle is on.
    """
    found = {artifact.name: _engines(artifact, libraries) for artifact in opened.artifacts}
    for artifact in opened.artifacts:
        engines, faults = found[artifact.name]
        if engines:
            yield Check(artifact.name, f"can be served: {', '.join(engines)}")
        else:
            text = f"cannot be served: {'; '.join(faults) or 'no runtime executes it'}"
            yield Check(artifact.name, text, "warn", _remedy(artifact, libraries))
    served = sum(bool(engines) for engines, _ in found.values())
    yield Check(
        "bundle",
        f"{opened.path}: {served} of {len(found)} artifacts can be served",
        "ok" if served else "fail",
        f"prove it: edgevid verify {opened.path}" if served else "fix what is reported above",
    )
    yield disk("bundle", opened.path.parent)


def _engines(artifact: Artifact, libraries: Mapping[str, Tried]) -> tuple[list[str], list[str]]:
    """The engines for an artifact, such as ``openvino on cpu``, and why others cannot serve it."""
    engines, faults = [], []
    for runtime in catalog.importable():
        for one in sorted(runtime.accelerators, key=lambda one: (one.name != CPU, one.name)):
            if not one.prefers(artifact.format):
                continue
            fault = _runtime_fault(artifact, runtime, libraries)
            fault = fault or runtimes.get(runtime.name).why_not(one.name)
            if fault is None:
                engines.append(f"{runtime.name} on {one.name}")
            elif one.name == CPU:
                faults.append(f"{runtime.name}: {fault}")
    return engines, faults


def _runtime_fault(
    artifact: Artifact, runtime: RuntimeSpec, libraries: Mapping[str, Tried]
) -> str | None:
    """Why a runtime cannot execute an artifact at all; None if it can."""
    own = [tried for tried in libraries.values() if tried.runtime == runtime.name]
    if not runtime.libraries:
        return None
    working = [tried for tried in own if tried.works]
    if not working:
        broken = next((tried for tried in own if tried.fault), None)
        return f"{broken.library.project} does not load" if broken else "not installed"
    wanted = artifact.smallest_runtime.get(runtime.name)
    comparable = all(tried.library.counts_releases for tried in working)
    version = working[0].version
    if wanted and version and comparable and _numbers(version) < _numbers(wanted):
        return f"needs version {wanted}, this is {version}"
    return None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def _remedy(artifact: Artifact, libraries: Mapping[str, Tried]) -> str:
    """What to do about an artifact that cannot be served."""
    for name in catalog.made_for(artifact.format)[:1]:
        own = [tried for tried in libraries.values() if tried.runtime == name]
        if own and own[0].version is None:
            return f"run: {own[0].library.install}"
        if own:
            return "see the library above, or make the bundle again with: edgevid convert"
    return "make the bundle again with: edgevid convert"
