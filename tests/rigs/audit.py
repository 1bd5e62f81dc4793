"""What must be true of edgevid's folder on a device, whatever happened to it: a whole one serves.

Nothing is taken from the agent's own word: every byte is hashed again, here.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Release:
    """What serves, as its manifest says."""

    name: str
    manifest: dict[str, Any]

    @property
    def keys(self) -> set[str]:
        """The keys of its bundles, which the runner tells too."""
        return {bundle["key"] for bundle in self.manifest["bundles"]}


def current(root: Path) -> str | None:
    """The release that the link names."""
    try:
        return (root / "current").readlink().name
    except FileNotFoundError:
        return None


def whole(root: Path) -> Release | None:
    """Give the release that serves, after looking at each of its bytes; None where none does."""
    name = current(root)
    if name is None:
        return None
    folder = root / "releases" / name
    text = (folder / "manifest.json").read_bytes()
    assert hashlib.sha256(text).hexdigest()[:16] == name
    _signed(root, folder, text)
    manifest = json.loads(text)
    for bundle in manifest["bundles"]:
        _same(folder / "bundles" / bundle["name"], bundle)
    _same(folder / "site.toml", manifest["site"])
    _same(folder / "agent.py", manifest["agent"])
    lib = root / "runners" / manifest["runner"]["id"] / "lib"
    for wheel in manifest["runner"]["wheels"]:
        blob = root / "blobs" / wheel["sha256"]
        _same(blob, wheel)
        _unpacked(blob, lib)
    return Release(name, manifest)


def _same(path: Path, wanted: dict[str, Any]) -> None:
    assert path.stat().st_size == wanted["size"], path
    assert _sha256(path) == wanted["sha256"], path


def _unpacked(blob: Path, lib: Path) -> None:
    for name, sha256 in _members(blob.name, blob).items():
        assert _sha256(lib / name) == sha256, name


_known: dict[str, dict[str, str]] = {}


def _members(sha256: str, blob: Path) -> dict[str, str]:
    """The hash of each file of a wheel, which was found to be the one with that hash."""
    if sha256 not in _known:
        with zipfile.ZipFile(blob) as wheel:
            files = [n for n in wheel.namelist() if not n.endswith("/") and ".data/" not in n]
            _known[sha256] = {n: hashlib.sha256(wheel.read(n)).hexdigest() for n in files}
    return _known[sha256]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _signed(root: Path, folder: Path, text: bytes) -> None:
    signed = json.loads((folder / "manifest.sig").read_text())
    assert json.loads(signed["statement"])["sha256"] == hashlib.sha256(text).hexdigest()
    with tempfile.NamedTemporaryFile("w") as signature:
        signature.write(signed["signature"])
        signature.flush()
        who = ["-I", "edgevid", "-n", "edgevid-release", "-s", signature.name]
        who += ["-f", root / "trusted" / "allowed_signers"]
        said = signed["statement"].encode()
        done = subprocess.run(["ssh-keygen", "-Y", "verify", *who], input=said, capture_output=True)
    assert done.returncode == 0, done.stderr
