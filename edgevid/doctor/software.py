"""Python and the libraries: what is installed, and whether it really loads."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata

from edgevid.doctor.check import Check, State
from edgevid.errors import EdgevidError
from edgevid.isolation.child_task import run_child
from edgevid.isolation.sandbox import LIMITS_ONLY
from edgevid.runtimes import catalog
from edgevid.runtimes.spec import Library

TRY_S = 60.0
PYTHON = ((3, 11), (3, 13))

NEEDED = (
    Library("numpy", "numpy", "numpy>=1.24"),
    Library("av", "av", "av>=10", "runner", lazy="CodecContext"),
)
"""What serving needs with any runtime."""

OPTIONAL = (Library("opencv-python-headless", "cv2", "opencv-python-headless>=4.8", "draw"),)


@dataclass(frozen=True)
class Tried:
    """The outcome of trying one library.

    Attributes:
        library: The library.
        version: Its version; None if it is not installed.
        fault: Why it does not load; None if it does.
        runtime: The runtime that it provides; None if it provides none.
        needed: Whether nothing can be served without it.
        preferred: Whether it is the library to install for its runtime.
    """

    library: Library
    version: str | None
    fault: str | None = None
    runtime: str | None = None
    needed: bool = False
    preferred: bool = False

    @property
    def works(self) -> bool:
        """Whether it is installed and its native code loads."""
        return self.version is not None and self.fault is None


def candidates() -> list[Tried]:
    """Every library to try, as if none were installed."""
    found = [Tried(one, None, needed=True) for one in NEEDED]
    for runtime in catalog.importable():
        for one in runtime.libraries:
            preferred = one is runtime.libraries[0]
            found.append(Tried(one, None, runtime=runtime.name, preferred=preferred))
    return found + [Tried(one, None) for one in OPTIONAL]


def try_all() -> dict[str, Tried]:
    """Try every library in a process of its own; the keys are the names of the distributions."""
    return {one.library.project: attempt(one) for one in candidates()}


def attempt(candidate: Tried) -> Tried:
    """Import a library in a process of its own, if it is installed."""
    library, fault = candidate.library, None
    version = installed(library.project)
    if version is not None:
        task = {"module": library.module, "lazy": library.lazy, "timeout_s": TRY_S}
        try:
            outcome = run_child("edgevid.doctor.probe", task, TRY_S, LIMITS_ONLY)
            fault = outcome.describe(TRY_S) if outcome.result() is None else None
        except EdgevidError as error:
            fault = str(error)
    return replace(candidate, version=version, fault=fault)


def installed(project: str) -> str | None:
    """The version of an installed distribution by its metadata; None if it is not installed."""
    try:
        return metadata.version(project)
    except metadata.PackageNotFoundError:
        return None


def checks(libraries: Mapping[str, Tried]) -> Iterator[Check]:
    """Check Python and the libraries.

    Args:
        libraries: The libraries that were tried, by the name of their distribution.

    Yields:
        One check for Python, one for each library, and one for the runtimes together.
    """
    yield _python()
    served = {tried.runtime for tried in libraries.values() if tried.works and tried.runtime}
    for tried in libraries.values():
        yield _library(tried, libraries, served)
    found = ", ".join(sorted(served)) or "none works"
    preferred = [tried for tried in libraries.values() if tried.preferred]
    do = "" if served or not preferred else f"run: {preferred[0].library.install}"
    yield Check("runtimes", found, "ok" if served else "fail", do)


def _python() -> Check:
    found = platform.python_version()
    if PYTHON[0] <= sys.version_info[:2] <= PYTHON[1]:
        return Check("python", found)
    return Check("python", found, "warn", "untested; use Python 3.11 to 3.13")


def _library(tried: Tried, others: Mapping[str, Tried], served: set[str]) -> Check:
    library = tried.library
    if tried.version is None:
        state: State = "fail" if tried.needed else "ok"
        want = tried.needed or (tried.preferred and tried.runtime not in served)
        return Check(
            library.project, "not installed", state, f"run: {library.install}" if want else ""
        )
    if tried.fault is None:
        return Check(library.project, tried.version)
    state = "fail" if tried.needed or (tried.runtime and not served) else "warn"
    found = f"{tried.version} does not load: {tried.fault}"
    return Check(library.project, found, state, _remedy(tried, others))


def _remedy(tried: Tried, others: Mapping[str, Tried]) -> str:
    """What to do about a library that does not load."""
    for project, limit in tried.library.below.items():
        version = others[project].version if project in others else installed(project)
        if version and _numbers(version) >= _numbers(limit):
            return f"it needs an older {project}; run: pip install '{project}<{limit}'"
    return f"run: pip install --force-reinstall {tried.library.project}=={tried.version}"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]
