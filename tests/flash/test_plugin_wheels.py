"""Which wheels of plug-ins a release needs, and which are refused."""

import dataclasses
from pathlib import Path

import pytest

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.flash import plugin_wheels
from edgevid.flash.wheels import WheelRequest
from edgevid.targets import EngineChoice
from rigs.wheels import write_wheel

DEVICE = WheelRequest((), "aarch64", "3.11", ("manylinux_2_36_aarch64", "manylinux2014_aarch64"))
POINTS = "[edgevid.sink]\nhook = my_plugin:Hook\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package ``my-plugin`` 1.0 is installed here and provides the sink ``hook``."""
    site = tmp_path / "site"
    info = site / "my_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(site)
    registry.forget_entry_points()
    yield
    registry.forget_entry_points()


@pytest.fixture
def wheel(tmp_path):
    def write(version="1.0", tag="py3-none-any", requires=(), members=(), points=POINTS) -> Path:
        contents = dict.fromkeys(members, "x")
        if points is not None:
            contents[f"my_plugin-{version}.dist-info/entry_points.txt"] = points
        return write_wheel(tmp_path, "my-plugin", version, tag, requires, contents)

    return write


SERVICE = b'[[camera]]\nsource = "rtsp://a/b"\n[[sink]]\nkind = "hook"\n[[sink]]\nkind = "jsonl"\n'
WANTED = {"my-plugin": ["sink hook"]}


def test_built_in_plug_ins_need_no_wheel():
    ways = [EngineChoice("tflite", "cpu", ("int8",))]
    assert plugin_wheels.needed(["raw"], ways, b'[[camera]]\nsource = "rtsp://a/b"\n') == {}


def test_a_plug_in_of_another_package_needs_its_wheel(installed):
    assert plugin_wheels.needed(["raw"], [], SERVICE) == WANTED
    with pytest.raises(BadInput, match=r"sink hook .*my-plugin.*--wheel my_plugin-VERSION.whl"):
        plugin_wheels.choose(WANTED, [], DEVICE)


def test_an_unknown_plug_in_is_answered_with_the_nearest(installed):
    with pytest.raises(BadInput, match="did you mean hook"):
        plugin_wheels.needed([], [], b'[[sink]]\nkind = "hok"\n')


def test_the_wheel_is_chosen_and_its_requirements_are_resolved(installed, wheel):
    path = wheel(requires=["edgevid>=0.1", "numpy>=1.24", "paho-mqtt>=2", "x; extra == 'dev'"])
    (chosen,) = plugin_wheels.choose(WANTED, [path], DEVICE)
    assert (chosen.wheel.project, chosen.wheel.version) == ("my-plugin", "1.0")
    request = plugin_wheels.with_requirements(DEVICE, [chosen])
    assert request.requirements == ("numpy>=1.24", "paho-mqtt>=2")
    own = dataclasses.replace(DEVICE, provided=("numpy",))
    assert plugin_wheels.with_requirements(own, [chosen]).requirements == ("paho-mqtt>=2",)


@pytest.mark.parametrize(
    ("made", "wanted", "says"),
    [
        ({"version": "1.1"}, WANTED, "is version 1.1, and 1.0 is installed here"),
        ({"tag": "cp311-cp311-manylinux2014_x86_64"}, WANTED, "is not for aarch64"),
        ({"tag": "cp312-none-any"}, WANTED, "is not for aarch64, Python 3.11"),
        ({"points": "[console_scripts]\nx = y:z\n"}, WANTED, "has no plug-in for edgevid"),
        ({"points": None}, WANTED, "it has no entry points"),
        ({"members": ["edgevid/runner/service.py"]}, WANTED, "brings the package edgevid"),
        ({}, {}, "nothing that will be served uses it"),
    ],
)
def test_a_wheel_that_does_not_fit_is_refused(installed, wheel, made, wanted, says):
    with pytest.raises(BadInput, match=says):
        plugin_wheels.choose(wanted, [wheel(**made)], DEVICE)


def test_what_is_no_wheel_is_refused(tmp_path):
    (tmp_path / "plugin.zip").write_bytes(b"PK")
    broken = tmp_path / "my_plugin-1.0-py3-none-any.whl"
    broken.write_bytes(b"PK")
    for path in (tmp_path / "plugin.zip", broken, tmp_path / "none-1.0-py3-none-any.whl"):
        with pytest.raises(BadInput, match=r"not a wheel|has no plug-in"):
            plugin_wheels.read(path)


def test_a_plug_in_cannot_replace_a_file_of_another_wheel(wheel, tmp_path):
    other = write_wheel(tmp_path, "numpy", "2.0", members=["numpy/core.py"])
    plugin = plugin_wheels.read(wheel(members=["numpy/core.py"]))
    with pytest.raises(BadInput, match=r"both bring numpy/core\.py"):
        plugin_wheels.check_apart([plugin], [other])
    plugin_wheels.check_apart([plugin_wheels.read(wheel())], [other])
