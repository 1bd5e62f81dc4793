"""Kinds of device, each described by one TOML file.

Shipped ones lie in the folder ``targets/`` of the project; people add their own in
``$XDG_CONFIG_HOME/edgevid/targets/`` (``~/.config/...``). The file's name is the target's name.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from edgevid.errors import BadInput
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
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
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
    """Read one target file; raises `BadInput` that names the file and the key."""
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: not valid TOML ({error}); mend that line") from error
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}; give a target file") from error
    if data.setdefault("name", file.stem) != file.stem:
        raise BadInput(
            f"{file}: name is {data['name']!r}; it must be the file's name {file.stem!r}"
        )
    target: Target = _build(Target, data, str(file))
    return target


def _build(kind: type, data: Any, where: str) -> Any:
    """Make the data class ``kind`` from a TOML table, refusing what it does not know."""
    if not isinstance(data, dict):
        raise BadInput(f"{where} must be a table")
    hints = get_type_hints(kind)
    for key in data:
        if key not in hints:
            near = get_close_matches(key, hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(hints)}"
            raise BadInput(f"{where}: unknown key {key!r}; {hint}")
    for entry in fields(kind):
        if entry.name not in data and entry.default is MISSING:
            raise BadInput(f"{where}: key {entry.name!r} is missing")
    return kind(
        **{key: _value(hints[key], value, f"{where}: {key}") for key, value in data.items()}
    )


def _value(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) is UnionType:
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise BadInput(f"{where} must be a list")
        item = get_args(hint)[0]
        return tuple(_value(item, one, f"{where}[{place}]") for place, one in enumerate(value))
    if hint in (str, int):
        if type(value) is not hint:
            raise BadInput(f"{where} must be {'text' if hint is str else 'a whole number'}")
        return value
    return _build(hint, value, where)
