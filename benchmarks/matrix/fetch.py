"""Models inside packages: downloaded by name into a cache outside the tree, never installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(os.environ.get("EDGEVID_RIGS", "/var/tmp/edgevid-rigs")) / "matrix"
HUMAN = "npm:@vladmandic/human@3.3.6"
"""MIT; the origin of the single models inside is not stated."""


def member(package: str, path: str) -> Path:
    """Fetch one file of a package.

    Args:
        package: ``pypi:NAME==VERSION`` or ``npm:NAME@VERSION``.
        path: The file's path inside the wheel, source archive or npm package.

    Returns:
        The file, below the cache.

    Raises:
        subprocess.CalledProcessError: The package cannot be downloaded.
        KeyError: The package has no such file.
    """
    folder = CACHE / package.replace("/", "_").replace(":", "_")
    kept = folder / path
    if kept.is_file():
        return kept
    with tempfile.TemporaryDirectory() as place:
        content = _read(_download(package, Path(place)), path)
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(kept)
    return kept


def _download(package: str, place: Path) -> Path:
    registry, _, name = package.partition(":")
    if registry == "npm":
        command = ["npm", "pack", "--silent", name]
    else:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary"]
        command += [":none:", name]
    subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
    (archive,) = place.iterdir()
    return archive


def _read(archive: Path, path: str) -> bytes:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            return opened.read(path)
    with tarfile.open(archive) as packed:
        found = packed.extractfile(path)
        if found is None:
            raise KeyError(path)
        return found.read()
