"""A release in one file that is carried to a device by hand: ``sh FILE`` there does the rest.

It is a shell script of a few lines with a zip behind it, which Python runs: the installer, the
agent, the signed manifest and every blob. The same agent checks, stages, activates and judges as
over SSH, so the guarantees are the same.
"""

from __future__ import annotations

import json
import zipfile
from importlib import resources
from pathlib import Path

from edgevid.files import writing
from edgevid.flash.agent_client import BOOT, GATES, MARK, WRONG_USE, agent_source
from edgevid.flash.client import sign
from edgevid.flash.keys import SigningKey
from edgevid.flash.package import Package

_START = """\
#!/bin/sh
# edgevid, release {release} for {title}.
# Install it: sudo sh FILE        What it would do: sh FILE --help
command -v python3 >/dev/null || {{ echo "edgevid: there is no python3 here" >&2; exit 4; }}
exec python3 -I "$0" "$@"
exit 4
"""
_TIME = (1980, 1, 1, 0, 0, 0)  # equal packages give equal files


def write(path: Path, package: Package, key: SigningKey | None, title: str) -> str:
    """Write the archive of ``package``, whole or not at all; gives the release's name."""
    release = package.release
    signed = {
        "release": release,
        "title": title,
        "boot": BOOT,
        "mark": MARK,
        "codes": {**dict.fromkeys(sorted(GATES), 1), **dict.fromkeys(sorted(WRONG_USE), 2)},
        "signed": sign(package, key),
    }
    installer = resources.files("edgevid.flash").joinpath("installer.py").read_bytes()
    with writing(path) as part:
        part.write_text(_START.format(release=release, title=title))
        with zipfile.ZipFile(part, "a") as archive:
            _add(archive, "__main__.py", installer)
            _add(archive, "agent.py", agent_source())
            _add(archive, "signed.json", json.dumps(signed, sort_keys=True).encode())
            for sha256, blob in sorted(package.blobs.items()):
                _add(archive, f"blobs/{sha256}", blob)
        part.chmod(0o755)
    return release


def _add(archive: zipfile.ZipFile, name: str, content: Path | bytes) -> None:
    """Add a stored member; blobs are compressed already."""
    info = zipfile.ZipInfo(name, _TIME)
    if isinstance(content, bytes):
        archive.writestr(info, content)
        return
    info.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(info, "w") as member:
        while chunk := source.read(1 << 20):
            member.write(chunk)
