"""The service configuration of a release, made from the user's request.

On the device it is ``site.toml`` next to the folder ``bundles/``. Other files that it names are the
device's own, so they need absolute paths. Everybody on the device can read it, so it has no
secrets: a camera's password, or its URL if that contains secrets, becomes a credential, which is
sent beside the release and which the configuration only names.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from edgevid import settings
from edgevid.errors import BadInput
from edgevid.media.secrets import with_secrets, without_secrets
from edgevid.media.sources import local_file
from edgevid.runner.config import CameraUse, derived_name, read_config, read_password
from edgevid.runner.credentials import PREFIX
from edgevid.settings import Document
from edgevid.text import expand

Table = dict[str, Any]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST = 48


@dataclass(frozen=True)
class ServiceConfig:
    """What a release serves.

    Attributes:
        text: The configuration, TOML.
        bundles: The bundles to send.
        kept: The names of bundles that are on the device and stay.
        replaced: The names of bundles that are replaced.
        added: The names of bundles that are new.
        removed: The names of bundles that are removed.
        credentials: Name -> secret; only for the device's own folder of secrets.
    """

    text: bytes
    bundles: tuple[Path, ...]
    kept: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


def from_config(path: Path) -> ServiceConfig:
    """Use the user's own configuration.

    Raises:
        BadInput: The configuration is not valid on a device; the message has the line.
        MissingExtra: The library of a sink or event stage is not installed here.
        PluginFailed: A plug-in of another package cannot be imported here.
    """
    config = read_config(path)
    document = settings.read(path)
    data: Table = json.loads(json.dumps(document.data))
    files: dict[str, Path] = {}
    for index, table in enumerate(data["bundle"]):
        file = path.parent / expand(table["path"])
        if not file.is_file():
            raise document.fault(("bundle", index, "path"), f"{file}: no such bundle")
        if files.setdefault(file.name, file) != file:
            raise document.fault(
                ("bundle", index, "path"), f"two bundles are called {file.name}; rename one"
            )
        table.setdefault("name", file.stem)
        table["path"] = f"bundles/{file.name}"
    for index, table in enumerate(data["camera"]):
        for key in ("source", "password_file", "tls_ca"):
            value = table.get(key)
            if not value:
                continue
            if key == "password_file":
                if _is_ours(value):
                    continue
                named: Path | None = Path(value)
            elif key == "tls_ca":
                named = Path(value)
            else:
                named = local_file(value)
            if named is not None and (expand(value) != value or not named.is_absolute()):
                raise document.fault(
                    ("camera", index, key),
                    f"{key} {value!r} is a file on the device; give its absolute path there",
                )
    _check_plugins(document, data, "sink", [use.options for use in config.sinks])
    _check_plugins(document, data, "event", [use.options for use in config.events])
    secrets = _take_secrets(data, config.cameras)
    return ServiceConfig(
        _finished(data), tuple(files.values()), added=tuple(files), credentials=secrets
    )


def _is_ours(password_file: str) -> bool:
    """Whether a password's file is on this computer; an absolute path is the device's."""
    return not Path(expand(password_file)).is_absolute()


def _take_secrets(data: Table, cameras: Sequence[CameraUse] = ()) -> dict[str, str]:
    """Put names in the place of secrets.

    Args:
        data: The configuration, which is changed.
        cameras: Its cameras as they were read, in the same order, to find password files; empty
            if it names none of this computer.

    Returns:
        Name of a credential -> the secret.

    Raises:
        BadInput: A password file cannot be read, or is empty.
    """
    taken = {table["credential"] for table in data["camera"] if table.get("credential")}
    found: dict[str, str] = {}

    def keep(name: str, secret: str) -> str:
        start = _UNSAFE.sub("-", name).strip("-.")[:_LONGEST] or "camera"
        names = chain([start], (f"{start}-{number}" for number in count(2)))
        free = next(one for one in names if one not in taken)
        taken.add(free)
        found[free] = secret
        return free

    for index, table in enumerate(data["camera"]):
        name = table.get("name") or derived_name(table["source"])
        source, password = table["source"], None
        if table.get("password_file") and _is_ours(table["password_file"]):
            password = read_password(cameras[index])
            del table["password_file"]
        if without_secrets(source) != source:
            secret = with_secrets(source, table.get("user"), password)
            table["source"] = without_secrets(source)
            table["credential"] = keep(name, secret)
            table.pop("user", None)
        elif password is not None:
            table["credential"] = keep(name, password)
    for table in data.get("sink", ()):
        for key, value in table.items():
            if isinstance(value, str) and without_secrets(value) != value:
                table[key] = PREFIX + keep(f"{table.get('name') or table['kind']}-{key}", value)
    return found


def _check_plugins(document: Document, data: Table, kind: str, options: Sequence[Any]) -> None:
    """Check that the paths in the options of plug-ins are absolute."""
    for index, one in enumerate(options):
        for name in (known.name for known in fields(one)) if is_dataclass(one) else ():
            value = data[kind][index].get(name)
            if isinstance(getattr(one, name), Path) and not str(value).startswith(("/", "-")):
                raise document.fault(
                    (kind, index, name),
                    f"{name} {value!r} is a file on the device; give its absolute path there",
                )


def from_arguments(
    bundles: Sequence[Path],
    sources: Sequence[str],
    before: bytes | None,
    *,
    add: bool,
    replace: bool,
) -> ServiceConfig:
    """Serve bundles and sources, in addition to what the device serves or instead of it.

    Args:
        bundles: The bundles.
        sources: The sources; none: those on the device.
        before: The configuration on the device; None: there is none.
        add: Keep the other bundles there.
        replace: Remove the other bundles there.

    Raises:
        BadInput: The device has other bundles and neither ``add`` nor ``replace`` is given, or
            there is no bundle or no camera.
    """
    old: Table = tomllib.loads(before.decode()) if before else {}
    new = {file.name: file for file in bundles}
    tables: list[Table] = [dict(table) for table in old.get("bundle", ())]
    present = dict.fromkeys(Path(table["path"]).name for table in tables)
    others = [name for name in present if name not in new]
    if others and new and not (add or replace):
        raise BadInput(
            f"the device serves {_listed(others)} already; give --add to serve {_listed(new)} "
            "in addition (frames are decoded once for all), or --replace"
        )
    if replace:
        tables = [table for table in tables if Path(table["path"]).name in new]
    added = [name for name in new if name not in present]
    tables += [{"name": Path(name).stem, "path": f"bundles/{name}"} for name in added]
    if not tables:
        raise BadInput("there is nothing to serve; name a bundle, as in: edgevid flash x.edgevid")
    names = [table.get("name") or Path(table["path"]).stem for table in tables]
    cameras = [{"source": source} for source in sources] or old.get("camera", [])
    if not cameras:
        raise BadInput("there is no camera; add --source rtsp://..., or --config site.toml")
    cameras = [_camera(camera, names) for camera in cameras]
    data: Table = {**old, "bundle": tables, "camera": cameras}
    seen = [camera.get("name") or derived_name(camera["source"]) for camera in cameras]
    secrets = _take_secrets(data)
    if "event" in old:
        data["event"] = _events(old["event"], names, seen)
    return ServiceConfig(
        _finished(data),
        tuple(bundles),
        kept=() if replace else tuple(others),
        replaced=tuple(name for name in present if name in new),
        added=tuple(added),
        removed=tuple(others) if replace else (),
        credentials=secrets,
    )


def _with_known(table: Mapping[str, Any], key: str, known: Collection[str]) -> Table | None:
    """A table whose list ``key`` has only known names; None if none of its names is left."""
    if key not in table:
        return dict(table)
    left = [name for name in table[key] if name in known]
    return {**table, key: left} if left else None


def _camera(table: Mapping[str, Any], bundles: Collection[str]) -> Table:
    """A camera whose bundles were all removed feeds all that are left."""
    found = _with_known(table, "bundles", bundles)
    return found if found else {key: value for key, value in table.items() if key != "bundles"}


def _events(
    tables: Sequence[Mapping[str, Any]], bundles: Collection[str], cameras: Collection[str]
) -> list[Table]:
    """The event stages whose bundles and cameras are not all gone."""
    found = []
    for table in tables:
        left = _with_known(table, "bundles", bundles)
        left = left and _with_known(left, "cameras", cameras)
        if left:
            found.append(left)
    return found


def _finished(data: Table) -> bytes:
    """Leave out relative folders: a release is read-only, and the service has its own folders."""
    for key in ("output", "state"):
        if not str(data.get(key, "")).startswith("/"):
            data.pop(key, None)
    data.pop("status", None)  # the agent reads the service's own status folder
    return to_toml(data)


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names)


def to_toml(data: Mapping[str, Any]) -> bytes:
    """Write a configuration: plain values first, then lists of tables."""
    lines = [f"{_key(key)} = {_value(v)}" for key, v in data.items() if not _is_tables(v)]
    for key, tables in data.items():
        for table in tables if _is_tables(tables) else ():
            pairs = [f"{_key(name)} = {_value(v)}" for name, v in table.items()]
            lines += ["", f"[[{_key(key)}]]", *pairs]
    return ("\n".join(lines).lstrip("\n") + "\n").encode()


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON's texts and numbers are TOML's, too, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
