"""Builds a release from blobs: unpacked wheels and linked files, all of it durable."""

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

from . import disk, integrity
from .manifest import Manifest
from .store import Store, blob_of, extent
from .transport import Refused


def runner(
    store: Store, manifest: Manifest, report: Callable[[str], None], compiled: bool = True
) -> None:
    """Unpack the wheels of a release, unless they are unpacked; then mark the folder as whole.

    Args:
        store: the device's folder.
        manifest: the release.
        report: receives lines of progress.
        compiled: whether to compile the modules, for a service that may not write there.
    """
    if store.has_runner(manifest.runner) and not integrity.runner_fault(store, manifest.runner):
        return
    folder = store.runners / manifest.runner
    part, old = disk.aside(folder), folder.with_name(f".{manifest.runner}.old")
    disk.remove(part)
    lib = part / "lib"
    lib.mkdir(parents=True)
    for wheel in manifest.wheels:
        report(f"unpacking {wheel.name}")
        _unpack(store.blobs / wheel.sha256, wheel.name, lib)
    if compiled:
        report("compiling")
        _compile(lib, store.lib(manifest.runner))
    report("writing to the disk")
    disk.sync_tree(part)
    integrity.note_runner(store, manifest.runner, lib)
    disk.write_whole(part / ".complete", json.dumps(extent(lib)).encode())
    if folder.exists():  # damaged; a process that runs from it keeps its open files
        disk.remove(old)
        folder.rename(old)
    part.rename(folder)
    disk.sync_folder(store.runners)
    disk.remove(old)


def _compile(lib: Path, destination: Path) -> None:
    """Compile all modules, with hashes, since the times of unpacked files mean nothing.

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
    """The path of a member below ``lib``; None if it is not to be written."""
    path = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    outside = path.is_absolute() or ".." in path.parts or "\\" in member.filename
    if outside or "\0" in member.filename or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused(
            "package",
            f"{name} holds {member.filename!r}, which would be written outside",
            "make the package again, from the original wheels",
        )
    if member.filename.endswith("/") or not path.parts:
        return None
    if path.parts[0].endswith(".data"):  # of a wheel only the part that can be imported
        if len(path.parts) < 3 or path.parts[1] not in ("purelib", "platlib"):
            return None
        path = PurePosixPath(*path.parts[2:])
    return str(path)


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    path.chmod(0o755 if (member.external_attr >> 16) & 0o100 else 0o644)


def release(
    store: Store, manifest: Manifest, signed: dict[str, str], report: Callable[[str], None]
) -> None:
    """Make the release's folder as the manifest says, or repair one that is damaged.

    Args:
        store: the device's folder.
        manifest: the release.
        signed: the signed ``statement`` and its ``signature``.
        report: receives lines of progress.
    """
    folder = store.release(manifest.id)
    part = folder if folder.is_dir() else disk.aside(folder)
    if part is not folder:
        disk.remove(part)
        (part / "bundles").mkdir(parents=True)
    report("linking")
    for file in manifest.files():
        path = part / file.name
        if not blob_of(path, file):
            disk.hard_link(store.blobs / file.sha256, path)
    (part / "bundles").chmod(0o755)
    disk.write_whole(part / "manifest.sig", json.dumps(signed, sort_keys=True).encode())
    disk.write_whole(part / "manifest.json", manifest.text)
    disk.sync_tree(part)
    if part is not folder:
        part.chmod(0o755)
        part.rename(folder)
    disk.sync_folder(store.releases)
    os.stat(str(folder / "manifest.json"))
