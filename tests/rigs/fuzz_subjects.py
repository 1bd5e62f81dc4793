"""Readers of what strangers write, each with sound inputs to damage.

    python -m rigs.fuzz_subjects SUBJECT FOLDER SECONDS SEED...

reads damaged inputs in a process of its own, the given seeds first and then one after the other,
and prints one line of JSON. FOLDER/sound has a real bundle and a bench result to be damaged.
Any error but edgevid's own ends it with a traceback and the seed.
"""

from __future__ import annotations

import html.parser
import json
import os
import random
import resource
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from edgevid.errors import EdgevidError
from rigs.fuzz import damage_bytes, damage_json, places

SLOWEST_S = 10.0  # no reader may be made to work for long
MOST_MB = 1500
GROWTH_MB = 200
WARM_UP = 8
BEGINS = "/the-fuzzing-begins"
"""A path that exists nowhere: looking for it marks the beginning in a log of system calls."""
ROOT = Path(__file__).parent.parent.parent
BUNDLE, BENCH = "sound/real.edgevid", "sound/bench.json"
EXAMPLES = ROOT / "docs" / "examples"
HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><svg onload=alert(1)>",
    "javascript:alert(1)", "{{ 7*7 }}{% raw %}", "]]><!--", "' onmouseover='x", "\x1b[2J\x07",
    "\u202egpj.exe", "a\nb", "\u2028", "x" * 300, "&lt;b&gt;", "$(reboot)", "Straße 日本 🎥",
    "$\\frac{1}{0}$", "$_$", "%s%n",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """One reader.

    Attributes:
        read: Reads an input; may raise an error of edgevid.
        damaged: Makes an input from a sound one.
        made_up: Inputs that are not made from sound ones.
        port: Where a camera listens, if the subject has one.
    """

    read: Callable[[Any], object]
    damaged: Callable[[random.Random], Any]
    made_up: st.SearchStrategy[Any] | None = None
    port: int = 0


# ------------------------------------------------------------------ files


class Bundles:
    """A bundle's bytes, its manifest and its contract."""

    def __init__(self, folder: Path) -> None:
        from edgevid.bundle import MANIFEST

        self._folder = folder
        with zipfile.ZipFile(folder / BUNDLE) as archive:
            self._members = {info.filename: archive.read(info) for info in archive.infolist()}
        self._name = MANIFEST
        self.manifest = json.loads(self._members[MANIFEST])

    def read_file(self, content: bytes) -> None:
        from edgevid.bundle import Bundle

        path = self._folder / "fuzz.edgevid"
        path.write_bytes(content)
        opened = Bundle.open(path)
        assert opened.split is not None
        opened.check()

    def read_manifest(self, value: Any) -> None:
        """A sound zip around any manifest."""
        from edgevid.bundle import Bundle

        path = self._folder / "manifest.edgevid"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**self._members, self._name: json.dumps(value)}.items():
                archive.writestr(name, content)
        opened = Bundle.open(path)
        assert opened.split is not None
        for artifact in opened.artifacts:
            opened.files(artifact)

    @staticmethod
    def read_contract(value: Any) -> None:
        from edgevid.contract import Contract

        contract = Contract.from_json(value)
        assert Contract.from_json(contract.to_json()) == contract


def bundle_file(folder: Path) -> Subject:
    content = (folder / BUNDLE).read_bytes()
    bundles = Bundles(folder)
    return Subject(
        bundles.read_file, lambda chance: damage_bytes(chance, content), st.binary(max_size=200)
    )


def manifest(folder: Path) -> Subject:
    bundles = Bundles(folder)
    return Subject(
        bundles.read_manifest, lambda chance: damage_json(chance, bundles.manifest), JSON_VALUES
    )


def contract(folder: Path) -> Subject:
    bundles = Bundles(folder)
    sound = bundles.manifest["contract"]
    return Subject(bundles.read_contract, lambda chance: damage_json(chance, sound), JSON_VALUES)


def configuration(folder: Path) -> Subject:
    from edgevid.runner.check import check
    from edgevid.runner.config import changes, derived_name, read_config
    from edgevid.settings import read

    sound = [(EXAMPLES / "service.toml").read_bytes(), *TOML]
    path = folder / "service.toml"

    def read_it(content: bytes) -> None:
        path.write_bytes(content)
        document = read(path)
        assert set(document.lines) == set(places(document.data))
        config = read_config(path)
        assert not changes(config, config)
        for finding in check(config):
            assert "\n" not in finding.text
        for camera in config.cameras:
            derived_name(camera.source)

    made_up = TOML_FILES | st.binary(max_size=200)
    return Subject(read_it, lambda chance: damage_bytes(chance, chance.choice(sound)), made_up)


