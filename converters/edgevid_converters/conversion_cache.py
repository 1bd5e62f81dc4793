"""What earlier conversions have computed, by the hash of everything that it depends on.

    $XDG_CACHE_HOME/edgevid/convert/<hash>/entry.json and the files of the entry

An entry's identity has the hashes of its inputs, the versions of the libraries, the processor and
the hash of edgevid's own code, so that any change makes another entry. Only the conversion itself
writes entries, never its children. Files are verified by their hashes when they are read; an entry
that does not match is removed. The entries used longest ago are removed when there are too many.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgevid
from edgevid.files import cache_folder, canonical_json, sha256_of
from edgevid.system.kernel import processor_identity
from edgevid_converters.child_process import ENVIRONMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BYTES = 4 << 30
"""Largest total size; a single entry may have a quarter of it."""
ENTRY = "entry.json"
EXTERNAL = b"location"
"""A key in every tensor of an ``.onnx`` whose values are in another file."""
PACKAGES = (
    "ai-edge-litert",
    "av",
    "keras",
    "nncf",
    "numpy",
    "onnx",
    "onnx2tf",
    "onnxruntime",
    "onnxsim",
    "openvino",
    "tensorflow",
    "tf_keras",
)
"""Packages whose version every identity has."""


@dataclass(frozen=True)
class ConversionCache:
    """The cache in one folder.

    Attributes:
        folder: Where the entries are.
        most_bytes: Largest total size.
    """

    folder: Path
    most_bytes: int = MOST_BYTES

    @classmethod
    def open(cls) -> ConversionCache | None:
        """Open the user's cache, for its owner only; None where there can be none."""
        folder = cache_folder() / "convert"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            found = folder.lstat()
        except OSError:  # a read-only home, or somebody else's folder
            return None
        own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        return cls(folder) if own else None

    def fetch(self, identity: Mapping[str, Any], into: Path | None = None) -> Any:
        """Return the value of an entry, and copy its files.

        Args:
            identity: What the entry depends on.
            into: Where its files go; None for an entry without any.

        Returns:
            The value that `store` got; None if there is no such entry, or it is damaged.
        """
        identity = _complete(identity)
        place = self.folder / _name(identity)
        try:
            entry = json.loads((place / ENTRY).read_bytes())
            if entry["identity"] != identity:
                raise ValueError(ENTRY)
            for name, digest in entry["files"].items():
                if into is None or not _below(into, name):
                    raise ValueError(name)
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(place / "files" / name, into / name)
                if sha256_of(into / name) != digest:
                    raise ValueError(name)
            os.utime(place / ENTRY)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            shutil.rmtree(place, ignore_errors=True)
            return None
        return entry["value"]

    def store(
        self,
        identity: Mapping[str, Any],
        value: Any,
        source: Path | None = None,
        files: Iterable[Path] = (),
    ) -> None:
        """Keep a value and files; a full disk or a read-only folder is no error.

        Args:
            identity: What they depend on.
            value: Plain data for JSON, not None.
            source: The folder that the files are below.
            files: Files, or folders with files.
        """
        identity = _complete(identity)
        listed = [file for path in files for file in _files(path)]
        if sum(file.stat().st_size for file in listed) > self.most_bytes // 4:
            return
        part = None
        try:
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=self.folder))
            digests = {}
            for file in listed:
                name = file.relative_to(source or file.parent).as_posix()
                copy = part / "files" / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
                digests[name] = sha256_of(copy)
            entry = {"identity": identity, "files": digests, "value": value}
            (part / ENTRY).write_bytes(canonical_json(entry))
            part.rename(self.folder / _name(identity))
            self._prune()
        except OSError:  # it is full, or another conversion was faster
            if part is not None:
                shutil.rmtree(part, ignore_errors=True)

    def _prune(self) -> None:
        """Remove what was used longest ago, and what an interrupted conversion left."""
        entries = []
        for place in self.folder.iterdir():
            with suppress(OSError):
                used = (place / ENTRY if (place / ENTRY).exists() else place).stat().st_mtime
                size = sum(file.stat().st_size for file in _files(place))
                entries.append((used, size, place))
        total = sum(size for _, size, _ in entries)
        for _, size, place in sorted(entries):
            if total <= self.most_bytes:
                break
            shutil.rmtree(place, ignore_errors=True)
            total -= size


_current: ContextVar[ConversionCache | None] = ContextVar("cache", default=None)


@contextmanager
def using(kept: ConversionCache | None) -> Iterator[None]:
    """Use a cache, or none, in this context."""
    token = _current.set(kept)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> ConversionCache | None:
    """Return the cache of this context, if any."""
    return _current.get()


def remembered(identity: Callable[[], Mapping[str, Any] | None], make: Callable[[], Any]) -> Any:
    """Return a cached value without files, or make and keep it.

    Args:
        identity: Gives what the value depends on, None if that is not known; called only where
            there is a cache.
        make: Computes the value, plain data for JSON and not None.
    """
    kept = current()
    if kept is None:
        return make()
    key = identity()
    if key is None:
        return make()
    value = kept.fetch(key)
    if value is None:
        value = make()
        kept.store(key, value)
    return value


def content_hash(*paths: Path) -> str:
    """Return one hash over files, and all files of folders, with their names below these."""
    parts = [
        (file.relative_to(path).as_posix(), sha256_of(file))
        for path in paths
        for file in _files(path)
    ]
    return sha256_of(canonical_json(parts))


def arrays_hash(*recordings: Mapping[str, NDArray[Any]]) -> str:
    """Return one hash over named arrays of any shape and dtype."""
    import hashlib

    total = hashlib.sha256()
    for number, arrays in enumerate(recordings):
        for name, values in sorted(arrays.items()):
            total.update(f"{number} {name} {values.dtype.str} {values.shape}\n".encode())
            total.update(values.tobytes())
    return total.hexdigest()


def model_hash(path: Path) -> str | None:
    """Return one hash over a model and the files that belong to it; None if these are unknown."""
    companions = [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    if path.suffix == ".onnx" and EXTERNAL in path.read_bytes():
        return None  # its weights are in other files
    return content_hash(path, *(file for file in companions if file.is_file()))


def _complete(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity with what every entry depends on."""
    whole = {**identity, "surroundings": _surroundings()}
    return dict(json.loads(canonical_json(whole)))


@cache
def _surroundings() -> str:
    """One hash over the code, the versions and the processor."""
    versions = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    roots = [Path(edgevid.__file__).parent, Path(__file__).parent]
    code = [sha256_of(file) for root in roots for file in sorted(root.rglob("*.py"))]
    return sha256_of(canonical_json([code, versions, ENVIRONMENT, processor_identity()]))


def _name(identity: Mapping[str, Any]) -> str:
    return sha256_of(canonical_json(identity))[:40]


def _below(folder: Path, name: str) -> bool:
    return folder.resolve() in (folder / name).resolve().parents


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
