"""Models inside packages: downloaded by name into a cache outside the tree, never installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(os.environ.get("EDGEVID_RIGS", "/var/tmp/edgevid-rigs")) / "matrix"
HUMAN = "npm:@vladmandic/human@3.3.6"
"""MIT; the origin of the single models inside is not stated."""


def member(package: str, path: str) -> Path:
    """Fetch one file of a package: `members` of one path."""
    (kept,) = members(package, [path])
    return kept


def members(package: str, paths: Sequence[str]) -> list[Path]:
    """Fetch files of a package, which is downloaded once if any of them isn't in the cache.

    Args:
        package: ``pypi:NAME==VERSION``, ``npm:NAME@VERSION``, or ``debian-source:NAME=VERSION`` for
            the archive that Debian builds a package from.
        paths: The files' paths inside the wheel, npm package or source archive.

    Returns:
        The files, below the cache.

    Raises:
        subprocess.CalledProcessError: The package cannot be downloaded.
        KeyError: The package has no such file.
    """
    folder = CACHE / package.replace("/", "_").replace(":", "_")
    missing = [path for path in paths if not (folder / path).is_file()]
    if missing:
        with tempfile.TemporaryDirectory() as place:
            archive = _download(package, Path(place))
            for path in missing:
                _keep(folder / path, _read(archive, path))
    return [folder / path for path in paths]


def _keep(kept: Path, content: bytes) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(kept)


def _download(package: str, place: Path) -> Path:
    registry, _, name = package.partition(":")
    if registry == "debian-source":
        return _debian_source(name, place)
    if registry == "npm":
        command = ["npm", "pack", "--silent", name]
    else:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary"]
        command += [":none:", name]
    subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
    (archive,) = place.iterdir()
    return archive


def _debian_source(name: str, place: Path) -> Path:
    """Download a source archive with lists of our own; the system's apt stays as it is."""
    parts, out = place / "parts", place / "out"
    for folder in (parts, out, place / "lists/partial", place / "cache/archives/partial"):
        folder.mkdir(parents=True)
    apt = Path("/etc/apt")
    for given in [apt / "sources.list", *apt.glob("sources.list.d/*")]:
        if given.suffix in (".list", ".sources") and given.is_file():
            text = re.sub(r"^(Types: *)?deb(?= |$)", r"\1deb-src", given.read_text(), flags=re.M)
            (parts / given.name).write_text(text)
    options = ["-q", "-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={parts}"]
    options += ["-o", f"Dir::State::Lists={place / 'lists'}", "-o", f"Dir::Cache={place / 'cache'}"]
    for command in (["update"], ["source", "--download-only", "--tar-only", name]):
        subprocess.run(
            ["apt-get", *options, *command], cwd=out, check=True, stdout=subprocess.DEVNULL
        )
    (archive,) = out.iterdir()
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
