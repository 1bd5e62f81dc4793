"""A package of its own brings a plug-in of every kind, and edgevid takes it from convert to flash.

Its wheel is built from ``tests/toy_plugins`` and installed into a clean environment. That one sees
the libraries of the tests' environment, but of the package only what the wheel has.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rigs.devices import Person, device
from rigs.models import onnx_model
from rigs.processes import wait_for
from rigs.videos import write_video

pytestmark = pytest.mark.starts(1)

TOY = Path(__file__).parents[1] / "toy_plugins"
HEIGHT, WIDTH = 48, 64
CONTRACT = """task = "toy-brightness"
rate_fps = 10

[[input]]
kind = "frame"
scale = 255.0
"""


@dataclass
class Toy:
    """The clean environment, and what was made in it."""

    python: Path
    wheel: Path
    folder: Path

    def run(self, *args: object, code: tuple[int, ...] = (0,)) -> str:
        """Call a module of the environment; gives its output, if it ends with one of the codes."""
        command = [str(self.python), "-P", "-m", *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=self.folder)
        assert done.returncode in code, done.stdout + done.stderr
        return done.stdout

    def edgevid(self, *args: object) -> dict:
        """Call the command line; gives its JSON document."""
        return json.loads(self.run("edgevid", *args, "--json"))


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Toy:
    folder = tmp_path_factory.mktemp("toy")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheels", TOY]
    subprocess.run([*map(str, build)], check=True)
    (wheel,) = (folder / "wheels").glob("*.whl")
    environment = folder / "environment"
    make = [sys.executable, "-m", "venv", "--without-pip", environment]
    subprocess.run([*map(str, make)], check=True)
    (site,) = environment.glob("lib/python3*/site-packages")
    # The libraries, and edgevid as the tests have it.
    here = sysconfig.get_path("purelib")
    (site / "tests.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    python = environment / "bin" / "python"
    install = [*pip, f"--python={python}", "install", "--no-index", "--no-deps", wheel]
    subprocess.run([*map(str, install)], check=True)
    return Toy(python, wheel, folder)


@pytest.fixture(scope="module")
def clips(toy) -> Path:
    """Clips in folders that are called by their brightness."""
    return write_clips(toy.folder / "clips", (0.25, 0.5, 0.75))


def write_clips(root: Path, levels: tuple[float, ...]) -> Path:
    for level in levels:
        for number in range(2):
            frames = np.full((6, HEIGHT, WIDTH, 3), round(255 * level), np.uint8)
            write_video(root / str(level) / f"{number}.mp4", frames)
    return root


@pytest.fixture(scope="module")
def bundle(toy, clips) -> Path:
    """A model that is the mean of the channels, converted to the toy's format."""
    import onnx
    from onnx import helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["frame"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "kernel", "bias"], ["brightness"], "weigh"),
    ]
    constants = {"kernel": np.full((3, 1), 1 / 3, np.float32), "bias": np.zeros(1, np.float32)}
    shapes = {"frame": [1, 3, HEIGHT, WIDTH]}, {"brightness": [1, 1]}
    onnx.save(onnx_model(nodes, *shapes, constants), toy.folder / "mean.onnx")
    (toy.folder / "mean.contract.toml").write_text(CONTRACT)
    out = toy.folder / "mean.edgevid"
    others = write_clips(toy.folder / "others", (0.1, 0.6, 0.9))
    options = ("--format", "toy", "--quantize", "float32", "--calibrate", others, "--data", clips)
    made = toy.edgevid("convert", toy.folder / "mean.onnx", *options, "--out", out)
    (artifact,) = made["artifacts"]
    assert artifact["name"] == "toy-float32"
    assert artifact["metric"]["name"] == "mean absolute error"
    assert artifact["metric"]["artifact"] < 0.02
    return out


def test_the_conformance_suites_pass(toy):
    toy.run("pytest", "-q", "-p", "no:cacheprovider", "--rootdir", TOY, TOY / "tests")


