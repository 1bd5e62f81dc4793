"""Kinds of device, each described by one TOML file.

Shipped ones lie in the folder ``targets/`` of the project; people add their own in
``$XDG_CONFIG_HOME/edgevid/targets/`` (``~/.config/...``). The file's name is the target's name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from edgevid import settings
from edgevid.errors import BadInput
from edgevid.files import user_folder
from edgevid.registry import unknown


@dataclass(frozen=True)
class Limits:
    """What the device can spare for edgevid, in mebibytes."""

    memory_mb: int
    disk_mb: int


@dataclass(frozen=True)
class EngineChoice:
    """One way to execute artifacts; ``quantize`` in order of preference."""

    runtime: str
    accelerator: str
    quantize: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """One kind of device; ``engine`` lists the ways to execute, the preferred one first.

    ``architecture`` is what ``uname -m`` says, or ``any``; ``glibc`` the oldest version; ``wheels``
    the platform tags that fit, the newest first.
    """

    name: str
    title: str
    architecture: str
    python: tuple[str, ...]
    engine: tuple[EngineChoice, ...]
    limits: Limits
    glibc: str | None = None
    wheels: tuple[str, ...] = ()


def folders() -> list[Path]:
    """Where target files are looked for: the user's own folder first, then the shipped one."""
    config = user_folder("XDG_CONFIG_HOME", ".config")
    packaged = Path(str(resources.files("edgevid"))) / "_targets"
    beside = Path(__file__).resolve().parent.parent / "targets"  # an editable install
    return [config / "edgevid" / "targets", packaged if packaged.is_dir() else beside]


def names() -> tuple[str, ...]:
    """Every target's name, sorted."""
    return tuple(sorted({file.stem for folder in folders() for file in folder.glob("*.toml")}))


def load(name: str) -> Target:
    """Read the target ``name``; raises `BadInput` that names the file and the key."""
    for folder in folders():
        if (file := folder / f"{name}.toml").is_file():
            return read(file)
    raise BadInput(unknown("target", name, names()))


def read(file: Path) -> Target:
    """Read one target file; raises `BadInput` that names the file, the line and the key."""
    document = settings.read(file)
    if document.data.get("name", file.stem) != file.stem:
        raise document.fault(
            ("name",), f"name must be the file's name {file.stem!r}; leave it out, or rename"
        )
    named = replace(document, data={"name": file.stem, **document.data})
    return settings.build(Target, named)
