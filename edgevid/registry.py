"""The plug-ins: kind -> name -> ``module:attribute``, and the extra that provides its libraries.

A name here is the file's name and the option's value. To add a built-in plug-in, write its file and
add its row to `TABLE`; the conformance suites of `edgevid.testing` find it here.

Another package adds a plug-in with an entry point in the group ``edgevid.<kind>``, for instance in
its ``pyproject.toml``::

    [project.entry-points."edgevid.sink"]
    webhook = "my_package.webhook:Webhook"

Entry points are read only for a name that `TABLE` lacks and for listings, so they cost nothing
otherwise. A built-in name cannot be shadowed. A name from a bundle or a contract is only ever
looked up here and never imported as a module.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

from edgevid.errors import BadInput, EdgevidError, MissingExtra, PluginFailed, named_reason

T = TypeVar("T")

GROUP = "edgevid."
"""What the name of an entry point group starts with; the kind follows."""

BUILT_IN = "edgevid"
"""The origin of the plug-ins in `TABLE`."""

CLOSED = frozenset({"tool"})
"""Kinds that other packages cannot add to."""


@dataclass(frozen=True)
class Row:
    """Where one plug-in is, and what it needs.

    Attributes:
        where: ``module:attribute``.
        extra: The extra of edgevid that installs its libraries.
        needs: Modules that the extra installs; any one of them is enough (a library and its
            successor, for instance).
        origin: The distribution that provides it, with its version for a third party's.
    """

    where: str
    extra: str | None = None
    needs: tuple[str, ...] = ()
    origin: str = BUILT_IN


@dataclass(frozen=True)
class Listed:
    """One line of a listing of plug-ins.

    Attributes:
        kind: The kind of plug-in, such as ``sink``.
        name: Its name.
        origin: The distribution that provides it.
        ignored: Why this plug-in is never used; empty if it is used.
    """

    kind: str
    name: str
    origin: str
    ignored: str = ""


TABLE: dict[str, dict[str, Row]] = {
    "converter": {
        "openvino": Row(
            "edgevid_converters.lowering.openvino.converter:OpenVINO", "convert", ("openvino",)
        ),
        "tflite": Row(
            "edgevid_converters.lowering.tflite.converter:TFLite", "convert", ("tensorflow",)
        ),
    },
    "event": {},  # stages between a prediction and the sinks
    "importer": {  # kinds of model files that can be converted
        "keras": Row("edgevid_converters.importers.keras:IMPORTER", "convert", ("tensorflow",)),
        "onnx": Row("edgevid_converters.importers.onnx:IMPORTER", "onnx", ("onnx",)),
        "openvino": Row("edgevid_converters.importers.openvino:IMPORTER", "convert", ("openvino",)),
        "saved_model": Row(
            "edgevid_converters.importers.saved_model:IMPORTER", "convert", ("tensorflow",)
        ),
        "tflite": Row(
            "edgevid_converters.importers.tflite:IMPORTER", "convert", ("ai_edge_litert",)
        ),
    },
    "runtime": {  # each is a `RuntimeSpec`, which names the libraries
        "null": Row("edgevid.runtimes.null:SPEC"),
        "openvino": Row("edgevid.runtimes.openvino:SPEC"),
        "tflite": Row("edgevid.runtimes.tflite:SPEC"),
    },
    "scenario": {  # ways to load what is measured
        "multi": Row("edgevid.bench.scenarios.multi:MultiScenario"),
        "offline": Row("edgevid.bench.scenarios.offline:OfflineScenario"),
        "paced": Row("edgevid.bench.scenarios.paced:PacedScenario"),
        "single": Row("edgevid.bench.scenarios.single:SingleScenario"),
        "step": Row("edgevid.bench.scenarios.step:StepScenario"),
    },
    "sink": {
        "jsonl": Row("edgevid.sinks.jsonl:JsonLines"),
    },
    "source": {
        "file": Row("edgevid.media.video:FILE", "runner", ("av",)),
        "http": Row("edgevid.media.network:HTTP_SOURCE", "runner", ("av",)),
        "https": Row("edgevid.media.network:HTTP_SOURCE", "runner", ("av",)),
        "picamera": Row("edgevid.media.picamera:PICAMERA", "runner", ("av",)),
        "rtsp": Row("edgevid.media.network:RTSP_SOURCE", "runner", ("av",)),
        "rtsps": Row("edgevid.media.network:RTSP_SOURCE", "runner", ("av",)),
        "synthetic": Row("edgevid.media.synthetic:SYNTHETIC", "runner", ("av",)),
        "v4l2": Row("edgevid.media.v4l2:V4L2", "runner", ("av",)),
    },
    "task": {
        "classification": Row("edgevid.tasks.classification:PLUGIN"),
        "raw": Row("edgevid.tasks.raw:PLUGIN"),
    },
    "tool": {  # host-only functions that edgevid reaches by name alone
        "contract": Row(
            "edgevid_converters.importers.contract_draft:write_draft",
            "convert",
            ("tensorflow", "openvino"),
        ),
        "convert": Row("edgevid_converters:convert", "convert", ("tensorflow", "openvino")),
        "page": Row("edgevid_converters.page:page", "convert", ("ai_edge_litert", "openvino")),
    },
}


def kinds() -> tuple[str, ...]:
    """The kinds of plug-in that other packages can add to, sorted."""
    return tuple(sorted(TABLE.keys() - CLOSED))


def builtin(kind: str) -> tuple[str, ...]:
    """The names of the built-in plug-ins of ``kind``, sorted. Reads no entry points."""
    return tuple(sorted(TABLE[kind]))


def third_party(kind: str) -> tuple[str, ...]:
    """The names of ``kind`` that other packages provide and that are not built in, sorted."""
    return tuple(sorted(_entry_points(kind).keys() - TABLE[kind].keys()))


def names(kind: str) -> tuple[str, ...]:
    """Every name of ``kind``, sorted: the built-in ones and those of other packages."""
    return tuple(sorted({*builtin(kind), *third_party(kind)}))


def listing(kind: str) -> list[Listed]:
    """Every plug-in of ``kind`` with its origin, by name; ignored ones are listed as such."""
    listed = [Listed(kind, name, BUILT_IN) for name in builtin(kind)]
    for name, rows in _entry_points(kind).items():
        ignored = "edgevid has a built-in of this name" if name in TABLE[kind] else ""
        if not ignored and len(rows) > 1:
            ignored = "several packages provide this name"
        listed += [Listed(kind, name, row.origin, ignored) for row in rows]
    return sorted(listed, key=lambda one: (one.name, one.origin != BUILT_IN, one.origin))


def packages() -> tuple[str, ...]:
    """The installed packages that provide plug-ins, sorted; nothing of them is imported."""
    rows = [row for kind in kinds() for rows in _entry_points(kind).values() for row in rows]
    return tuple(sorted({row.origin.partition(" ")[0] for row in rows}))


def has(kind: str, name: str) -> bool:
    """Whether there is a plug-in of that name. Reads entry points only if none is built in."""
    return name in TABLE[kind] or name in _entry_points(kind)


def row(kind: str, name: str) -> Row:
    """Find a plug-in; nothing is imported.

    Args:
        kind: The kind of plug-in, a key of `TABLE`.
        name: The plug-in's name, from any source: it is looked up, never imported.

    Returns:
        The built-in row, or the entry point of an installed package.

    Raises:
        BadInput: There is no such name (the message has the nearest one), or several packages
            provide it.
    """
    if name in TABLE[kind]:
        return TABLE[kind][name]
    rows = _entry_points(kind).get(name, ())
    if not rows:
        raise BadInput(unknown(kind, name, names(kind)))
    if len(rows) > 1:
        origins = " and ".join(sorted(one.origin for one in rows))
        raise BadInput(f"{kind} {name!r} is provided by {origins}; uninstall all but one of them")
    return rows[0]


def load(kind: str, name: str) -> Any:
    """Import a plug-in.

    Args:
        kind: The kind of plug-in, a key of `TABLE`.
        name: The plug-in's name.

    Returns:
        The object that the row names.

    Raises:
        BadInput: There is no such name.
        MissingExtra: A library of a built-in plug-in is not installed.
        PluginFailed: The plug-in of another package cannot be imported.
    """
    found = row(kind, name)
    if found.origin != BUILT_IN:
        return _load_third_party(kind, name, found)
    try:
        return _attribute(found.where)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if found.extra and missing in found.needs:
            raise MissingExtra(install_line(f"{kind} {name}", found.extra)) from error
        raise


def part(kind: str, name: str, where: str) -> Any:
    """Import one of the modules that a plug-in's declaration names.

    Args:
        kind: The kind of plug-in, a key of `TABLE`.
        name: The plug-in's name.
        where: ``module:attribute`` from the plug-in's declaration.

    Returns:
        The object that ``where`` names.

    Raises:
        BadInput: There is no plug-in of that name.
        PluginFailed: The plug-in is of another package, and the import fails.
    """
    found = row(kind, name)
    if found.origin != BUILT_IN:
        return _load_third_party(kind, name, replace(found, where=where))
    return _attribute(where)


def distribution(kind: str, name: str) -> str | None:
    """The name of the package that provides a plug-in; None if it is built in.

    Raises:
        BadInput: There is no such name, or several packages provide it.
    """
    origin = row(kind, name).origin
    return None if origin == BUILT_IN else origin.partition(" ")[0]


def _attribute(where: str) -> Any:
    module, _, name = where.partition(":")
    found: Any = import_module(module)
    for one in name.split("."):
        found = getattr(found, one)
    return found


def _load_third_party(kind: str, name: str, found: Row) -> Any:
    try:
        return _attribute(found.where)
    except Exception as error:
        reason = named_reason(error)
        raise PluginFailed(
            f"{kind} {name} of the package {found.origin} cannot be imported: {reason}; "
            "repair or uninstall that package"
        ) from error


def load_class(kind: str, name: str, base: type) -> Any:
    """Load a plug-in that is a class.

    Args:
        kind: The kind of plug-in, a key of `TABLE`.
        name: The plug-in's name.
        base: The class that such plug-ins subclass.

    Raises:
        BadInput: There is no plug-in of that name.
        MissingExtra: Its library is not installed.
        PluginFailed: The plug-in of another package cannot be imported, or is not a subclass.
    """
    found = load(kind, name)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise PluginFailed(
            f"{kind} {name} of the package {row(kind, name).origin} is not a subclass of "
            f"{base.__module__}.{base.__name__}; repair or uninstall that package"
        )
    return found


def instance(kind: str, name: str, made: type[T], *args: Any) -> T:
    """Create an object of a plug-in's class, which may be another package's.

    Args:
        kind: The kind of plug-in, a key of `TABLE`.
        name: The plug-in's name.
        made: The plug-in's class.
        *args: Arguments of the class.

    Raises:
        EdgevidError: What the plug-in rejects on purpose.
        PluginFailed: The class raised another exception.
    """
    try:
        return made(*args)
    except EdgevidError:
        raise
    except Exception as error:
        raise PluginFailed(
            f"{kind} {name} of the package {row(kind, name).origin} cannot be opened: "
            f"{type(error).__name__}: {error}; check its options, or repair that package"
        ) from error


def _entry_points(kind: str) -> dict[str, tuple[Row, ...]]:
    """The entry points of installed packages: name -> rows, several if packages disagree."""
    return {} if kind in CLOSED else _all_entry_points().get(kind, {})


@cache
def _all_entry_points() -> dict[str, dict[str, tuple[Row, ...]]]:
    from importlib.metadata import entry_points

    found: dict[str, dict[str, tuple[Row, ...]]] = {}
    everything = entry_points()
    for group in everything.groups:
        if not group.startswith(GROUP):
            continue
        rows = found.setdefault(group.removeprefix(GROUP), {})
        for point in everything.select(group=group):
            dist = point.dist
            origin = f"{dist.name} {dist.version}" if dist else "an unknown package"
            new = Row(point.value, origin=origin)
            if new not in rows.get(point.name, ()):
                rows[point.name] = (*rows.get(point.name, ()), new)
    return found


def forget_entry_points() -> None:
    """Read the entry points again when they are next needed: for tests and long-lived programs."""
    _all_entry_points.cache_clear()


def missing(kind: str, name: str) -> str | None:
    """The install line if a plug-in's library is not installed, else None; imports nothing."""
    found = row(kind, name)
    if not found.extra or not found.needs or any(find_spec(module) for module in found.needs):
        return None
    return install_line(f"{kind} {name}", found.extra)


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """The message for an unknown name, with the nearest known one."""
    shown = name if len(name) <= 60 else f"{name[:60]}..."  # it may come from any file
    folded = {one.casefold(): one for one in known}
    near = get_close_matches(shown.casefold(), list(folded), n=1)
    hint = f"did you mean {folded[near[0]]}? " if near else ""
    return f"unknown {kind} {shown!r}; {hint}known: {', '.join(sorted(known))}"


def install_line(what: str, extra: str) -> str:
    """The message for something that is not installed, with the command that installs it."""
    return f"{what} is not installed; run: pip install 'edgevid[{extra}]'"


def need(module: str, extra: str) -> Any:
    """Import a module from an optional library.

    Args:
        module: The module's full name.
        extra: The extra of edgevid that installs it.

    Returns:
        The module.

    Raises:
        MissingExtra: The library is not installed.
        ImportError: The library is installed, but something that it imports is missing.
    """
    try:
        return import_module(module)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == module.partition(".")[0]:
            raise MissingExtra(
                install_line(f"package {module.partition('.')[0]}", extra)
            ) from error
        raise
