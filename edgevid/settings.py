"""Strict parsing of TOML and JSON into frozen dataclasses; TOML errors name the line.

A dataclass declares the keys of a table: the annotation is the type, a default makes a key
optional, and `option` adds a parser. If several dataclasses are possible, the table's ``kind``
selects the one whose own ``kind`` has that default. `tomllib` reports no line numbers, so a small
scanner finds the line of each key; it runs after `tomllib` and relies on valid text.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from itertools import accumulate
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from edgevid.errors import BadInput
from edgevid.text import expand, read_text

Place: TypeAlias = tuple[str | int, ...]
"""Keys and indices from the root of a document to one value, as in ``("camera", 0, "source")``."""

T = TypeVar("T")

_SHOWN_CHARACTERS = 60
_LARGE = 1e30
_MAX_DEPTH = 100
"""Brackets in brackets. A library may have raised Python's own limit of recursion."""
_MAX_DOTS = 500  # tomllib's memory grows with the square of the length of a dotted key


@dataclass(frozen=True)
class Document:
    """A parsed TOML file.

    Attributes:
        file: The file.
        data: Its values.
        lines: The line of each value, from 1.
    """

    file: Path
    data: Mapping[str, Any]
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int | None:
        """The line of a value, or of the innermost table around it; None for the whole file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)

    def fault(self, place: Place, text: str) -> BadInput:
        """Make an error with the file and the line of a value, to be raised.

        Args:
            place: The value.
            text: What is wrong; what to do.

        Returns:
            The error.
        """
        line = self.line(place)
        return BadInput(f"{self.file}{'' if line is None else f':{line}'}: {text}")

    def who(self, place: Place) -> str:
        """A table's name for messages: ``camera 'door'`` or, without a name, ``camera[0]``."""
        value: Any = self.data
        for step in place:
            value = value[step]
        name = value.get("name") if isinstance(value, dict) else None
        if isinstance(name, str) and place and isinstance(place[-1], int):
            return f"{_path(place[:-1])} {shown(name)}"
        return _path(place)


def shown(text: str) -> str:
    """Quote a text for a message, on one line and shortened."""
    short = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    return repr(short)


def _path(place: Place) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return "".join(steps).removeprefix(".")


def read(file: Path) -> Document:
    """Read a TOML file.

    Args:
        file: The file.

    Returns:
        Its values and their lines.

    Raises:
        BadInput: The file cannot be read, or it is not valid TOML; the message has the line.
    """
    text = read_text(file, use="a readable TOML file")
    try:
        if (
            max(line.count(".") for line in text.split("\n")) > _MAX_DOTS
            or _depth(text) > _MAX_DEPTH
        ):
            raise BadInput(f"{file}: is nested too deeply; reduce the nesting")
        return Document(file, tomllib.loads(text), scan(text))
    except RecursionError:
        raise BadInput(f"{file}: is nested too deeply; reduce the nesting") from None
    except ValueError as error:
        what, line = _syntax(str(error), text)
        raise BadInput(f"{file}{line}: not valid TOML ({what}); correct that line") from error


def _depth(text: str) -> int:
    """How deeply brackets are nested, those in strings included."""
    steps = (1 if found[0] in "[{" else -1 for found in re.finditer(r"[\[\]{}]", text))
    return max(accumulate(steps), default=0)


def _syntax(message: str, text: str) -> tuple[str, str]:
    """Split tomllib's message into the reason and ``:line``, which is empty if unknown."""
    if found := re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", message, re.DOTALL):
        return found[1], f":{found[2]}"
    what, at_end, _ = message.partition(" (at end of document)")
    if at_end:
        return what, f":{text.rstrip().count(chr(10)) + 1}"
    return "a number is too long", ""


# ---------------------------------------------------------------- lines of keys

_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'  # up to two quotes may precede the closing three
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_KEY = re.compile(rf"(?:{_STRING.pattern}|[^\]=\"'])+", re.DOTALL)
_PLAIN = re.compile(r"[^\[\]{},#\n]*")


