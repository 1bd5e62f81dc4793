"""What a release consists of, as its signed manifest says."""

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
    """A manifest that was read; its fields are what the package said."""

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
        """Every file that it needs: its size by its hash."""
        return {blob.sha256: blob.size for blob in [*self.wheels, *self.files()]}

    def files(self) -> list[Blob]:
        """The files of the release's own folder; names are paths in it."""
        bundles = [blob._replace(name=f"bundles/{blob.name}") for blob in self.bundles]
        return [*bundles, self.site, self.agent]


def read(text: bytes) -> Manifest:
    """Read a manifest; raises `Refused` where this agent does not know it."""
    try:
        data = json.loads(text.decode())
        version = data["format"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused("manifest", "the manifest cannot be read", "make the package again") from None
    if version != FORMAT:
        raise Refused(
            "manifest",
            f"the manifest has format {version!r}, this agent knows {FORMAT}",
            "flash with one version of edgevid",
        )
    try:
        return _read(text, data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(
            "manifest", f"the manifest is not right: {error!r}", "make the package again"
        ) from None


def _read(text: bytes, data: dict[str, Any]) -> Manifest:
    runner, service = data["runner"], data.get("service") or {}
    bundles = [_bundle(one) for one in data["bundles"]]
    wheels = tuple(_blob(one, one["name"]) for one in runner["wheels"])
    names = [blob.name for blob in bundles]
    if len(set(names)) != len(names):
        raise ValueError("two bundles have one name")
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
        raise ValueError(f"{value!r} is no line")
    return value


def _blob(data: dict[str, Any], name: Any) -> Blob:
    size = data["size"]
    if type(size) is not int or size < 0:
        raise ValueError(f"{size!r} is no size")
    return Blob(_word(_FILE, name), _word(_SHA256, data["sha256"]), size)


def _bundle(data: dict[str, Any]) -> Blob:
    name = data["name"]
    return _blob(data, name if str(name).endswith(".edgevid") else f"{name}.edgevid")


def is_id(word: str) -> bool:
    """Whether ``word`` can be the name of a release."""
    return bool(_ID.fullmatch(word))


def sha256(word: Any) -> str:
    """A hash of a request; raises `Refused` where it is none."""
    if not isinstance(word, str) or not _SHA256.fullmatch(word):
        raise Refused("protocol", f"{word!r} is no sha256", "use the same edgevid")
    return word


def size(number: Any) -> int:
    """A number of bytes of a request; raises `Refused` where it is none."""
    if type(number) is not int or number < 0:
        raise Refused("protocol", f"{number!r} is no number of bytes", "use the same edgevid")
    return number


def asked(request: dict[str, Any], key: str) -> str | None:
    """A text of a request, or None; raises `Refused` where it is something else."""
    value = request.get(key)
    if value is not None and not isinstance(value, str):
        raise Refused("protocol", f"{key} is no text", "use the same edgevid")
    return value
