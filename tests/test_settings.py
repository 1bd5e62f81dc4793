"""Strict TOML: every complaint has its line, whatever the file looks like."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevid.errors import BadInput
from edgevid.settings import Place, build, build_json, option, positive, read, scan, whole
from rigs.fuzz import places

TRICKY = ("# no comment", "[x]", "}, {", "a = 1", "]]", "'", "''", "\u2028", "\x85", "\\\\", "é=")


class Writer:
    """Writes TOML and keeps where each key went, which is what the scanner must find."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self._keys = 0
        self.text = ""
        self.lines: dict[Place, int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def pick(self, *choices: str) -> str:
        return self._draw(st.sampled_from(choices))

    def space(self) -> str:
        return self.pick("", "", " ", "\t ")

    def gap(self) -> str:
        return self.pick("", "", " ", "\n", " # ] } \" ''' =\n", "\n\n\t")

    def key(self) -> tuple[str, str]:
        """A fresh key: how it is written, and what it is."""
        self._keys += 1
        n = self._keys
        return self._draw(
            st.sampled_from(
                [
                    (f"key-{n}", f"key-{n}"),
                    (f"{n}", f"{n}"),
                    (f'"a.b = {n}"', f"a.b = {n}"),
                    (f"'[#\"{n}'", f'[#"{n}'),
                    (f'"\\u0041\\"{n}"', f'A"{n}'),
                ]
            )
        )

    def dotted(self) -> tuple[str, list[str]]:
        keys = [self.key() for _ in range(self._draw(st.sampled_from((1, 1, 1, 2, 3))))]
        dot = f"{self.space()}.{self.space()}"
        return dot.join(written for written, _ in keys), [meant for _, meant in keys]

    def pair(self, table: Place, depth: int) -> None:
        written, meant = self.dotted()
        for end in range(1, len(meant) + 1):
            self.lines[(*table, *meant[:end])] = self.line
        self.text += f"{written}{self.space()}={self.space()}"
        self.value((*table, *meant), depth)

    def value(self, place: Place, depth: int) -> None:
        kind = self.pick("plain", "text", "block", "list", "inline") if depth else "plain"
        if kind == "plain":
            self.text += self.pick("1", "-1.5e3", "true", "nan", "1979-05-27 07:32:00.5-07:00")
        elif kind == "text":
            inside = self.pick(*TRICKY)
            self.text += (
                f'"{inside}"' if self.pick("b", "l") == "b" or "'" in inside else f"'{inside}'"
            )
        elif kind == "block":
            mark = self.pick('"""', "'''")
            inside = self.pick(
                '\n"x = 1"\n[a]', "\n\n# no", "'\n'", '""\n', "\\\\" if "'" in mark else "\\\n  x"
            )
            inside = inside.replace("'", "") if "'" in mark else inside
            last = self.pick("", mark[0], mark[0] * 2)
            self.text += f"{mark}{inside}.{last}{mark}"
        elif kind == "list":
            self.many("[", "]", place, depth)
        else:
            self.text += "{" + self.space()
            for n in range(self._draw(st.integers(0, 3))):
                self.text += "," + self.space() if n else ""
                self.pair(place, depth - 1)
                self.text += self.space()
            self.text += "}"

    def many(self, opening: str, closing: str, place: Place, depth: int) -> None:
        self.text += opening + self.gap()
        for n in range(self._draw(st.integers(0, 3))):
            self.lines[(*place, n)] = self.line
            self.value((*place, n), depth - 1)
            self.text += self.gap() + "," + self.gap()
        self.text += closing

    def pairs(self, table: Place) -> None:
        for _ in range(self._draw(st.integers(0, 4))):
            self.text += self.space()
            self.pair(table, 3)
            self.text += self.space() + self.pick("\n", " # ''' \"\n", "\n\n", "\n# [x]\n")

    def header(self, place: Place, written: str, meant: list[str]) -> Place:
        self.text += (
            f"{self.space()}[{self.space()}{written}{self.space()}]{self.pick('', ' # ]')}\n"
        )
        for end in range(1, len(meant) + 1):
            self.lines[(*place, *meant[:end])] = self.line - 1
        return (*place, *meant)

    def table(self) -> None:
        self.pairs(self.header((), *self.dotted()))

    def tables(self) -> None:
        """A list of tables, and within each maybe a table and a list of tables more."""
        written, meant = self.dotted()
        inner = self.key()
        for n in range(self._draw(st.integers(1, 3))):
            self.one_of(written, tuple(meant), n)
            entry = (*meant, n)
            self.pairs(entry)
            for m in range(self._draw(st.integers(0, 2))):
                self.one_of(f"{written}.{inner[0]}", (*entry, inner[1]), m)
                self.pairs((*entry, inner[1], m))
            if self.pick("yes", "no") == "yes":
                below = self.key()
                self.pairs(self.header(entry, f"{written}.{below[0]}", [below[1]]))

    def one_of(self, written: str, place: Place, number: int) -> None:
        for end in range(1, len(place) + 1):
            self.lines.setdefault(place[:end], self.line)
        self.lines[(*place, number)] = self.line
        self.text += f"[[{self.space()}{written}{self.space()}]]\n"


@st.composite
def documents(draw: Any) -> Writer:
    writer = Writer(draw)
    writer.pairs(())
    for _ in range(draw(st.integers(0, 4))):
        if writer.pick("one", "many") == "one":
            writer.table()
        else:
            writer.tables()
    return writer


@settings(max_examples=200, deadline=None)
@given(documents())
def test_every_key_is_found_in_its_line(written):
    found = scan(written.text)
    assert set(found) == set(places(tomllib.loads(written.text)))
    assert {place: found[place] for place in written.lines} == written.lines


@settings(max_examples=50, deadline=None)
@given(documents())
def test_windows_line_ends_change_no_line(tmp_path_factory, written):
    file = tmp_path_factory.getbasetemp() / "windows.toml"
    file.write_bytes(written.text.replace("\n", "\r\n").encode())
    assert read(file).lines == scan(written.text)


@dataclass(frozen=True)
class Inner:
    level: float
    name: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    title: str
    mode: Literal["slow", "fast"] = "slow"
    on: bool = False
    count: int = option(1, read=whole(1))
    share: float | None = option(None, read=positive)
    inner: tuple[Inner, ...] = ()


def made(tmp_path: Path, text: str) -> Outer:
    file = tmp_path / "x.toml"
    file.write_text(text)
    return build(Outer, read(file))


def test_a_whole_file_is_made_into_its_classes(tmp_path):
    text = 'title = "t"\nmode = "fast"\non = true\nshare = 2\n[[inner]]\nlevel = 1\ntags = ["a"]\n'
    inner = Inner(1.0, None, ("a",))
    assert made(tmp_path, text) == Outer("t", "fast", True, 1, 2.0, (inner,))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('title = "t"\n\ncuont = 2', "x.toml:3: unknown key 'cuont'; did you mean 'count'?"),
        ('title = "t"\nq = 2', "x.toml:2: unknown key 'q'; known keys: title, mode, on, count"),
        ("on = true", "x.toml: lacks the key 'title'; add it"),
        ('title = "t"\non = 1', "x.toml:2: on must be true or false, not 1"),
        ('title = "t"\non = "yes"', "x.toml:2: on must be true or false"),
        ("title = 5", "x.toml:1: title must be text, not 5"),
        ("title = 07:32:00", "x.toml:1: title must be text"),
        ('title = "t"\ncount = 0', "x.toml:2: count must be a whole number of at least 1, not 0"),
        ('title = "t"\ncount = true', "must be a whole number of at least 1, not true or false"),
        ('title = "t"\nshare = nan', "x.toml:2: share must be a number above 0, not nan"),
        ('title = "t"\nmode = "fats"', "mode must be one of slow, fast; did you mean 'fast'?"),
        ('title = "t"\ninner = 3', "x.toml:2: inner must be a list, not 3"),
        ('title = "t"\ninner = [\n{level=1},\n3]', r"x.toml:4: inner[1] must be a table, not 3"),
        ('title = "t"\n[[inner]]\nname = "a"', "x.toml:2: inner 'a' lacks the key 'level'; add it"),
        (
            'title = "t"\n[[inner]]\nname = "a"\nlvl = 2',
            "x.toml:4: inner 'a' has an unknown key 'lvl'",
        ),
        (
            'title = "t"\n[[inner]]\nlevel = inf',
            "x.toml:3: inner[0]: level must be a number, not inf",
        ),
        (
            'title = "t"\n[[inner]]\nlevel = 1\ntags = ["a",\n\n2]',
            "x.toml:6: inner[0]: tags[1] must be text, not 2",
        ),
        ('title = "t"\non = yes', "x.toml:2: not valid TOML (Invalid value); correct that line"),
        ('title = "t"\n\ntitle = "u"', "x.toml:3: not valid TOML (Cannot overwrite a value)"),
        ('\n\ntitle = "t', "x.toml:3: not valid TOML"),
        ("x = " + "9" * 5000, "x.toml: not valid TOML (a number is too long)"),
        (".".join("a" * 2000) + " = 1", "x.toml: is nested too deeply"),
        ("x = " + "[" * 5000, "x.toml: is nested too deeply"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, text, says):
    with pytest.raises(BadInput) as caught:
        made(tmp_path, text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_text_of_the_file_is_repeated_since_it_may_be_a_password(tmp_path):
    for text in ("on = 'hunter2'", "share = 'hunter2'", "count = 'hunter2'", "mode = 'hunter2'"):
        with pytest.raises(BadInput) as caught:
            made(tmp_path, f"title = 't'\n{text}")
        assert "hunter2" not in str(caught.value)


def test_what_is_no_text_file(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        read(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="Is a directory"):
        read(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'a = 1\nb = "\xe9"\n')
    with pytest.raises(BadInput, match=r"latin.toml:2: is not UTF-8"):
        read(latin)
    with pytest.raises(BadInput, match="too large for a text file"):
        read(Path("/dev/zero"))


def test_json_goes_through_the_same_rules():
    assert build_json(Inner, {"level": 1, "name": None}, "it") == Inner(1.0)
    with pytest.raises(BadInput, match="it: unknown key 'levle'; did you mean 'level'"):
        build_json(Inner, {"levle": 1}, "it")
    with pytest.raises(BadInput, match="it: must be a table, not a list"):
        build_json(Inner, [], "it")


def test_nesting_is_limited_whatever_limit_of_recursion_a_library_has_set(tmp_path):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        with pytest.raises(BadInput, match="nested too deeply"):
            made(tmp_path, "x = " + "[" * 5000)
    finally:
        sys.setrecursionlimit(before)
