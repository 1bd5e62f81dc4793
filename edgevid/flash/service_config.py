"""The configuration that a release serves with, made from what a person asks for.

On the device it is ``site.toml`` beside the folder ``bundles/``; passwords and clips that it names
are the device's own files, so those stand there with their whole path.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevid import settings
from edgevid.errors import BadInput
from edgevid.media.sources import local_file
from edgevid.runner.config import read_config

Table = dict[str, Any]


@dataclass(frozen=True)
class ServiceConfig:
    """What will serve: the configuration, the bundles to send, and those that stay.

    ``kept`` are names of bundle files that are on the device already and are used on.
    """

    text: bytes
    bundles: tuple[Path, ...]
    kept: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def from_config(path: Path) -> ServiceConfig:
    """Take a configuration of the person's own; raises `BadInput` with the file and the line."""
    read_config(path)
    document = settings.read(path)
    data: Table = json.loads(json.dumps(document.data))
    files: dict[str, Path] = {}
    for index, table in enumerate(data["bundle"]):
        file = path.parent / table["path"]
        if not file.is_file():
            raise document.fault(("bundle", index, "path"), f"{file}: no such bundle")
        if files.setdefault(file.name, file) != file:
            raise document.fault(
                ("bundle", index, "path"), f"two bundles are called {file.name}; rename one"
            )
        table.setdefault("name", file.stem)
        table["path"] = f"bundles/{file.name}"
    for index, table in enumerate(data["camera"]):
        for key in ("source", "password_file"):
            value = table.get(key)
            if not value:
                continue
            file = Path(value) if key == "password_file" else local_file(value)
            if file is not None and not file.is_absolute():
                raise document.fault(
                    ("camera", index, key),
                    f"{key} {value!r} is a file on the device; give its whole path there",
                )
    return ServiceConfig(_finished(data), tuple(files.values()), added=tuple(files))


def from_words(
    bundles: Sequence[Path],
    sources: Sequence[str],
    before: bytes | None,
    *,
    add: bool,
    replace: bool,
) -> ServiceConfig:
    """Serve ``bundles`` and ``sources``, beside or instead of what ``before`` serves.

    ``before`` is the configuration on the device, None where there is none. Raises `BadInput` where
    it is not said whether other bundles there are to stay.
    """
    old: Table = tomllib.loads(before.decode()) if before else {}
    new = {file.name: file for file in bundles}
    tables: list[Table] = [dict(table) for table in old.get("bundle", ())]
    there = dict.fromkeys(Path(table["path"]).name for table in tables)
    others = [name for name in there if name not in new]
    if others and new and not (add or replace):
        raise BadInput(
            f"the device serves {_listed(others)} already; say --add to serve {_listed(new)} "
            "beside it (one decode for all), or --replace"
        )
    if replace:
        tables = [table for table in tables if Path(table["path"]).name in new]
    added = [name for name in new if name not in there]
    tables += [{"name": Path(name).stem, "path": f"bundles/{name}"} for name in added]
    if not tables:
        raise BadInput("there is nothing to serve; name a bundle, as in: edgevid flash x.edgevid")
    names = [table.get("name") or Path(table["path"]).stem for table in tables]
    cameras = [{"source": source} for source in sources] or old.get("camera", [])
    if not cameras:
        raise BadInput("there is no camera; add --source rtsp://..., or --config site.toml")
    data = {**old, "bundle": tables, "camera": [_seen_by(camera, names) for camera in cameras]}
    return ServiceConfig(
        _finished(data),
        tuple(bundles),
        kept=() if replace else tuple(others),
        replaced=tuple(name for name in there if name in new),
        added=tuple(added),
        removed=tuple(others) if replace else (),
    )


def _seen_by(camera: Mapping[str, Any], names: Sequence[str]) -> Table:
    """A camera of which bundles were removed is answered by those of its own that are left."""
    table = dict(camera)
    if "bundles" in table:
        table["bundles"] = [name for name in table["bundles"] if name in names]
        if not table["bundles"]:
            del table["bundles"]
    return table


def _finished(data: Table) -> bytes:
    """Relative to a release nothing can be written; the service has folders of its own for it."""
    if not str(data.get("output", "")).startswith("/"):
        data.pop("output", None)
    data.pop("status", None)  # the guard looks where the service tells it by itself
    return to_toml(data)


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names)


def to_toml(data: Mapping[str, Any]) -> bytes:
    """Write plain values, then lists of tables of plain values; all that a configuration has."""
    lines = [f"{key} = {_value(value)}" for key, value in data.items() if not _is_tables(value)]
    for key, tables in data.items():
        for table in tables if _is_tables(tables) else ():
            lines += ["", f"[[{key}]]", *(f"{name} = {_value(v)}" for name, v in table.items())]
    return ("\n".join(lines).lstrip("\n") + "\n").encode()


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _value(value: Any) -> str:
    """JSON's texts, numbers and lists are TOML's too, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
