"""A service in one TOML file: which bundles serve, and which cameras feed them.

    output = "answers.jsonl"          # where answers go, one JSON line each
    status = "/run/edgevid"           # the folder of status.json and status.sock

    [[bundle]]
    path = "motion.edgevid"           # artifact, runtime, accelerator, threads, rate

    [[camera]]
    name = "door"
    source = "rtsp://10.0.0.5/stream" # a file, a URL, a device
    user = "viewer"
    password_file = "door.password"   # read at run, so that no password stands in here

Paths are relative to the file. Passwords are never shown: not in messages, not by ``repr``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from edgevid import settings
from edgevid.errors import BadInput
from edgevid.media.secrets import without_secrets
from edgevid.media.sources import relative_to
from edgevid.settings import Document, option, shown

_NAME_LIMIT = 64


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("text that can be printed")
    if len(value) > _NAME_LIMIT:
        raise ValueError(f"at most {_NAME_LIMIT} characters long")
    return value


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("the name of a file")
    return value


def _source(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("a file, a URL or a device")
    return value


def _rate(value: Any) -> str:
    """Read ``all`` or steps a second, as text or number; give the text."""
    wanted = "all, or steps a second such as 12.5"
    if value == "all":
        return "all"
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(wanted)
    try:
        rate = float(value)
    except (ValueError, OverflowError):
        raise ValueError(wanted) from None
    if not 0 < rate <= 1000:
        raise ValueError(wanted)
    return f"{rate:.12g}"


@dataclass(frozen=True)
class BundleUse:
    """One bundle to serve; None leaves the choice to edgevid.

    ``rate`` is None (the model's own), ``all``, or steps per second as text.
    """

    name: str
    path: Path
    artifact: str | None = None
    runtime: str | None = None
    accelerator: str | None = None
    threads: int | None = None
    rate: str | None = None


@dataclass(frozen=True)
class CameraUse:
    """One source and how to read it; empty ``bundles`` means all of them.

    ``source`` and ``user`` are kept out of ``repr``, because a URL may hold a password.
    """

    name: str
    source: str = field(repr=False)
    bundles: tuple[str, ...] = ()
    gate: bool = False
    latency_ms: float | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    stall_s: float | None = None
    decoder: str = "software"
    skip_loop_filter: bool = False
    user: str | None = field(default=None, repr=False)
    password_file: Path | None = None


@dataclass(frozen=True)
class RunConfig:
    """A whole service."""

    bundles: tuple[BundleUse, ...]
    cameras: tuple[CameraUse, ...]
    output: Path | None = None
    status: Path | None = None

    def bundles_of(self, camera: CameraUse) -> tuple[BundleUse, ...]:
        """The bundles that answer ``camera``, in the order of the configuration."""
        return tuple(b for b in self.bundles if not camera.bundles or b.name in camera.bundles)


# What the file holds; the classes above are what is made of it.


@dataclass(frozen=True)
class _BundleTable:
    path: str = option(read=_path)
    name: str | None = option(None, read=_name)
    artifact: str | None = None
    runtime: str | None = None
    accelerator: str | None = None
    threads: int | None = option(None, read=settings.whole(1))
    rate: str | None = option(None, read=_rate)


@dataclass(frozen=True)
class _CameraTable:
    source: str = option(read=_source)
    name: str | None = option(None, read=_name)
    bundles: tuple[str, ...] = ()
    gate: bool = False
    latency_ms: float | None = option(None, read=settings.positive)
    transport: Literal["tcp", "udp"] = "tcp"
    stall_s: float | None = option(None, read=settings.positive)
    decoder: str = "software"
    skip_loop_filter: bool = False
    user: str | None = None
    password_file: str | None = option(None, read=_path)


@dataclass(frozen=True)
class _File:
    bundle: tuple[_BundleTable, ...] = ()
    camera: tuple[_CameraTable, ...] = ()
    output: str | None = option(None, read=_path)
    status: str | None = option(None, read=_path)


def read_config(path: Path) -> RunConfig:
    """Read a configuration; raises `BadInput` with the file, the line, the key and the mend.

    Nothing but this file is read.
    """
    path = Path(path)
    document = settings.read(path)
    tables = settings.build(_File, document)
    for what, held in (("bundle", tables.bundle), ("camera", tables.camera)):
        if not held:
            raise document.fault((), f"has no {what}; add a table [[{what}]]")
    bundles = tuple(_bundle(path, table) for table in tables.bundle)
    cameras = tuple(_camera(document, index, table) for index, table in enumerate(tables.camera))
    _check_names(document, "bundle", [b.name for b in bundles])
    _check_names(document, "camera", [c.name for c in cameras])
    _check_bundles(document, [b.name for b in bundles], cameras)
    return RunConfig(bundles, cameras, _at(path, tables.output), _at(path, tables.status))


def _bundle(path: Path, table: _BundleTable) -> BundleUse:
    name = table.name or _printable(Path(table.path).stem)
    return BundleUse(**{**vars(table), "name": name, "path": _at(path, table.path)})


def _camera(document: Document, index: int, table: _CameraTable) -> CameraUse:
    try:
        source = relative_to(table.source, document.file.parent)
    except BadInput as error:
        raise document.fault(("camera", index, "source"), str(error)) from None
    return CameraUse(
        **{
            **vars(table),
            "name": table.name or derived_name(table.source),
            "source": source,
            "password_file": _at(document.file, table.password_file),
        }
    )


def _at(config: Path, name: str | None) -> Any:
    return None if name is None else config.parent / name


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "_" for c in name)[:_NAME_LIMIT] or "_"


def derived_name(source: str) -> str:
    """Name a camera that has no name: a file's stem, or a URL's host.

    Nothing else of a URL: passwords stand before the host, but also in paths and in queries.
    """
    scheme, colon, _ = source.partition("://")
    if not colon:
        return _printable(Path(source).stem)
    try:
        host = urlsplit(without_secrets(source)).hostname
    except ValueError:
        host = None
    return _printable(host or scheme)


def _check_names(document: Document, what: str, names: list[str]) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            line = document.line((what, first[name]))
            raise document.fault(
                (what, index, "name"),
                f"{what} {shown(name)} is there already, in line {line}; give each its own name",
            )
        first[name] = index


def _check_bundles(document: Document, known: list[str], cameras: Iterable[CameraUse]) -> None:
    for index, camera in enumerate(cameras):
        for place, name in enumerate(camera.bundles):
            if name not in known:
                near = get_close_matches(name[:_NAME_LIMIT], known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise document.fault(
                    ("camera", index, "bundles", place),
                    f"camera {shown(camera.name)}: there is no bundle {shown(name)}; {hint}",
                )


def read_password(camera: CameraUse) -> str | None:
    """Read the camera's password now; None where it has no file.

    Raises `BadInput` where the file cannot be read or holds nothing.
    """
    if camera.password_file is None:
        return None
    try:
        password = camera.password_file.read_text("utf-8").strip("\r\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not text"
        raise BadInput(
            f"camera {shown(camera.name)}: password_file {camera.password_file}: {why}; "
            "make it readable for the service's user"
        ) from None
    if not password:
        raise BadInput(
            f"camera {shown(camera.name)}: password_file {camera.password_file} is empty; "
            "write the password into it"
        )
    return password


# ---------------------------------------------------------------- what a new file changes

Use = TypeVar("Use", BundleUse, CameraUse)


@dataclass(frozen=True)
class Change:
    """Names of bundles or of cameras, by what a new configuration does to them."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Changes:
    """Everything that a new configuration does; only what changed need be restarted."""

    bundles: Change
    cameras: Change
    output: bool
    status: bool

    def __bool__(self) -> bool:
        return bool(self.bundles or self.cameras or self.output or self.status)


def changes(old: RunConfig, new: RunConfig, replaced: Collection[str] = ()) -> Changes:
    """Say what ``new`` changes.

    ``replaced`` names bundles whose file has other content than when it was opened, though the
    configuration calls it the same. A camera changed too where any of its bundles did, or where it
    is answered by others than before.
    """
    bundles = _change(
        {b.name: b for b in old.bundles}, {b.name: b for b in new.bundles}, touched=set(replaced)
    )
    moved = {*bundles.added, *bundles.removed, *bundles.changed}
    touched = {
        camera.name
        for config in (old, new)
        for camera in config.cameras
        if moved & {bundle.name for bundle in config.bundles_of(camera)}
    }
    cameras = _change(
        {c.name: c for c in old.cameras}, {c.name: c for c in new.cameras}, touched=touched
    )
    return Changes(bundles, cameras, old.output != new.output, old.status != new.status)


def _change(old: dict[str, Use], new: dict[str, Use], touched: set[str]) -> Change:
    both = [name for name in new if name in old]
    changed = [name for name in both if old[name] != new[name] or name in touched]
    return Change(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(changed),
        kept=tuple(name for name in both if name not in changed),
    )
