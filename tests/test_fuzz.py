"""Whatever stands in a bundle, a contract, a configuration or a target: one line, no traceback.

`EDGEVID_FUZZ_S` seconds (600 unless told) are shared by all readers; a short trial always runs.
"""

from __future__ import annotations

import json
import os
import random
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from edgevid import targets
from edgevid.bundle import MANIFEST, Bundle
from edgevid.contract import Contract
from edgevid.errors import EdgevidError
from edgevid.runner.check import check
from edgevid.runner.config import changes, derived_name, read_config
from edgevid.settings import read
from rigs.fuzz import damage_bytes, damage_json, places

SHORT_S = 5.0
SLOWEST_S = 10.0  # no reader may be made to work for long
ROOT = Path(__file__).parent.parent

Input = Any
Reader = Callable[[Input], object]


def well_said(reader: Reader, given_input: Input) -> str:
    """Read it; give how it ended. Any error but edgevid's own escapes, and is a bug."""
    try:
        reader(given_input)
    except EdgevidError as error:
        message = str(error)
        assert message and "\n" not in message and len(message) < 2000, message[:3000]
        message.encode()  # it can be printed
        return "refused"
    return "read"


class Readers:
    """Each reader with real inputs to damage, in a folder of its own."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self._folder = folder
        self._bundle = bundle.read_bytes()
        with zipfile.ZipFile(bundle) as archive:
            self._members = {info.filename: archive.read(info) for info in archive.infolist()}
        self._manifest = json.loads(self._members[MANIFEST])
        self._configs = [(ROOT / "docs" / "examples" / "service.toml").read_bytes(), *TOML]
        self._targets = [file.read_bytes() for file in (ROOT / "targets").glob("*.toml")]

    def bundle(self, content: bytes) -> None:
        """A file that may be a bundle."""
        path = self._folder / "fuzz.edgevid"
        path.write_bytes(content)
        opened = Bundle.open(path)
        assert opened.split is not None
        opened.check()

    def manifest(self, value: Any) -> None:
        """A sound zip around any manifest."""
        path = self._folder / "manifest.edgevid"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**self._members, MANIFEST: json.dumps(value)}.items():
                archive.writestr(name, content)
        opened = Bundle.open(path)
        assert opened.split is not None
        for artifact in opened.artifacts:
            opened.files(artifact)

    def contract(self, value: Any) -> None:
        """Any JSON where a contract should be."""
        contract = Contract.from_json(value)
        assert Contract.from_json(contract.to_json()) == contract

    def config(self, content: bytes) -> None:
        """A file that may be a configuration."""
        path = self._folder / "service.toml"
        path.write_bytes(content)
        document = read(path)
        assert set(document.lines) == set(places(document.data))
        config = read_config(path)
        assert not changes(config, config)
        for finding in check(config):
            assert "\n" not in finding.text
        for camera in config.cameras:
            derived_name(camera.source)

    def target(self, content: bytes) -> None:
        """A file that may describe a target."""
        path = self._folder / "target.toml"
        path.write_bytes(content)
        targets.read(path)

    def damaged(self, chance: random.Random) -> Iterator[tuple[Reader, Input]]:
        """Give one damaged input for each reader."""
        yield self.bundle, damage_bytes(chance, self._bundle)
        yield self.manifest, damage_json(chance, self._manifest)
        yield self.contract, damage_json(chance, self._manifest["contract"])
        yield self.config, damage_bytes(chance, chance.choice(self._configs))
        yield self.target, damage_bytes(chance, chance.choice(self._targets))


TOML = (
    b'status="s"\n[[bundle]]\npath="m.edgevid"\n[[camera]]\nsource="a.mp4"\nname="a"\nrate=1\n',
    b'bundle=[{path="m.edgevid",name="m"}]\n[[camera]]\nsource="rtsp://u:p@h/x"\nbundles=["m"]\n',
    b"[[bundle]]\npath='''\nm'''\n\"rate\"=12.5\nthreads=0x10\n[[camera]]\nsource=\"/dev/x\"\n",
)

KEYS = [
    key.strip(" #").partition(" ")[0]
    for key in (ROOT / "docs" / "examples" / "service.toml").read_text().splitlines()
    if "=" in key
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "shape",
                    "inputs",
                    "kind",
                    "states",
                    "outputs",
                    "labels",
                    "task",
                    "temporal",
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=8,
        )
    ),
    max_leaves=20,
)
toml_scalars = st.one_of(
    st.booleans().map(lambda b: str(b).lower()),
    st.integers().map(str),
    st.floats().map(lambda f: str(f)),
    st.text(max_size=20).map(json.dumps),
    st.sampled_from(["1979-05-27", "07:32:00", '"all"', '"tcp"', '["a"]', "{}", "[{}]", "'x'"]),
)
toml_lines = st.one_of(
    st.sampled_from(["[[bundle]]", "[[camera]]", "[camera]", "[[camera.bundles]]", "# x", ""]),
    st.tuples(
        st.sampled_from(KEYS),
        toml_scalars,
    ).map(" = ".join),
)
toml_files = st.lists(toml_lines, max_size=20).map(
    lambda ls: "\n".join(ls).encode("utf-8", "replace")
)


def by_hypothesis(readers: Readers, number: int, counts: Counter[str]) -> None:
    """Twenty made-up inputs for each reader."""

    def trial(reader: Reader, inputs: st.SearchStrategy[Any]) -> None:
        @seed(number)
        @settings(
            max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(inputs)
        def read(value: Any) -> None:
            counts[f"{reader.__name__} {well_said(reader, value)}"] += 1

        read()

    trial(readers.manifest, json_values)
    trial(readers.contract, json_values)
    trial(readers.config, toml_files | st.binary(max_size=200))
    trial(readers.target, toml_files | st.binary(max_size=200))
    trial(readers.bundle, st.binary(max_size=200))


def fuzz(readers: Readers, budget_s: float, first_seed: int) -> Counter[str]:
    """Give how often each reader read and refused; what fails names its seed."""
    counts: Counter[str] = Counter()
    end = time.monotonic() + budget_s
    number = first_seed
    while time.monotonic() < end:
        if number % 50 == 0:
            by_hypothesis(readers, number, counts)
        for reader, value in readers.damaged(random.Random(number)):
            began = time.monotonic()
            try:
                how = well_said(reader, value)
            except Exception as error:
                error.add_note(f"{reader.__name__}, seed {number}: {value!r:.2000}")
                raise
            counts[f"{reader.__name__} {how}"] += 1
            spent_s = time.monotonic() - began
            assert spent_s < SLOWEST_S, f"{reader.__name__}, seed {number} took {spent_s:.1f} s"
        number += 1
    return counts


@pytest.fixture
def readers(tmp_path, null_bundle) -> Readers:
    return Readers(tmp_path, null_bundle)


def tell(counts: Counter[str]) -> None:
    print(f"{counts.total()} executions:", json.dumps(dict(sorted(counts.items()))))
    read = {name.partition(" ")[0] for name in counts if name.endswith(" refused")}
    assert read == {"bundle", "manifest", "contract", "config", "target"}


def test_nothing_but_our_own_errors(readers):
    tell(fuzz(readers, SHORT_S, first_seed=0))


@pytest.mark.soak
def test_nothing_but_our_own_errors_for_long(readers):
    budget_s = float(os.environ.get("EDGEVID_FUZZ_S", "600"))
    tell(fuzz(readers, budget_s, first_seed=random.randrange(1, 1 << 40) * 100))
