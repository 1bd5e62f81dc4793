"""The service configuration: models, cameras, event stages and sinks in one TOML file.

    output = "results.jsonl"          # results, one JSON object per line
    status = "/run/edgevid"           # directory for status.json and status.sock

    [[bundle]]
    path = "motion.edgevid"           # artifact, runtime, accelerator, threads, rate

    [[camera]]
    name = "door"
    source = "rtsp://10.0.0.5/stream" # a file, a URL, a device
    user = "viewer"
    password_file = "door.password"   # read at start, so the password is not in this file

    [[camera]]
    source = "rtsp://10.0.0.6/stream"
    credential = "yard"               # or a credential of the service: see `credentials`

    [[sink]]
    kind = "jsonl"                    # and the options of that sink
    path = "more.jsonl"

Paths are relative to the file. Passwords never appear in messages or in ``repr``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from edgevid import settings
from edgevid.errors import BadInput
from edgevid.media.secrets import without_secrets
from edgevid.media.sources import relative_to
from edgevid.output import STDOUT
from edgevid.runner.credentials import NAME
from edgevid.settings import Document, option, shown
from edgevid.text import expand, read_secret

if TYPE_CHECKING:
    from edgevid.runner.plugin_tables import EventUse, SinkUse

NAME_LIMIT = 64

OUTPUT = "output"
"""Name of the sink that ``output`` and ``--output`` stand for."""


def read_name(value: Any) -> str:
    """Read the name of a table.

    Raises:
        ValueError: With what is wanted.
    """
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("text that can be printed")
    if len(value) > NAME_LIMIT:
        raise ValueError(f"at most {NAME_LIMIT} characters long")
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
    """Read ``all`` or steps per second, as text or number; give the text."""
    wanted = "all, or steps per second such as 12.5"
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
    source_fps: float | None = None
    decoder: str = "software"
    skip_loop_filter: bool = False
    user: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    credential: str | None = None
    tls: Literal["verify", "insecure"] = "verify"
    tls_ca: Path | None = None


@dataclass(frozen=True)
class RunConfig:
    """A whole service.

    Attributes:
        bundles: The models.
        cameras: The sources.
        output: A file for results; the same as a sink ``jsonl``.
        status: Directory for status.json and status.sock.
        state: Directory for the durable state of event stages.
        sinks: Where results go, in addition to ``output``.
        events: The event stages, in order.
    """

    bundles: tuple[BundleUse, ...]
    cameras: tuple[CameraUse, ...]
    output: Path | None = None
    status: Path | None = None
    state: Path | None = None
    sinks: tuple[SinkUse, ...] = ()
    events: tuple[EventUse, ...] = ()

    def bundles_of(self, camera: CameraUse) -> tuple[BundleUse, ...]:
        """The models that ``camera`` feeds, in the order of the configuration."""
        return tuple(b for b in self.bundles if not camera.bundles or b.name in camera.bundles)

    def events_of(self, camera: CameraUse, bundle: BundleUse) -> tuple[EventUse, ...]:
        """The event stages of one camera and model, in order."""
        return tuple(e for e in self.events if e.applies_to(camera.name, bundle.name))

    def all_sinks(self) -> tuple[SinkUse, ...]:
        """All sinks; ``output`` is the first."""
        if self.output is None:
            return self.sinks
        from edgevid.runner.plugin_tables import SinkUse
        from edgevid.sinks.jsonl import JsonLinesOptions

        return (SinkUse("jsonl", OUTPUT, JsonLinesOptions(self.output)), *self.sinks)


# The tables of the file; the classes above are built from them.


def _credential(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("the name of a credential: letters, digits, dots, dashes, underscores")
    return value


@dataclass(frozen=True)
class _BundleTable:
    path: str = option(read=_path)
    name: str | None = option(None, read=read_name)
    artifact: str | None = None
    runtime: str | None = None
    accelerator: str | None = None
    threads: int | None = option(None, read=settings.whole(1))
    rate: str | None = option(None, read=_rate)


@dataclass(frozen=True)
class _CameraTable:
    source: str = option(read=_source)
    name: str | None = option(None, read=read_name)
    bundles: tuple[str, ...] = ()
    gate: bool = False
    latency_ms: float | None = option(None, read=settings.positive)
    transport: Literal["tcp", "udp"] = "tcp"
    stall_s: float | None = option(None, read=settings.positive)
    source_fps: float | None = option(None, read=settings.positive)
    decoder: str = "software"
    skip_loop_filter: bool = False
    user: str | None = None
    password_file: str | None = option(None, read=_path)
    credential: str | None = option(None, read=_credential)
    tls: Literal["verify", "insecure"] = "verify"
    tls_ca: str | None = option(None, read=_path)


@dataclass(frozen=True)
class _File:
    bundle: tuple[_BundleTable, ...] = ()
    camera: tuple[_CameraTable, ...] = ()
    sink: tuple[Mapping[str, Any], ...] = ()
    event: tuple[Mapping[str, Any], ...] = ()
    output: str | None = option(None, read=_path)
    status: str | None = option(None, read=_path)
    state: str | None = option(None, read=_path)


def read_config(path: Path) -> RunConfig:
    """Read a configuration. Reads no other file.

    Args:
        path: The TOML file.

    Raises:
        BadInput: With the file, the line, the key and the fix of the first mistake.
        MissingExtra: The library of a sink or an event stage is not installed.
        PluginFailed: A sink or an event stage of another package cannot be imported.
    """
    from edgevid.runner.plugin_tables import check_files, read_events, read_sinks

    path = Path(path)
    document = settings.read(path)
    tables = settings.build(_File, document)
    for what, held in (("bundle", tables.bundle), ("camera", tables.camera)):
        if not held:
            raise document.fault((), f"has no {what}; add a table [[{what}]]")
    config = RunConfig(
        bundles=tuple(_bundle(path, table) for table in tables.bundle),
        cameras=tuple(_camera(document, n, table) for n, table in enumerate(tables.camera)),
        output=_at(path, tables.output),
        status=_at(path, tables.status),
        state=_at(path, tables.state),
        sinks=read_sinks(document, tables.sink),
        events=read_events(document, tables.event),
    )
    bundles, cameras = [b.name for b in config.bundles], [c.name for c in config.cameras]
    _check_names(document, "bundle", bundles)
    _check_names(document, "camera", cameras)
    _check_names(document, "sink", [one.name for one in config.sinks])
    try:
        check_files(config, path)
    except BadInput as error:
        raise document.fault(("sink",) if tables.sink else (), str(error)) from None
    _check_names(document, "event", [one.name for one in config.events])
    for index, camera in enumerate(config.cameras):
        _check_known(document, ("camera", index, "bundles"), camera, camera.bundles, bundles)
    for index, event in enumerate(config.events):
        _check_known(document, ("event", index, "bundles"), event, event.bundles, bundles)
        _check_known(document, ("event", index, "cameras"), event, event.cameras, cameras)
    return config


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
            "tls_ca": _at(document.file, table.tls_ca),
        }
    )


def _at(config: Path, name: str | None) -> Any:
    if name == "-":
        return STDOUT
    return None if name is None else config.parent / expand(name)


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "_" for c in name)[:NAME_LIMIT] or "_"


def derived_name(source: str) -> str:
    """Name a camera that has no name: a file's stem, or a URL's host.

    Nothing else of a URL is used: paths and queries may contain passwords too.
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
                f"{what} {shown(name)} is already defined on line {line}; give each its own name",
            )
        first[name] = index