def scan(text: str) -> dict[Place, int]:
    """Find the line of every key, table and list entry of a valid TOML text, from 1."""
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._breaks = [found.start() for found in re.finditer("\n", text)]
        self._tables: dict[Place, int] = {}  # lists of tables: number of entries so far
        self.found: dict[Place, int] = {}

    def run(self) -> dict[Place, int]:
        table: Place = ()
        while self._skip():
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self.found

    def _skip(self) -> bool:
        """Skip whitespace and comments; return whether anything follows."""
        self._take(_BLANK)
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None, "the text is not TOML"
        self._at = found.end()
        return found[0]

    def _line(self) -> int:
        return bisect_right(self._breaks, self._at) + 1

    def _header(self) -> Place:
        line = self._line()
        many = self._text.startswith("[[", self._at)
        self._at += 1 + many
        *outer, last = _parts(self._take(_KEY))
        self._at += 1 + many
        place: Place = ()
        for part in outer:
            place = self._entered((*place, part))
            self.found.setdefault(place, line)
        place = (*place, last)
        if many:
            self.found.setdefault(place, line)
            self._tables[place] = self._tables.get(place, 0) + 1
        place = self._entered(place)
        self.found[place] = line
        return place

    def _entered(self, place: Place) -> Place:
        """A header that leads through a list of tables refers to its last entry."""
        count = self._tables.get(place)
        return place if count is None else (*place, count - 1)

    def _pair(self, table: Place) -> None:
        line = self._line()
        place = table
        for part in _parts(self._take(_KEY)):
            place = (*place, part)
            self.found.setdefault(place, line)
        self._at += 1  # the equals sign
        self._value(place)

    def _value(self, place: Place) -> None:
        self._take(_BLANK)
        first = self._text[self._at]
        if first == "[":
            self._inside("]", lambda count: self._entry((*place, count)))
        elif first == "{":
            self._inside("}", lambda count: self._pair(place))
        elif first in "\"'":
            self._take(_STRING)
        else:
            self._take(_PLAIN)

    def _entry(self, place: Place) -> None:
        self.found[place] = self._line()
        self._value(place)

    def _inside(self, closing: str, item: Callable[[int], None]) -> None:
        """Parse the items between brackets."""
        self._at += 1
        count = 0
        while self._skip() and self._text[self._at] != closing:
            if self._text[self._at] == ",":
                self._at += 1
                continue
            item(count)
            count += 1
        self._at += 1


def _parts(key: str) -> list[str]:
    """Split a dotted key; tomllib decodes quotes and escapes."""
    value: Any = tomllib.loads(f"{key} = 0")
    parts = []
    while isinstance(value, dict):
        ((part, value),) = value.items()
        parts.append(part)
    return parts


# ---------------------------------------------------------------- dataclasses from tables


def option(default: Any = MISSING, *, read: Callable[[Any], Any], secret: bool = False) -> Any:
    """Declare a field with its own parser.

    Args:
        default: The default; without one the key is required.
        read: Parses the TOML value. It raises ValueError with the expected value, such as "a number
            above 0".
        secret: Whether to hide the value when the object is printed.

    Returns:
        The dataclass field.
    """
    return field(default=default, metadata={"read": read}, repr=not secret)


@dataclass(frozen=True)
class NoOptions:
    """The options of a plug-in that has none."""


def whole(least: int) -> Callable[[Any], int]:
    """Make a parser of integers that are at least ``least``."""

    def read(value: Any) -> int:
        if type(value) is not int or not least <= value < 1 << 31:
            raise ValueError(f"a whole number of at least {least}")
        return value

    return read


def positive(value: Any) -> float:
    """Parse a positive finite number.

    Args:
        value: The TOML value.

    Returns:
        The number.

    Raises:
        ValueError: It is not a positive finite number.
    """
    if type(value) not in (int, float) or not 0 < value < _LARGE:
        raise ValueError("a number above 0")
    return float(value)


def build(kind: type[T], document: Document) -> T:
    """Build a dataclass from a document.

    Args:
        kind: The dataclass.
        document: The document.

    Returns:
        The instance.

    Raises:
        BadInput: A key is unknown or missing, or a value is wrong; the message has the line.
    """
    made: T = _Builder(document).table(kind, document.data, ())
    return made


def build_table(kind: type[T], document: Document, place: Place) -> T:
    """Build the dataclass ``kind`` from one table of a document.

    Args:
        kind: A frozen dataclass.
        document: The document.
        place: Where the table is, as in ``("sink", 0)``.

    Raises:
        BadInput: With the file, the line and the key of the first mistake.
    """
    data: Any = document.data
    for step in place:
        data = data[step]
    made: T = _Builder(document).table(kind, data, place)
    return made


def build_json(kind: type[T], data: Any, what: str) -> T:
    """Build a dataclass from plain JSON data.

    Args:
        kind: The dataclass.
        data: The data.
        what: What to call the data in messages.

    Returns:
        The instance.

    Raises:
        BadInput: A key is unknown or missing, or a value is wrong.
    """
    return build(kind, Document(Path(what), data, {}))


_hints = cache(get_type_hints)