def test_the_listing_has_their_origin(toy):
    found = {check["name"]: check for check in toy.edgevid("doctor")["checks"]}
    for kind, name in (
        ("task", "toy-brightness"),
        ("runtime", "toy-numpy"),
        ("converter", "toy"),
        ("source", "toy-ramp"),
        ("event", "toy-threshold"),
        ("sink", "toy-lines"),
    ):
        assert f"{name} (edgevid-toy 0.1.0)" in found[f"{kind} plug-ins"]["found"]


def test_without_the_package_its_names_are_unknown(bundle, edgevid):
    done = edgevid("verify", bundle)
    assert done.returncode == 2
    assert "toy" in done.stderr


def test_it_is_verified(toy, bundle):
    (check,) = toy.edgevid("verify", bundle)["checks"]
    assert (check["runtime"], check["accelerator"], check["ok"]) == ("toy-numpy", "cpu", True)


def test_it_is_evaluated(toy, bundle, clips):
    (result,) = toy.edgevid("evaluate", bundle, clips, "--split", "all")["results"]
    assert result["metrics"]["mean absolute error"] < 0.02


SERVICE = """
[[bundle]]
path = "{bundle}"

[[camera]]
source = "{source}"

[[event]]
kind = "toy-threshold"
above = 0.65

[[sink]]
kind = "toy-lines"
path = "{lines}"
"""


def test_it_is_run_from_its_source_through_its_event_stage_to_its_sink(toy, bundle):
    lines = toy.folder / "lines.txt"
    config = toy.folder / "site.toml"
    source = f"toy-ramp:{WIDTH}x{HEIGHT}?frames=11"
    config.write_text(SERVICE.format(bundle=bundle, source=source, lines=lines))
    summary = toy.edgevid("run", "--config", config)
    assert summary["frames"]["captured"] == summary["frames"]["answered"] == 11
    rows = [line.split() for line in lines.read_text().splitlines()]
    assert [float(row[1]) for row in rows] == pytest.approx(np.arange(11) / 10, abs=0.01)
    assert [row[2:] for row in rows] == [["bright:new"] if n == 7 else [] for n in range(11)]


def test_it_is_measured(toy, bundle):
    """A busy machine makes the result invalid, exit code 3; it is measured all the same."""
    options = ("--scenario", "step", "--out", toy.folder / "bench.json")
    toy.run("edgevid", "bench", bundle, *options, code=(0, 3))
    document = json.loads((toy.folder / "bench.json").read_text())
    (result,) = document["results"]
    assert result["job"]["runtime"] == "toy-numpy"


def test_it_is_flashed_as_a_hashed_wheel_and_serves(toy, bundle, tmp_path_factory):
    person = Person(tmp_path_factory.mktemp("person"), python=str(toy.python))
    config = toy.folder / "device.toml"
    source = f"synthetic:{WIDTH}x{HEIGHT}@15"
    lines = "/var/lib/edgevid/lines.txt"
    config.write_text(SERVICE.format(bundle=bundle, source=source, lines=lines))
    with device(person, "door") as door:
        person.inventory(door)
        words = ("--config", config, "--target", "door", "--health-s", 2, "--json")
        refused = person.edgevid("flash", *words)
        assert refused.returncode == 2
        assert "give its wheel: --wheel edgevid_toy" in refused.stderr
        done = person.edgevid("flash", *words, "--wheel", toy.wheel)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["outcome"] == "serving"
        manifest = person.ssh(door, "cat /opt/edgevid/current/manifest.json").stdout
        names = [wheel["name"] for wheel in json.loads(manifest)["runner"]["wheels"]]
        assert toy.wheel.name in names
        wait_for(lambda: len(_rows(person, door, lines)) > 5)
        assert all(0 < float(row[1]) < 1 for row in _rows(person, door, lines)[:5])


def _rows(person, door, lines):
    return [line.split() for line in person.ssh(door, f"sudo cat {lines}").stdout.splitlines()]
