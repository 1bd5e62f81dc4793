"""Arguments of the Python API, checked against their annotations.

An annotation is the only statement of what is accepted: it is what the reference shows, what type
checkers read, and what is checked here, so that a wrong argument is named before it does harm.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from os import PathLike
from typing import Any, TypeVar, cast, get_origin

from edgevid.errors import WrongType

Function = TypeVar("Function", bound=Callable[..., Any])

_PARTS = re.compile(r"\s*\|\s*(?![^\[]*\])")
"""Between the parts of a union, but not inside of brackets."""


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_truth(value: object) -> bool:
    return type(value).__name__ in ("bool", "bool_")  # Python's, and numpy's


def _is_list(value: object) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return listed and all(isinstance(one, str) for one in cast("Sequence[object]", value))


_KINDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "None": ("None", lambda value: value is None),
    "Path": ("a Path", lambda value: isinstance(value, str | PathLike)),
    "Sequence[str]": ("a list of str", _is_list),
    "bool": ("True or False", _is_truth),
    "float": ("a number", lambda value: _is_number(value, Real)),
    "int": ("a whole number", lambda value: _is_number(value, Integral)),
    "str": ("a str", lambda value: isinstance(value, str)),
}
"""Part of an annotation -> what it is called, and how it is recognised."""


def _is_call(found: object) -> bool:
    """Whether this is a protocol of functions."""
    return bool(getattr(found, "_is_protocol", False)) and "__call__" in vars(found)


def _kind(part: str, names: Mapping[str, Any]) -> tuple[str, Callable[[object], bool]] | None:
    """Return what a part of an annotation accepts; None if that is not checked here."""
    if part.startswith("Literal["):
        return _KINDS["str"]  # the function knows best what to say of a wrong word
    found = names.get(part)
    if part.startswith("Callable[") or get_origin(found) is Callable or _is_call(found):
        return "a function", callable
    if part in _KINDS or not isinstance(found, type):
        return _KINDS.get(part)
    return f"a {part}", lambda value: isinstance(value, found)


def check(name: str, value: object, annotation: str, names: Mapping[str, Any]) -> object:
    """Check one argument.

    Args:
        name: Its name.
        value: Its value.
        annotation: Its annotation as it is written.
        names: The global names of the module in which it is written.

    Returns:
        The value; a number or truth value of numpy as one of Python.

    Raises:
        WrongType: It is none of what the annotation lists.
    """
    kinds = [_kind(part, names) for part in _PARTS.split(annotation)]
    known = [kind for kind in kinds if kind is not None]
    if len(known) < len(kinds) or any(accepts(value) for _, accepts in known):
        return _plain(value)
    words = [word for word, _ in known]
    if "a Path" in words:  # a str is accepted wherever a Path is
        words.insert(0, "a str")
    *most, last = dict.fromkeys(words)
    accepted = f"{', '.join(most)} or {last}" if most else last
    raise WrongType(f"{name} must be {accepted}, not {_shown(value)}")


def _plain(value: object) -> object:
    if _is_truth(value):
        return bool(value)
    if type(value) in (int, float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _shown(value: object) -> str:
    if value is None or isinstance(value, int | float):
        return repr(value)
    return f"a value of the type {type(value).__name__}"


def check_fields(record: object) -> None:
    """Check the fields of a dataclass, and make their numbers plain.

    Raises:
        WrongType: A field has another type than its annotation says.
    """
    names = vars(sys.modules[type(record).__module__])
    for name, annotation in type(record).__annotations__.items():
        object.__setattr__(record, name, check(name, getattr(record, name), annotation, names))


def checked(function: Function) -> Function:
    """Check the arguments of each call of a function; in a generator, before it starts."""
    code = function.__code__
    places = code.co_varnames[: code.co_argcount]
    annotations: Mapping[str, str] = function.__annotations__

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        def plain(name: str, value: object) -> object:
            if name not in annotations:
                return value
            return check(name, value, annotations[name], function.__globals__)

        named = {name: plain(name, value) for name, value in options.items()}
        placed = [plain(*one) for one in zip(places, args, strict=False)]
        return function(*placed, *args[len(placed) :], **named)

    return cast("Function", call)
