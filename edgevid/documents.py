"""Documents that others read: frozen dataclasses, their JSON, and a published JSON schema.

A document is a frozen dataclass whose first field is ``schema_version``. Its fields are plain
types (``str``, ``int``, ``float``, ``bool``, ``None``, ``Literal``), tuples, mappings from text,
other dataclasses, and unions of these::

    @dataclass(frozen=True)
    class StreamStatus:
        \"\"\"One stream.\"\"\"

        name: str
        frames: Mapping[str, int]
        error: str | None = optional()
        \"\"\"Why the stream failed; absent while it works.\"\"\"
        task: Mapping[str, Any] = field(default_factory=dict)
        \"\"\"The open part: whatever the task adds.\"\"\"

    @dataclass(frozen=True)
    class Status:
        \"\"\"The state of a running service.\"\"\"

        schema_version: Literal[1]
        streams: tuple[StreamStatus, ...]

- **Write**: ``to_json(Status(1, streams))`` gives plain data for `json.dumps`. This is all that a
  device needs; it reads no annotations and imports nothing.
- **Read**: ``from_json(Status, data, "status.json")`` gives the dataclass back. Unknown keys are
  ignored, so that a reader accepts documents of a later minor version.
- **Publish**: add a row to `PUBLISHED`, run ``python -m edgevid.documents`` and commit the file
  that it writes below ``edgevid/schemas/``. ``edgevid schema NAME`` prints that file, and
  ``tests/test_documents.py`` fails when it differs from the dataclass. The text below a field, or
  its line in the ``Attributes:`` section of the class, becomes its description.
- **Validate in tests**: ``jsonschema.validate(document, published("status"))``.

``Mapping[str, Any]`` is an open part: it accepts any object. Everything else is closed. Increase
``schema_version`` when a field changes its meaning or is removed; a new field with `optional` needs
no increase.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgevid.errors import BadInput

PUBLISHED: dict[str, str] = {
    "bench": "edgevid.bench.result:BenchResult",
    "evidence": "edgevid.evidence:Evidence",
    "status": "edgevid.runner.status_document:ServiceStatus",
}
"""The documents with a published schema: name -> ``module:class``."""

FOLDER = Path(__file__).parent / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"

T = TypeVar("T")


def optional(key: str | None = None, *, default: Any = None) -> Any:
    """Declare a field that is absent from the JSON while its value is None.

    Args:
        key: The name in JSON, if it differs from the field's.
        default: The value when the key is absent.
    """
    return field(default=default, metadata={"omit": True, "key": key})


def named(key: str) -> Any:
    """Declare a required field whose name in JSON is ``key``."""
    return field(metadata={"key": key})


# ---------------------------------------------------------------- writing


def to_json(value: Any) -> Any:
    """Convert a document to plain data for `json.dumps`.

    Args:
        value: A dataclass, or a mapping, sequence or plain value that may hold dataclasses.

    Returns:
        Dicts, lists, text, numbers, booleans and None.

    Raises:
        TypeError: For a value that has no JSON form.
    """
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {key: to_json(one) for key, one in _present(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [to_json(one) for one in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _present(document: Any) -> Iterator[tuple[str, Any]]:
    for one in fields(document):
        value = getattr(document, one.name)
        if value is not None or not one.metadata.get("omit"):
            yield _key(one), value


def _key(one: Field[Any]) -> str:
    return str(one.metadata.get("key") or one.name)


# ---------------------------------------------------------------- reading


def from_json(kind: type[T], data: Any, name: str, remedy: str = "create it again") -> T:
    """Read a document.

    Args:
        kind: The dataclass.
        data: Plain data, as `json.loads` gives it.
        name: What the document is called in an error message.
        remedy: The end of the error message: what to do.

    Raises:
        BadInput: With the path of the first value that is missing or has the wrong type.
    """
    try:
        return cast(T, _read(kind, data, ""))
    except _WrongValue as error:
        raise BadInput(f"{name} is damaged: {error}; {remedy}") from None


class _WrongValue(Exception):
    """A value that does not fit its annotation."""


_hints = cache(get_type_hints)


def _read(hint: Any, data: Any, path: str) -> Any:
    form, inner = get_origin(hint), get_args(hint)
    if form in (UnionType, Union):
        return _read_union(inner, data, path)
    if form is tuple:
        _check(isinstance(data, list | tuple), path, "a list", data)
        return tuple(_read(inner[0], one, f"{path}[{n}]") for n, one in enumerate(data))
    if form is Mapping:
        _check(isinstance(data, Mapping), path, "an object", data)
        return {key: _read(inner[1], one, _below(path, key)) for key, one in data.items()}
    if form is Literal:
        _check(data in inner, path, f"one of {', '.join(map(repr, inner))}", data)
        return data
    if is_dataclass(hint):
        return _read_object(hint, data, path)
    return _read_plain(hint, data, path)


def _read_plain(hint: Any, data: Any, path: str) -> Any:
    if hint is Any:
        return data
    if hint is float and type(data) in (int, float):
        return float(data)
    _check(type(data) is hint or (hint is NoneType and data is None), path, _name(hint), data)
    return data


def _read_object(kind: Any, data: Any, path: str) -> Any:
    _check(isinstance(data, Mapping), path, "an object", data)
    hints, found = _hints(kind), {}
    for one in fields(kind):
        key = _key(one)
        if key in data:
            found[one.name] = _read(hints[one.name], data[key], _below(path, key))
        elif one.default is MISSING and one.default_factory is MISSING:
            raise _WrongValue(f"{path or 'it'} lacks the key {key!r}")
    return kind(**found)


def _read_union(kinds: Sequence[Any], data: Any, path: str) -> Any:
    """Read the first member that fits; where none does, the first one's error is reported."""
    first: _WrongValue | None = None
    for kind in kinds:
        try:
            return _read(kind, data, path)
        except _WrongValue as error:
            first = first or error
    assert first is not None
    raise first


