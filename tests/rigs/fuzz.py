"""Damage of every kind: to bytes, to JSON values, to TOML."""

import random
from collections.abc import Callable, Iterator
from typing import Any

JUNK: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1 << 31,
    1 << 64,
    -(10**400),
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "\ud800",
    "x" * 5000,
    "../../etc/passwd",
    "line\nline",
    "\u202e\u2028",
    [],
    [[]],
    [None],
    [1, "1"],
    {},
    {"": {}},
    {"name": []},
    [{"name": 1}],
)
TOKENS = (
    b"[", b"]", b"[[", b"]]", b"{", b"}", b'"', b"'", b'"""', b"'''", b"=", b".", b",", b"#", b"\n",
    b"\r\n", b"\r", b"\0", b"\\", b"\\u0000", b"\\U0010ffff", b"nan", b"-inf", b"1e999", b"0x",
    b"1979-05-27", b"07:32:00", b"true", b"null", b"9" * 30, b"9" * 5000, b"\xff", b"\xc3\x28",
    b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06",
    b"\xff\xff\xff\xff", b"[" * 3000, b"{a=" * 3000, b"a." * 3000, b"[[bundle]]\n", b"[[camera]]\n",
    b"name", b"source", b"path", b'"a"."b"', b"rtsp://u:p@[", b"NaN", b"Infinity", b'"format":',
)  # fmt: skip


def damage_bytes(chance: random.Random, content: bytes) -> bytes:
    """One to eight changes: bits, cuts, copies, words that mean something."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        chance.choice(_CHANGES)(chance, damaged)
    return bytes(damaged)


def _flip(chance: random.Random, content: bytearray) -> None:
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _set(chance: random.Random, content: bytearray) -> None:
    if content:
        content[chance.randrange(len(content))] = chance.randrange(256)


def _cut(chance: random.Random, content: bytearray) -> None:
    start, end = _span(chance, content)
    del content[start:end]


def _copy(chance: random.Random, content: bytearray) -> None:
    start, end = _span(chance, content)
    place = chance.randint(0, len(content))
    content[place:place] = content[start:end] * chance.choice((1, 1, 2))


def _word(chance: random.Random, content: bytearray) -> None:
    place = chance.randint(0, len(content))
    content[place : place + chance.choice((0, 0, 1, 4))] = chance.choice(TOKENS)


def _end(chance: random.Random, content: bytearray) -> None:
    del content[chance.randint(0, len(content)) :]


def _span(chance: random.Random, content: bytearray) -> tuple[int, int]:
    start = chance.randint(0, len(content))
    return start, min(len(content), start + chance.choice((1, 2, 4, 16, 64, 256)))


_CHANGES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _flip, _flip, _set, _cut, _copy, _word, _word, _end,
)  # fmt: skip


def damage_json(chance: random.Random, value: Any) -> Any:
    """One to four changes to places anywhere inside: junk, a missing entry, one too many."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        value = _damaged(chance, value)
    return value


def _damaged(chance: random.Random, value: Any) -> Any:
    """Walk down by chance, and change what is there."""
    if not value or not isinstance(value, (dict, list)) or chance.random() < 0.15:
        return chance.choice(JUNK)
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    key = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
    what = chance.random()
    if what < 0.1:
        del changed[key]
    elif what < 0.2 and isinstance(value, dict):
        changed[chance.choice(("", "name", "format", "\n", "x" * 300, str(key) + "s"))] = value[key]
    elif what < 0.2:
        changed.append(value[key])
    else:
        changed[key] = _damaged(chance, value[key])
    return changed


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Give the way to every value inside: keys and indices from the root."""
    place: tuple[str | int, ...] = ()
    left = [(place, value)]
    while left:
        place, value = left.pop()
        inner: Any = ()
        if isinstance(value, dict):
            inner = value.items()
        elif isinstance(value, list):
            inner = enumerate(value)
        for key, one in inner:
            yield (*place, key)
            left.append(((*place, key), one))
