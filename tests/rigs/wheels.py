"""Wheels made here, for a package index that is a folder."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    tag: str = "py3-none-any",
    requires: Iterable[str] = (),
    members: Iterable[str] | Mapping[str, str] = (),
) -> Path:
    """Write a wheel with a module of its name; ``members`` are more files, or their names."""
    module = name.replace("-", "_")
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {text}" for text in requires]
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": f"version = {version!r}\n",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        **(members if isinstance(members, Mapping) else dict.fromkeys(members, "x")),
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in (*files.items(), (f"{info}/RECORD", record)):
            wheel.writestr(zipfile.ZipInfo(member), text)
    return path
