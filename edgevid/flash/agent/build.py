"""From blobs to a release that could serve: unpacked wheels, linked files, all of it durable."""

from __future__ import annotations

import compileall
import json
import os
import py_compile
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from . import disk
from .manifest import Manifest
from .store import Store, blob_of, extent
from .transport import Refused


def runner(store: Store, one: Manifest, say: Callable[[str], None], compiled: bool = True) -> None:
    """Unpack the wheels, unless they are there already; then mark the folder as whole.

    Not ``compiled``: whoever imports keeps what is compiled elsewhere.
    """
    if store.has_runner(one.runner):
        return
    folder = store.runners / one.runner
    part, old = disk.aside(folder), folder.with_name(f".{one.runner}.old")
    disk.remove(part)
    lib = part / "lib"
    lib.mkdir(parents=True)
    for wheel in one.wheels:
        say(f"unpacking {wheel.name}")
        _unpack(store.blobs / wheel.sha256, wheel.name, lib)
    if compiled:
        say("compiling")
        _compile(lib, store.lib(one.runner))
    say("writing to the disk")
    disk.sync_tree(part)
    disk.write_whole(part / ".complete", json.dumps(extent(lib)).encode())
    if folder.exists():  # damaged; who runs from it keeps its open files
        disk.remove(old)
        folder.rename(old)
    part.rename(folder)
    disk.sync_folder(store.runners)
    disk.remove(old)


def _compile(lib: Path, destination: Path) -> None:
    """The service may not write there; and hashes, since the times of unpacked files mean nothing.

    ``destination`` is where ``lib`` will be.
    """
    compileall.compile_dir(
        str(lib),
        maxlevels=20,
        quiet=2,
        ddir=str(destination),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _unpack(wheel: Path, name: str, lib: Path) -> None:
    try:
        with zipfile.ZipFile(str(wheel)) as archive:
            for member in archive.infolist():
                inside = _inside(member, name)
                if inside is not None:
                    _write(archive, member, lib / inside)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        raise Refused(
            "package", f"{name} cannot be unpacked: {error}", "make the package again"
        ) from None


def _inside(member: zipfile.ZipInfo, name: str) -> str | None:
    """Where a member goes below ``lib``; None where nothing is to be written."""
    path = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    outside = path.is_absolute() or ".." in path.parts or "\\" in member.filename
    if outside or "\0" in member.filename or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused(
            "package",
            f"{name} holds {member.filename!r}, which would lie outside",
            "make the package again, from wheels of their makers",
        )
    if member.filename.endswith("/") or not path.parts:
        return None
    if path.parts[0].endswith(".data"):  # of a wheel: the part that is imported
        if len(path.parts) < 3 or path.parts[1] not in ("purelib", "platlib"):
            return None
        path = PurePosixPath(*path.parts[2:])
    return str(path)


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    path.chmod(0o755 if (member.external_attr >> 16) & 0o100 else 0o644)


def release(store: Store, one: Manifest, signature: str, say: Callable[[str], None]) -> None:
    """Make the release's folder as the manifest says, or fix one in which something is wrong."""
    folder = store.release(one.id)
    part = folder if folder.is_dir() else disk.aside(folder)
    if part is not folder:
        disk.remove(part)
        (part / "bundles").mkdir(parents=True)
    say("linking")
    for file in one.files():
        path = part / file.name
        if not blob_of(path, file):
            disk.hard_link(store.blobs / file.sha256, path)
    (part / "bundles").chmod(0o755)
    disk.write_whole(part / "manifest.sig", signature.encode())
    disk.write_whole(part / "manifest.json", one.text)
    disk.sync_tree(part)
    if part is not folder:
        part.chmod(0o755)
        part.rename(folder)
    disk.sync_folder(store.releases)
    os.stat(str(folder / "manifest.json"))