def target(folder: Path) -> Subject:
    from edgevid import targets

    return _text_file(
        folder / "target.toml", targets.read, [*map(_bytes, (ROOT / "targets").glob("*.toml"))]
    )


def inventory(folder: Path) -> Subject:
    from edgevid.flash.inventory import read_inventory

    return _text_file(folder / "devices.toml", read_inventory, [_bytes(EXAMPLES / "devices.toml")])


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _text_file(path: Path, reader: Callable[[Path], object], sound: list[bytes]) -> Subject:
    def read_it(content: bytes) -> None:
        path.write_bytes(content)
        reader(path)

    made_up = TOML_FILES | st.binary(max_size=200)
    return Subject(read_it, lambda chance: damage_bytes(chance, chance.choice(sound)), made_up)


# ------------------------------------------------------------------ cameras and devices


def rtsp(folder: Path) -> Subject:
    from rigs import fuzz_cameras

    fuzz_cameras.video(folder, "mp4", "mpeg4")
    replies = fuzz_cameras.rtsp_replies(folder)
    return _camera("rtsp", lambda chance: fuzz_cameras.damaged(chance, replies))


def http(folder: Path) -> Subject:
    from rigs import fuzz_cameras

    replies = fuzz_cameras.http_replies(folder)
    return _camera("http", lambda chance: fuzz_cameras.damaged(chance, [chance.choice(replies)]))


def _camera(scheme: str, damaged: Callable[[random.Random], list[bytes]]) -> Subject:
    """Read a camera until it gives some frames or what it sends cannot be used."""
    from edgevid.media import live
    from edgevid.media.sources import SourceOptions, open_source
    from edgevid.media.timing import Backoff
    from rigs.fuzz_cameras import Server

    # How long a server may be silent, in seconds.
    live.FINITE_S, live.Backoff = 1.0, partial(Backoff, open_s=2.0)
    server = Server()

    def read_it(script: list[bytes]) -> None:
        server.script = script
        lines: list[str] = []

        def report(line: str) -> None:
            lines.append(line)
            if "retrying" in line:
                source.stop()

        url = f"{scheme}://127.0.0.1:{server.port}/x"
        source = open_source(url, SourceOptions(stall_s=0.3, source_fps=10), report)
        try:
            for number, _ in enumerate(source):
                if number > 20:
                    source.stop()
        finally:
            source.close()
        assert all("\n" not in line and len(line) < 2000 for line in lines), lines

    return Subject(read_it, damaged, port=server.port)


def device(folder: Path) -> Subject:
    from rigs import fuzz_device

    answers = fuzz_device.sound(folder)
    return Subject(fuzz_device.read, lambda chance: fuzz_device.damaged(chance, answers))


# ------------------------------------------------------------------ pages


