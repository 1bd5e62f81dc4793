"""A release in one file that is carried to a device by hand.

The file is a shell script of a few lines followed by a zip: the agent, the signed manifest and
every blob. A device that has edgevid installs it with its own agent, which reads the file as data:
``python3 -I /opt/edgevid/current/agent.py install FILE``. A first installation runs the file,
``sh FILE``, which is its author's code; so it comes with a detached signature, ``FILE.sig``,
which ``ssh-keygen -Y verify`` checks before. The same agent checks, stages, activates and judges as
over SSH, so the guarantees are the same.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Any

from edgevid import targets
from edgevid.errors import BadInput
from edgevid.files import writing
from edgevid.flash import plan
from edgevid.flash.agent import service
from edgevid.flash.agent.statement import ANY, ARCHIVE, IDENTITY
from edgevid.flash.agent_client import agent_source
from edgevid.flash.device_facts import DeviceFacts
from edgevid.flash.installed import Installed
from edgevid.flash.keys import SigningKey
from edgevid.flash.package import Package, build
from edgevid.flash.request import DeployOptions, DeployRequest
from edgevid.flash.signed_request import sign
from edgevid.targets import Target

_START = """\
#!/bin/sh
# edgevid, release {release} for {title}.
# Where edgevid is installed: sudo python3 -I /opt/edgevid/current/agent.py install FILE
# First installation: check the signature (edgevid flash --archive shows how), then: sudo sh FILE
command -v python3 >/dev/null || {{ echo "edgevid: python3 is not installed" >&2; exit 4; }}
exec python3 -I "$0" "$@"
exit 4
"""
_TIME = (1980, 1, 1, 0, 0, 0)  # equal packages give equal files


def make(
    file: Path, request: DeployRequest, options: DeployOptions, python: str | None = None
) -> dict[str, Any]:
    """Write an installer for a device that is not connected and known only by its kind.

    Args:
        file: The installer.
        request: What the device is to serve; it must have a ``kind``.
        options: How to sign and report.
        python: The device's version of Python, as in ``3.11``; None: the oldest of the target.

    Raises:
        BadInput: The kind is missing or too vague, or the package cannot be made.
    """
    if request.kind is None:
        raise BadInput("give the kind of device for the archive with --kind; see: edgevid targets")
    target = targets.load(request.kind)
    facts = assumed(target, python)
    config = plan.service_of(None, request, Installed(), options)
    if config.credentials:
        names = ", ".join(config.credentials)
        options.log(f"the file contains no passwords; the installation asks for: {names}")
    package = build(
        facts,
        request.adapt(target),
        config.bundles,
        config.text,
        plugins=request.wheels,
        progress=options.progress,
        log=options.log,
    )
    one = options.device or ANY
    release = write(file, package, options.signer(), target.title, one, options.allow_downgrade)
    size = file.stat().st_size
    return {"archive": str(file), "release": release, "target": target.name, "bytes": size}


def signature(file: Path, key: SigningKey) -> bytes:
    """Sign the file, for ``ssh-keygen -Y verify``.

    Args:
        file: The file.
        key: The key that signs.

    Returns:
        The signature.

    Raises:
        BadInput: The key cannot be used.
    """
    with file.open("rb") as content:
        return key.sign(content, ARCHIVE)


def instructions(name: str, root: str | None) -> list[str]:
    """Return lines that explain how to install the file on a device.

    Args:
        name: The file's name there.
        root: edgevid's folder there; None: the usual one.
    """
    file, place = quote(name), PurePosixPath(root or service.SYSTEM_FOLDER)
    more = f" --root {quote(root)}" if root else ""
    agent = quote(str(place / "current" / "agent.py"))
    return [
        "on a device that has edgevid:",
        f"  sudo python3 -I {agent} install {file}{more}",
        "first installation, with signers from: edgevid keys --allowed-signers signers",
        f"  ssh-keygen -Y verify -f signers -I {IDENTITY} -n {ARCHIVE} -s {quote(f'{name}.sig')} "
        f"< {file} && sudo sh {file}{more}",
    ]


def assumed(target: Target, python: str | None) -> DeviceFacts:
    """The least facts of a device of this kind; its agent checks them.

    Raises:
        BadInput: The target does not have that Python, or is not of one architecture.
    """
    version = python or target.python[0]
    if version not in target.python:
        raise BadInput(f"{target.name} has Python {', '.join(target.python)}, not {version}")
    if target.architecture == "any":
        raise BadInput(f"{target.name} is any machine; name a kind with an architecture")
    modules: Mapping[str, str] = {one.module: one.least for one in target.distribution}
    return DeviceFacts(
        architecture=target.architecture,
        glibc=target.glibc or "2.17",
        python=tuple(int(part) for part in version.split(".")),
        modules=modules,
        ssh_keygen=True,
    )


def write(
    path: Path,
    package: Package,
    key: SigningKey,
    title: str,
    device: str = ANY,
    reset_floor: bool = False,
) -> str:
    """Write the installer of a package, whole or not at all.

    Args:
        path: The installer.
        package: The package.
        key: The key that signs.
        title: What the device is called in the installer's texts.
        device: The id of the device that it is for, or ``any``: every device of its target.
        reset_floor: As for `signed_request.sign`.

    Returns:
        The release's name.

    Raises:
        BadInput: The key cannot be used, or a downgrade is permitted to any device.
    """
    release = package.release
    about = {
        "release": release,
        "title": title,
        "signed": sign(package, key, device=device, reset_floor=reset_floor),
    }
    installer = resources.files("edgevid.flash").joinpath("installer.py").read_bytes()
    with writing(path) as part:
        part.write_text(_START.format(release=release, title=title))
        with zipfile.ZipFile(part, "a") as archive:
            _add(archive, "__main__.py", installer)
            _add(archive, "agent.py", agent_source())
            _add(archive, "release.json", json.dumps(about, sort_keys=True).encode())
            for sha256, blob in sorted(package.blobs.items()):
                _add(archive, f"blobs/{sha256}", blob)
        part.chmod(0o755)
    return release


def _add(archive: zipfile.ZipFile, name: str, content: Path | bytes) -> None:
    """Add a member uncompressed; blobs are compressed already."""
    info = zipfile.ZipInfo(name, _TIME)
    if isinstance(content, bytes):
        archive.writestr(info, content)
        return
    info.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(info, "w") as member:
        while chunk := source.read(1 << 20):
            member.write(chunk)