def _check(holds: bool, path: str, wanted: str, data: Any) -> None:
    if not holds:
        shown = type(data).__name__ if isinstance(data, Mapping | list) else repr(data)[:60]
        raise _WrongValue(f"{path or 'it'} must be {wanted}, not {shown}")


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _name(hint: Any) -> str:
    names = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
    return names.get(hint, "null")


# ---------------------------------------------------------------- schemas


def published(name: str) -> dict[str, Any]:
    """Return the published schema of the document ``name``.

    Raises:
        BadInput: If no document of that name is published.
    """
    from edgevid.registry import unknown

    if name not in PUBLISHED:
        raise BadInput(unknown("schema", name, PUBLISHED))
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_bytes())
    return found


def schema(kind: type, name: str) -> dict[str, Any]:
    """Generate the JSON schema (draft 2020-12) of a document.

    Args:
        kind: The dataclass; its source must be readable, since descriptions are taken from it.
        name: The document's published name.
    """
    definitions: dict[str, Any] = {}
    body = _object(kind, definitions)
    version = _hints(kind).get("schema_version")
    number = get_args(version)[0] if get_origin(version) is Literal else 1
    head = {"$schema": DRAFT, "$id": f"urn:edgevid:schema:{name}:{number}", "title": name}
    return {**head, **body, **({"$defs": dict(sorted(definitions.items()))} if definitions else {})}


def _object(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    summary, texts = _descriptions(kind)
    hints, properties, required = _hints(kind), {}, []
    for one in fields(kind):
        found = _type(hints[one.name], definitions, omitted=bool(one.metadata.get("omit")))
        if one.name in texts:
            found = {**found, "description": texts[one.name]}
        properties[_key(one)] = found
        if not one.metadata.get("omit"):
            required.append(_key(one))
    return {
        "description": summary,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _type(hint: Any, definitions: dict[str, Any], *, omitted: bool = False) -> dict[str, Any]:
    form, inner = get_origin(hint), get_args(hint)
    if form in (UnionType, Union):
        kinds = [one for one in inner if not (omitted and one is NoneType)]
        members = [_type(one, definitions) for one in kinds]
        return members[0] if len(members) == 1 else _joined(members)
    if form is tuple:
        return {"type": "array", "items": _type(inner[0], definitions)}
    if form is Mapping:
        values = _type(inner[1], definitions)
        return {"type": "object", **({"additionalProperties": values} if values else {})}
    if form is Literal:
        return {"const": inner[0]} if len(inner) == 1 else {"enum": list(inner)}
    if is_dataclass(hint):
        name = cast(type, hint).__name__
        if name not in definitions:
            definitions[name] = {}  # reserved first: a class may hold itself
            definitions[name] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{name}"}
    return {} if hint is Any else {"type": _TYPES[hint]}


_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def _joined(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if all(set(one) == {"type"} for one in members):
        return {"type": [one["type"] for one in members]}
    return {"anyOf": list(members)}


def _descriptions(kind: type) -> tuple[str, dict[str, str]]:
    """A class's summary, and the text of each field: below it, or in ``Attributes:``."""
    import ast
    import inspect
    import textwrap

    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    text = inspect.cleandoc(kind.__doc__ or "")
    found = _attributes(text)
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
            value = after.value if isinstance(after, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[before.target.id] = " ".join(value.value.split())
    return " ".join(text.partition("\n\n")[0].split()), found


def _attributes(text: str) -> dict[str, str]:
    import re

    section = re.search(r"^Attributes:\n((?:[ \t]+.*\n?|\n)+)", text, re.MULTILINE)
    found: dict[str, str] = {}
    last = ""
    for line in (section[1] if section else "").splitlines():
        begins = re.match(r" {4}(\w+): (.*)", line)
        if begins:
            last = begins[1]
            found[last] = begins[2].strip()
        elif last and line.strip():
            found[last] += f" {line.strip()}"
    return found


def _generated(name: str) -> dict[str, Any]:
    from importlib import import_module

    module, _, kind = PUBLISHED[name].partition(":")
    return schema(getattr(import_module(module), kind), name)


def _main() -> int:
    """Write the schemas of all published documents."""
    FOLDER.mkdir(exist_ok=True)
    for name in PUBLISHED:
        text = json.dumps(_generated(name), indent=2, ensure_ascii=False) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