class Tags(html.parser.HTMLParser):
    """Refuses what a page of edgevid never has."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """No script, nothing from elsewhere."""
        never = {"script", "iframe", "object", "embed", "link", "base", "form", "input", "video"}
        assert tag not in never, tag
        for name, value in attributes:
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "xlink:href", "srcset", "action"}:
                assert str(value).startswith(("#", "data:image/")), (tag, name, value)


def _page_is_safe(text: str) -> None:
    Tags(convert_charrefs=True).feed(text)


def _hostile(chance: random.Random, value: Any) -> Any:
    """The same structure, with hostile text in few or many places and for some keys."""
    share = chance.choice((0.003, 0.03, 0.3))

    def changed(one: Any) -> Any:
        if isinstance(one, str):
            return chance.choice(HOSTILE) if chance.random() < share else one
        if isinstance(one, list):
            return [changed(inner) for inner in one]
        if isinstance(one, dict):
            return {name(key): changed(inner) for key, inner in one.items()}
        return one

    def name(key: str) -> str:
        return chance.choice(HOSTILE) if chance.random() < share / 100 else key

    return changed(value)


def evidence_page(folder: Path) -> Subject:
    from edgevid.bundle import Bundle
    from edgevid.contract import Contract
    from edgevid_converters.page import page

    opened = Bundle.open(folder / BUNDLE)
    sound = {"evidence": opened.evidence, "contract": opened.contract.to_json()}

    def read_it(value: Any) -> None:
        odd = Bundle.open(folder / BUNDLE)
        odd.evidence = value["evidence"]
        odd.contract = Contract.from_json(value["contract"])
        _page_is_safe(page(odd))

    def damaged(chance: random.Random) -> Any:
        return {name: _hostile(chance, one) for name, one in sound.items()}

    return Subject(read_it, damaged)


def bench_page(folder: Path) -> Subject:
    from edgevid.bench.host.html import page
    from edgevid.bench.result import read_result

    sound = json.loads((folder / BENCH).read_bytes())

    def read_it(value: Any) -> None:
        _page_is_safe(page([read_result(value, "the result")]))

    return Subject(read_it, lambda chance: _hostile(chance, sound))


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "bundle": bundle_file,
    "manifest": manifest,
    "contract": contract,
    "configuration": configuration,
    "target": target,
    "inventory": inventory,
    "rtsp": rtsp,
    "http": http,
    "device": device,
    "evidence-page": evidence_page,
    "bench-page": bench_page,
}

# ------------------------------------------------------------------ inputs that are made up

TOML = (
    b'status="s"\n[[bundle]]\npath="m.edgevid"\n[[camera]]\nsource="a.mp4"\nname="a"\nrate=1\n',
    b'bundle=[{path="m.edgevid",name="m"}]\n[[camera]]\nsource="rtsp://u:p@h/x"\nbundles=["m"]\n',
    b"[[bundle]]\npath='''\nm'''\n\"rate\"=12.5\nthreads=0x10\n[[camera]]\nsource=\"/dev/x\"\n",
)
KEYS = [
    key.strip(" #").partition(" ")[0]
    for key in (EXAMPLES / "service.toml").read_text().splitlines()
    if "=" in key
]
FIELDS = (*("name", "shape", "inputs", "kind", "states", "outputs", "labels", "task", "temporal"),)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=8)
    ),
    max_leaves=20,
)
TOML_SCALARS = st.one_of(
    st.booleans().map(lambda b: str(b).lower()),
    st.integers().map(str),
    st.floats().map(lambda f: str(f)),
    st.text(max_size=20).map(json.dumps),
    st.sampled_from(["1979-05-27", "07:32:00", '"all"', '"tcp"', '["a"]', "{}", "[{}]", "'x'"]),
)
TOML_LINES = st.one_of(
    st.sampled_from(["[[bundle]]", "[[camera]]", "[camera]", "[[camera.bundles]]", "# x", ""]),
    st.tuples(st.sampled_from(KEYS), TOML_SCALARS).map(" = ".join),
)
TOML_FILES = st.lists(TOML_LINES, max_size=20).map(
    lambda lines: "\n".join(lines).encode("utf-8", "replace")
)

# ------------------------------------------------------------------ the process


def outcome(subject: Subject, given_input: Any) -> str:
    """Read it; give how it ended. Any error but edgevid's own escapes, and is a bug."""
    try:
        subject.read(given_input)
    except EdgevidError as error:
        message = str(error)
        assert message and "\n" not in message and len(message) < 2000, message[:3000]
        message.encode()  # it can be printed
        return "refused"
    return "read"


def make_up(subject: Subject, number: int, counts: Counter[str]) -> None:
    """Twenty inputs that are made up."""
    if subject.made_up is None:
        return

    @seed(number)
    @settings(
        max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(subject.made_up)
    def read(value: Any) -> None:
        counts[outcome(subject, value)] += 1

    read()


def fuzz(subject: Subject, seconds: float, seeds: Iterator[int]) -> dict[str, int]:
    """Read until the time is over; returns how often it read and refused, and how it grew."""
    counts: Counter[str] = Counter()
    for number in range(WARM_UP):  # imports, fonts
        outcome(subject, subject.damaged(random.Random(-1 - number)))
    with suppress(FileNotFoundError):
        Path(BEGINS).read_bytes()
    began = time.monotonic()
    warm_kb = _resident_kb()
    for number in seeds:
        if time.monotonic() - began > seconds:
            break
        value = subject.damaged(random.Random(number))
        at = time.monotonic()
        try:
            counts[outcome(subject, value)] += 1
            if number % 50 == 0:
                make_up(subject, number, counts)
        except BaseException as error:
            error.add_note(f"seed {number}: {value!r:.2000}")
            raise
        took_s = time.monotonic() - at
        assert took_s < SLOWEST_S, f"seed {number} took {took_s:.1f} s"
    grown_mb = max(0, _resident_kb() - warm_kb) >> 10
    assert grown_mb < GROWTH_MB, f"it grew by {grown_mb} MB"
    return {**counts, "grown_mb": grown_mb, "port": subject.port}


def _resident_kb() -> int:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def main(name: str, folder: str, seconds: str, *seeds: str) -> None:
    os.chdir(folder)
    set_hypothesis_home_dir(folder)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MB << 20, MOST_MB << 20))
    subject = SUBJECTS[name](Path(folder))
    first, known = int(seeds[-1]), [int(one) for one in seeds[:-1]]

    def numbers() -> Iterator[int]:
        yield from known
        number = first
        while True:
            yield number
            number += 1

    print(json.dumps(fuzz(subject, float(seconds), numbers())), flush=True)
    os._exit(0)  # threads that wait for a camera are not waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
