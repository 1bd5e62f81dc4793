"""Wheels resolved with pip, for platforms that uv does not know (32-bit ARM).

pip takes the platform from options but evaluates markers for the machine it runs on, so it is asked
for single projects only, and what they depend on is read from their metadata here.
"""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput, EnvironmentFailed, shorten
from edgevid.flash.wheels import Wheel, WheelRequest, no_index, no_wheel, read_wheel
from edgevid.isolation.process import die_with_parent
from edgevid.progress import Progress
from edgevid.registry import need

_NO_NETWORK = re.compile(
    r"Retrying|connection broken|NewConnectionError|ConnectTimeout|ProxyError|SSLError"
    r"|Temporary failure|Could not fetch URL",
    re.IGNORECASE,
)
_ERROR = re.compile(r"^(?:ERROR: )(.*)$", re.MULTILINE)
_NOT_FOUND = re.compile(r"No matching distribution found for (\S[^\n(]*)")


def resolve(
    request: WheelRequest, kept: Path, part: Path, progress: Progress, constraints: str = ""
) -> list[Wheel]:
    """Resolve a request into ``part``: each project's newest wheel that fits.

    Args:
        request: The requirements and the device.
        kept: The folder of wheels, in which pip looks, too.
        part: The folder for the wheels.
        progress: Receives the number of wheels downloaded.
        constraints: Versions of projects, as pip takes constraints.

    Returns:
        The wheels, whose files are in ``part``.

    Raises:
        BadInput: There is no wheel of a requirement for such a device, or no pip.
        EnvironmentFailed: The package index cannot be reached.
    """
    missing = list(request.requirements)
    limits = part / "constraints.txt"
    limits.write_text(constraints)
    while missing:
        args = ["--no-deps", "--constraint", str(limits), *missing]
        _download(request, args, kept, part, progress)
        before, missing = missing, _unmet(request, part)
        if missing == before:
            raise no_wheel(missing[0], request)
    return [read_wheel(file) for file in sorted(part.glob("*.whl"))]


def download(
    request: WheelRequest, wheels: Sequence[Wheel], kept: Path, part: Path, progress: Progress
) -> None:
    """Download locked wheels into ``part`` again.

    Raises:
        EnvironmentFailed: A wheel cannot be downloaded, or is not the one that was locked.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for wheel in wheels:
            file.write(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        file.flush()
        args = ["--no-deps", "--require-hashes", "--requirement", file.name]
        _download(request, args, kept, part, progress)


def environment(request: WheelRequest) -> dict[str, str]:
    """The values of environment markers on the device."""
    full = f"{request.python}.0"  # the first release needs the most back-ports
    return {
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": request.architecture,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full,
        "python_version": request.python,
        "sys_platform": "linux",
        "extra": "",
    }


def _unmet(request: WheelRequest, part: Path) -> list[str]:
    """The requirements of the wheels in ``part`` that are neither there nor provided."""
    requirements = need("packaging.requirements", "flash")
    canonical = need("packaging.utils", "flash").canonicalize_name
    markers = environment(request)
    found = {canonical(name) for name in request.provided}
    wanted: list[str] = []
    for file in sorted(part.glob("*.whl")):
        metadata = _metadata(file)
        found.add(canonical(metadata["Name"]))
        wanted += metadata.get_all("Requires-Dist") or ()
    unmet = {}
    for text in wanted:
        one = requirements.Requirement(text)
        applies = one.marker is None or one.marker.evaluate(markers)
        if applies and canonical(one.name) not in found:
            unmet[canonical(one.name)] = f"{one.name}{one.specifier}"
    return sorted(unmet.values())


def _metadata(file: Path) -> Any:
    with zipfile.ZipFile(file) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


def _download(
    request: WheelRequest, args: Sequence[str], kept: Path, part: Path, progress: Progress
) -> None:
    command = [_python(), "-I", "-m", "pip", "download", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--retries=1"]
    command += [f"--dest={part}", f"--find-links={kept}"]
    command += ["--implementation=cp", f"--python-version={request.python}"]
    command += [f"--abi={abi}" for abi in (f"cp{request.python.replace('.', '')}", "abi3", "none")]
    command += [f"--platform={tag}" for tag in request.platforms]
    output, code = _run([*command, *args], progress)
    if code:
        raise _fault(request, output)


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
    raise BadInput(
        "wheels for this device are downloaded with pip, which is not installed; "
        "run: python -m ensurepip"
    )


def _run(command: list[str], progress: Progress) -> tuple[str, int]:
    """Run pip; give its output and its exit code."""
    lines: list[str] = []
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
            lines.append(line)
            if line.startswith("Collecting "):
                found += 1
                progress("wheels", found, found + 1, line.split()[1])
    if not child.returncode:
        progress("wheels", max(found, 1), max(found, 1))
    return "".join(lines), child.returncode


def _fault(request: WheelRequest, output: str) -> BadInput | EnvironmentFailed:
    missing = _NOT_FOUND.findall(output)
    what = missing[-1].strip() if missing else None
    if _NO_NETWORK.search(output):
        return no_index(what or request.requirements[0], request)
    if what:
        return no_wheel(what, request)
    last = (_ERROR.findall(output) or output.strip().splitlines() or ["no reason given"])[-1]
    return EnvironmentFailed(f"pip could not download wheels for {request}: {shorten(last)}")
