"""Python and the libraries: what is installed, and whether it really loads."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from edgevid.doctor.check import Check, State
from edgevid.errors import EdgevidError
from edgevid.proof.child import run_child

TRY_S = 60.0
PYTHON = ((3, 11), (3, 13))


@dataclass(frozen=True)
class Library:
    """One library: its distribution, what of it is imported, and what it is needed for."""

    package: str
    module: str
    install: str
    runtime: str | None = None
    needed: bool = False


LIBRARIES = (
    Library("numpy", "numpy", "pip install 'numpy>=1.24'", needed=True),
    Library("av", "av", "pip install 'edgevid[runner]'", needed=True),
    Library(
        "ai-edge-litert", "ai_edge_litert.interpreter", "pip install 'edgevid[runner]'", "tflite"
    ),
    Library("tflite-runtime", "tflite_runtime.interpreter", "pip install tflite-runtime", "tflite"),
    Library("openvino", "openvino", "pip install 'edgevid[openvino]'", "openvino"),
    Library("opencv-python-headless", "cv2", "pip install 'edgevid[draw]'"),
)


@dataclass(frozen=True)
class Tried:
    """What became of a library: its version (None: not installed), and why it does not load."""

    library: Library
    version: str | None
    fault: str | None = None

    @property
    def works(self) -> bool:
        """Installed, and its native parts load."""
        return self.version is not None and self.fault is None


def try_all() -> dict[str, Tried]:
    """Try every library in a process of its own, by the name of its package."""
    return {library.package: _try(library) for library in LIBRARIES}


def _try(library: Library) -> Tried:
    version = installed(library.package)
    if version is None:
        return Tried(library, None)
    try:
        outcome = run_child(
            "edgevid.doctor.probe", {"module": library.module, "timeout_s": TRY_S}, TRY_S
        )
        answer = outcome.answer()
    except EdgevidError as error:
        return Tried(library, version, str(error))
    fault = outcome.describe(TRY_S) if answer is None else None
    return Tried(library, version, fault)


def installed(package: str) -> str | None:
    """The version of an installed distribution, by its metadata; None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def checks(libraries: Mapping[str, Tried]) -> Iterator[Check]:
    """Look at Python and at what was tried."""
    yield _python()
    served = {t.library.runtime for t in libraries.values() if t.works and t.library.runtime}
    for tried in libraries.values():
        yield _library(tried, libraries, served)
    found = ", ".join(sorted(served)) or "none works"
    do = "" if served else "run: pip install 'edgevid[runner]'"
    yield Check("runtimes", found, "ok" if served else "fail", do)


def _python() -> Check:
    found = platform.python_version()
    if PYTHON[0] <= sys.version_info[:2] <= PYTHON[1]:
        return Check("python", found)
    return Check("python", found, "warn", "untried; use Python 3.11 to 3.13")


def _library(tried: Tried, others: Mapping[str, Tried], served: set[str]) -> Check:
    library = tried.library
    spare = library.runtime is not None and bool(served - {None})
    if tried.version is None:
        state: State = "fail" if library.needed else "ok"
        want = library.needed or (library.runtime is not None and library.runtime not in served)
        do = f"run: {library.install}" if want and library.package != "tflite-runtime" else ""
        return Check(library.package, "not installed", state, do)
    if tried.fault is None:
        return Check(library.package, tried.version)
    numpy = others["numpy"].version or ""
    do = f"run: pip install --force-reinstall {library.package}=={tried.version}"
    if library.package == "tflite-runtime" and int(numpy.partition(".")[0] or 0) >= 2:
        do = "it needs an older numpy; run: pip install 'numpy<2'"
    state = "fail" if library.needed or (library.runtime and not spare) else "warn"
    return Check(library.package, f"{tried.version} does not load: {tried.fault}", state, do)
