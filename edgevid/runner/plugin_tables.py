"""Tables of plug-ins: ``[[sink]]`` and ``[[event]]`` of the configuration, ``--sink`` of the shell.

A table has the keys of its kind and the options that its plug-in declares, so a misspelt key is
rejected with its line and the closest match, also for plug-ins of other packages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from edgevid import settings
from edgevid.errors import BadInput, PluginFailed
from edgevid.events import stage_class
from edgevid.media.sources import local_file
from edgevid.output import reject_input, same_file
from edgevid.runner.config import RunConfig, read_name
from edgevid.runner.status import FILES
from edgevid.settings import Document, option, shown
from edgevid.sinks import sink_class

T = TypeVar("T")

_NEXT_OPTION = re.compile(r",(?=[a-z][a-z0-9_]*=)")


def _event_name(value: Any) -> str:
    if {":", "@"} & set(read_name(value)):
        raise ValueError("text without : and @, since it begins the ids of events")
    return str(value)


@dataclass(frozen=True)
class SinkUse:
    """One sink of a run.

    Attributes:
        kind: The plug-in.
        name: Its name in the status.
        options: An instance of the plug-in's ``Options``.
        queue: Results that its queue holds; None is the default.
    """

    kind: str
    name: str
    options: Any = field(repr=False, default=None)
    queue: int | None = None


@dataclass(frozen=True)
class EventUse:
    """One event stage of a run.

    Attributes:
        kind: The plug-in.
        name: Begins the ids of its events.
        options: An instance of the plug-in's ``Options``.
        durable: Whether its state survives a restart.
        cameras: The cameras it applies to; empty means all.
        bundles: The models it applies to; empty means all.
    """

    kind: str
    name: str
    options: Any = field(repr=False, default=None)
    durable: bool = False
    cameras: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()

    def applies_to(self, camera: str, bundle: str) -> bool:
        """Whether the stage processes this camera's predictions by this model."""
        return (not self.cameras or camera in self.cameras) and (
            not self.bundles or bundle in self.bundles
        )


@dataclass(frozen=True)
class _SinkTable:
    kind: str
    name: str | None = option(None, read=read_name)
    queue: int | None = option(None, read=settings.whole(1))


@dataclass(frozen=True)
class _EventTable:
    kind: str
    name: str | None = option(None, read=_event_name)
    durable: bool = False
    cameras: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()


Tables = Sequence[Mapping[str, Any]]


def read_sinks(document: Document, tables: Tables) -> tuple[SinkUse, ...]:
    """Read the ``[[sink]]`` tables of a document.

    Raises:
        BadInput: With the file, the line and the key of the first mistake.
        MissingExtra: The library of a sink is not installed.
        PluginFailed: A sink of another package cannot be imported.
    """
    found = []
    for index, table in enumerate(tables):
        place = ("sink", index)
        options = sink_class(_kind(document, place, table, "sink")).Options
        one, own = _read(_SinkTable, options, document, place)
        found.append(SinkUse(one.kind, one.name or one.kind, own, one.queue))
    return tuple(found)


def read_events(document: Document, tables: Tables) -> tuple[EventUse, ...]:
    """Read the ``[[event]]`` tables of a document; raises as `read_sinks`."""
    found = []
    for index, table in enumerate(tables):
        place = ("event", index)
        options = stage_class(_kind(document, place, table, "event")).Options
        one, own = _read(_EventTable, options, document, place)
        found.append(
            EventUse(one.kind, one.name or one.kind, own, one.durable, one.cameras, one.bundles)
        )
    return tuple(found)


def parse_sinks(texts: Iterable[str], taken: Iterable[str] = ()) -> tuple[SinkUse, ...]:
    """Read every ``--sink``; a sink that is used more than once gets a number.

    Args:
        texts: The values of the option.
        taken: Names of other sinks.

    Raises:
        BadInput: With the option that is wrong.
        MissingExtra: The library of a sink is not installed.
        PluginFailed: A sink of another package cannot be imported.
    """
    names, found = set(taken), []
    for one in map(parse_sink, texts):
        number, unique = 1, one.name
        while unique in names:
            number += 1
            unique = f"{one.name}-{number}"
        names.add(unique)
        found.append(replace(one, name=unique))
    return tuple(found)