def _check_known(
    document: Document,
    place: tuple[str, int, str],
    table: CameraUse | EventUse,
    names: Iterable[str],
    known: list[str],
) -> None:
    """Check the names of bundles or cameras in the list at ``place``."""
    owner, what = place[0], place[2].removesuffix("s")
    for position, name in enumerate(names):
        if name not in known:
            near = get_close_matches(name[:NAME_LIMIT], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise document.fault(
                (*place, position),
                f"{owner} {shown(table.name)}: there is no {what} {shown(name)}; {hint}",
            )


def read_password(camera: CameraUse) -> str | None:
    """Read the camera's password; None if it has no password file.

    Raises:
        BadInput: The file cannot be read or is empty.
    """
    if camera.password_file is None:
        return None
    use = "a file with one line that the service's user can read"
    try:
        password = read_secret(camera.password_file, use=use)
    except BadInput as error:
        raise BadInput(f"camera {shown(camera.name)}: password_file {error}") from None
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
    """Names of models or cameras, by what a new configuration does to them."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Changes:
    """Everything that a new configuration does; only what changed is restarted."""

    bundles: Change
    cameras: Change
    output: bool
    status: bool
    sinks: bool = False

    def __bool__(self) -> bool:
        return bool(self.bundles or self.cameras or self.output or self.status or self.sinks)


def changes(old: RunConfig, new: RunConfig, replaced: Collection[str] = ()) -> Changes:
    """Compare two configurations.

    A camera counts as changed if one of its models or event stages did, or if it feeds others than
    before.

    Args:
        old: What runs.
        new: What should run.
        replaced: Models whose file has another content than when it was opened, although the
            configuration calls it the same.
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
        or _events(old, camera) != _events(new, camera)
    }
    cameras = _change(
        {c.name: c for c in old.cameras}, {c.name: c for c in new.cameras}, touched=touched
    )
    return Changes(
        bundles,
        cameras,
        old.output != new.output,
        old.status != new.status,
        old.sinks != new.sinks,
    )


def _events(config: RunConfig, camera: CameraUse) -> list[tuple[EventUse, ...]]:
    return [config.events_of(camera, bundle) for bundle in config.bundles_of(camera)]


def _change(old: dict[str, Use], new: dict[str, Use], touched: set[str]) -> Change:
    both = [name for name in new if name in old]
    changed = [name for name in both if old[name] != new[name] or name in touched]
    return Change(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(changed),
        kept=tuple(name for name in both if name not in changed),
    )
