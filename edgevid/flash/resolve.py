"""pip as if it ran on the device: the one program here that may run in another Python.

    python resolve.py TASK.json

pip takes platform and Python of a device from options, but evaluates the markers of requirements
(``; platform_machine == "aarch64"``, ``; python_version < "3.12"``) for the machine it runs on, so
that it would leave out what only the device needs, and bring what only the host needs. Here they
are evaluated for the device. It imports nothing of edgevid, since edgevid's own Python may be
without pip.
"""

from __future__ import annotations

import email
import json
import sys
import zipfile
from pathlib import Path
from typing import Any


def _markers() -> Any:
    try:
        from pip._vendor.packaging import markers
    except ImportError:
        sys.exit("ERROR: this pip is too old; run: pip install --upgrade pip")
    if not hasattr(markers, "default_environment"):
        sys.exit("ERROR: this pip is not known; it was tried with 23.2")
    return markers


def _unmet(folder: Path, provided: list[str]) -> list[str]:
    """Which requirements of the wheels in ``folder`` no wheel there meets, and nothing provided."""
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

    found = {canonicalize_name(name) for name in provided}
    wanted = []
    for file in sorted(folder.glob("*.whl")):
        metadata = _metadata(file)
        found.add(canonicalize_name(metadata["Name"]))
        wanted += [(file.name, text) for text in metadata.get_all("Requires-Dist") or ()]
    unmet = []
    for by, text in wanted:
        requirement = Requirement(text)
        counts = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if counts and canonicalize_name(requirement.name) not in found:
            unmet.append(f"{text} (wanted by {by})")
    return unmet


def _metadata(file: Path) -> Any:
    with zipfile.ZipFile(file) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


def main() -> None:
    """Run pip with ``words``, then look whether what came is all that is needed."""
    task = json.loads(Path(sys.argv[1]).read_text())
    markers = _markers()
    markers.default_environment = lambda: dict(task["environment"])
    from pip._internal.cli.main import main as pip

    if code := pip(task["words"]):
        sys.exit(code)
    if task["folder"] and (unmet := _unmet(Path(task["folder"]), task["provided"])):
        sys.exit(f"ERROR: No matching distribution found for {unmet[0]}")


if __name__ == "__main__":
    main()