def parse_sink(text: str) -> SinkUse:
    """Read a sink from ``--sink NAME[:key=value,...]``.

    A comma is part of a value unless an option's name and ``=`` follow it.

    Raises:
        BadInput: With the option that is wrong.
        MissingExtra: The sink's library is not installed.
        PluginFailed: The sink of another package cannot be imported.
    """
    kind, _, rest = text.partition(":")
    where = f"--sink {kind}"
    try:
        options = sink_class(kind).Options
    except BadInput as error:
        raise BadInput(f"--sink: {error}") from None
    hints = get_type_hints(_combined(_SinkTable, options))
    data: dict[str, Any] = {"kind": kind}
    for pair in _NEXT_OPTION.split(rest) if rest else ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(f"{where}: {pair!r} has no value; write {pair}=VALUE")
        data[key] = _typed(hints.get(key), value)
    one, own = _read(_SinkTable, options, Document(Path(where), data, {}), ())
    return SinkUse(one.kind, one.name or one.kind, own, one.queue)


def check_files(config: RunConfig, file: Path | None = None) -> None:
    """Check that each sink ``jsonl`` has a file of its own.

    Two sinks would tear each other's lines, the status would replace the results, and results
    would be appended to a video.

    Args:
        config: The configuration.
        file: The file that it is from.

    Raises:
        BadInput: One of them writes to the file of another sink, of the status, or to an input.
    """
    files = [one for one in config.all_sinks() if one.kind == "jsonl"]
    inputs = [file, *(local_file(camera.source) for camera in config.cameras)]
    inputs += [bundle.path for bundle in config.bundles]
    statuses = [config.status / name for name in FILES] if config.status else []
    for number, one in enumerate(files):
        for status in statuses:
            if same_file(one.options.path, status):
                raise BadInput(
                    f"sink {shown(one.name)} and the status both write to {one.options.path}; give "
                    "the sink another file"
                )
        reject_input(one.options.path, filter(None, inputs))
        for other in files[:number]:
            if same_file(one.options.path, other.options.path):
                raise BadInput(
                    f"sinks {shown(other.name)} and {shown(one.name)} both write to "
                    f"{one.options.path}; give each its own file"
                )


def _typed(hint: Any, text: str) -> Any:
    """Convert the text of a command line to the number or truth value that an option wants."""
    if get_origin(hint) in (UnionType, Union):
        hint = next(one for one in get_args(hint) if one is not NoneType)
    if hint is bool:
        return {"true": True, "false": False}.get(text, text)
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            return text
    if get_origin(hint) is tuple:
        return text.split(",")
    return text


def _kind(document: Document, place: tuple[str, int], table: Mapping[str, Any], what: str) -> str:
    found = table.get("kind")
    if not isinstance(found, str):
        raise document.fault(place, f"{document.who(place)} lacks the key 'kind'; add it")
    from edgevid import registry

    try:
        registry.row(what, found)
    except BadInput as error:
        raise document.fault((*place, "kind"), str(error)) from None
    return found


def _read(common: type[T], options: type, document: Document, place: Any) -> tuple[T, Any]:
    """Read a table with the keys of ``common`` and ``options``, and take it apart again."""
    both: Any = settings.build_table(_combined(common, options), document, place)

    def part(kind: Any) -> Any:
        return kind(**{one.name: getattr(both, one.name) for one in fields(kind)})

    return part(common), part(options)


def _combined(common: type, options: type) -> type:
    taken = {one.name for one in fields(common)} & {one.name for one in fields(options)}
    if taken:
        raise PluginFailed(
            f"{options.__module__}.{options.__qualname__} declares {sorted(taken)[0]!r}, which "
            "edgevid uses itself; rename that option"
        )
    columns = []
    for kind in (common, options):
        hints = get_type_hints(kind)
        for one in fields(kind):
            copy: Any = field(metadata=one.metadata, repr=one.repr)
            copy.default, copy.default_factory = one.default, one.default_factory
            columns.append((one.name, hints[one.name], copy))
    return make_dataclass("PluginTable", columns, frozen=True, kw_only=True)