class _Builder:
    def __init__(self, document: Document) -> None:
        self._document = document

    def table(self, kind: Any, data: Any, place: Place) -> Any:
        self._check_mapping(data, place)
        known = {entry.name: entry for entry in fields(kind)}
        self._check_keys(known, data, place)
        hints = _hints(kind)
        return kind(
            **{
                key: self._field(known[key], hints[key], value, (*place, key))
                for key, value in data.items()
            }
        )

    def _check_mapping(self, data: Any, place: Place) -> None:
        if not isinstance(data, Mapping):
            raise self._wrong(place, "a table", data)

    def _check_keys(
        self, known: Mapping[str, Field[Any]], data: Mapping[str, Any], place: Place
    ) -> None:
        owner = self._document.who(place)
        for key in data:
            if key not in known:
                near = get_close_matches(key[:_SHOWN_CHARACTERS], known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
                what = f"{owner} has an unknown key" if owner else "unknown key"
                raise self._document.fault((*place, key), f"{what} {shown(key)}; {hint}")
        for entry in known.values():
            wanted = entry.default is MISSING and entry.default_factory is MISSING
            if entry.name not in data and wanted:
                what = f"{owner} lacks the key" if owner else "lacks the key"
                raise self._document.fault(place, f"{what} {entry.name!r}; add it")

    def _field(self, entry: Field[Any], hint: Any, value: Any, place: Place) -> Any:
        own = entry.metadata.get("read")
        if own is None:
            return self._value(hint, value, place)
        try:
            return own(value)
        except ValueError as error:
            raise self._wrong(place, str(error), value) from None

    def _value(self, hint: Any, value: Any, place: Place) -> Any:
        if get_origin(hint) in (UnionType, Union):  # Union for a Literal and None
            if value is None and NoneType in get_args(hint):
                return None  # only JSON has null
            forms = [one for one in get_args(hint) if one is not NoneType]
            hint = forms[0] if len(forms) == 1 else self._kind_of(forms, value, place)
        form, inner = get_origin(hint), get_args(hint)
        if form is tuple:
            return self._list(inner[0], value, place)
        if form is Literal:
            return self._choice(inner, value, place)
        if form is Mapping:
            self._check_mapping(value, place)
            return {key: self._value(inner[1], one, (*place, key)) for key, one in value.items()}
        if hint is Path:
            return self._file(value, place)
        if hint in _PLAIN_KINDS:
            return self._plain(hint, value, place)
        return value if hint is Any else self.table(hint, value, place)

    def _kind_of(self, forms: Sequence[Any], value: Any, place: Place) -> Any:
        """Select the dataclass whose default ``kind`` is the table's ``kind``."""
        known = {one.__dataclass_fields__["kind"].default: one for one in forms}
        self._check_mapping(value, place)
        if "kind" not in value:
            owner = self._document.who(place)
            text = f"{owner} lacks the key 'kind'; add it: one of {', '.join(known)}"
            raise self._document.fault(place, text)
        return known[self._choice(tuple(known), value["kind"], (*place, "kind"))]

    def _file(self, value: Any, place: Place) -> Path:
        """A path relative to the document's folder; ``-`` stays as it is."""
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self._wrong(place, "the name of a file", value)
        return Path(value) if value == "-" else self._document.file.parent / expand(value)

    def _plain(self, kind: type, value: Any, place: Place) -> Any:
        if kind is float and type(value) in (int, float) and abs(value) < _LARGE:
            return float(value)  # neither NaN nor infinite
        if type(value) is not kind or kind is float:
            raise self._wrong(place, _PLAIN_KINDS[kind], value)
        return value

    def _list(self, item: Any, value: Any, place: Place) -> Any:
        if not isinstance(value, list | tuple):
            raise self._wrong(place, "a list", value)
        return tuple(self._value(item, one, (*place, n)) for n, one in enumerate(value))

    def _choice(self, choices: tuple[str, ...], value: Any, place: Place) -> Any:
        if not isinstance(value, str) or value not in choices:
            near = get_close_matches(str(value)[:_SHOWN_CHARACTERS], choices, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self._wrong(place, f"one of {', '.join(choices)}{hint}", value)
        return value

    def _wrong(self, place: Place, wanted: str, value: Any) -> BadInput:
        """The error with what is expected; never the text found, which may be a password."""
        if not place:
            return self._document.fault(place, f"must be {wanted}{_instead(value)}")
        *owner, key = place
        if isinstance(key, int):
            owner, key = owner[:-1], f"{owner[-1]}[{key}]"
        table = self._document.who(tuple(owner))
        text = f"{key} must be {wanted}{_instead(value)}"
        return self._document.fault(place, f"{table}: {text}" if table else text)


_PLAIN_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _instead(value: Any) -> str:
    """The value that was found, if it is a number or of another type."""
    kinds = {bool: "true or false", list: "a list", dict: "a table"}
    if isinstance(value, float) or (type(value) is int and abs(value) < 1 << 63):
        return f", not {value}"
    return f", not {kinds[type(value)]}" if type(value) in kinds else ""
