"""The manifest of a release: what it consists of."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, NamedTuple

from .transport import Refused

FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{8,64}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!-]{0,199}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_NODE = re.compile(r"(/dev/[A-Za-z0-9_/.*?\[\]-]+|(char|block)-[A-Za-z0-9_*-]+)")


class Blob(NamedTuple):
    """One file of a release."""

    name: str
    sha256: str
    size: int


class Manifest(NamedTuple):
    """A manifest; `edgevid.flash.package` documents the fields."""

    text: bytes
    serial: int
    architecture: str
    python: str
    glibc: str
    target: str
    edgevid: str
    runner: str
    wheels: tuple[Blob, ...]
    packages: tuple[str, ...]
    unpacked_bytes: int
    bundles: tuple[Blob, ...]
    keys: dict[str, str]
    site: Blob
    agent: Blob
    user: str
    groups: tuple[str, ...]
    devices: tuple[str, ...]
    udev: tuple[str, ...]
    memory_mb: int

    @property
    def id(self) -> str:
        """The release's name."""
        return hashlib.sha256(self.text).hexdigest()[:16]

    def blobs(self) -> dict[str, int]:
        """The size of every file of the release, by its sha256."""
        return {blob.sha256: blob.size for blob in [*self.wheels, *self.files()]}

    def files(self) -> list[Blob]:
        """The files in the release's own folder; names are paths in it."""
        bundles = [blob._replace(name=f"bundles/{blob.name}") for blob in self.bundles]
        return [*bundles, self.site, self.agent]


def read(text: bytes) -> Manifest:
    """Parse a manifest.

    Args:
        text: Its text.

    Returns:
        The manifest.

    Raises:
        Refused: It is invalid, or of a format that this agent does not know.
    """
    try:
        data = json.loads(text.decode())
        version = data["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("manifest", "the manifest cannot be read", "make the package again") from None
    if version != FORMAT:
        raise Refused(
            "manifest",
            f"the manifest has format {version!r}, this agent knows {FORMAT}",
            "use the same version of edgevid on both sides",
        )
    try:
        return _read(text, data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(
            "manifest", f"the manifest is invalid: {error!r}", "make the package again"
        ) from None


def _read(text: bytes, data: dict[str, Any]) -> Manifest:
    runner, service = data["runner"], data.get("service") or {}
    bundles = [_bundle(one) for one in data["bundles"]]
    wheels = tuple(_blob(one, one["name"]) for one in runner["wheels"])
    names = [blob.name for blob in bundles]
    if len(set(names)) != len(names):
        raise ValueError("two bundles have the same name")
    return Manifest(
        text=text,
        serial=int(data["serial"]),
        architecture=str(data["architecture"]),
        python=str(data["python"]),
        glibc=str(data.get("glibc") or ""),
        target=str(data.get("target") or ""),
        edgevid=str(data.get("edgevid") or ""),
        runner=_word(_ID, runner["id"]),
        wheels=wheels,
        packages=tuple(_word(_WORD, one) for one in runner.get("packages") or ()),
        unpacked_bytes=int(runner.get("unpacked_bytes") or 4 * sum(wheel.size for wheel in wheels)),
        bundles=tuple(bundles),
        keys={str(one["name"]): str(one.get("key") or "") for one in data["bundles"]},
        site=_blob(data["site"], "site.toml"),
        agent=_blob(data["agent"], "agent.py"),
        user=_word(_WORD, service.get("user") or "edgevid"),
        groups=tuple(_word(_WORD, one) for one in service.get("groups") or ()),
        devices=tuple(_word(_NODE, one) for one in service.get("devices") or ()),
        udev=tuple(_line(one) for one in data.get("udev") or ()),
        memory_mb=int((data.get("limits") or {}).get("memory_mb") or 0),
    )


def _word(pattern: Any, value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value) or "/.." in value:
        raise ValueError(f"{value!r} cannot be a name")
    return value


def _line(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{value!r} is not a line of text")
    return value


def _blob(data: dict[str, Any], name: Any) -> Blob:
    size = data["size"]
    if type(size) is not int or size < 0:
        raise ValueError(f"{size!r} is not a size")
    return Blob(_word(_FILE, name), _word(_SHA256, data["sha256"]), size)


def _bundle(data: dict[str, Any]) -> Blob:
    name = data["name"]
    return _blob(data, name if str(name).endswith(".edgevid") else f"{name}.edgevid")


def is_id(text: str) -> bool:
    """Whether a text can be the name of a release."""
    return bool(_ID.fullmatch(text))
