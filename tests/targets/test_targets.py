import json

import pytest

from edgevid import registry, targets
from edgevid.errors import BadInput
from edgevid.runtimes import catalog

WHOLE = """
title = "A board"
architecture = "aarch64"
python = ["3.11"]
limits = { memory_mb = 256, disk_mb = 512 }
[[engine]]
runtime = "tflite"
accelerator = "cpu"
quantize = ["int8"]
"""


@pytest.mark.parametrize("name", targets.names())
def test_every_shipped_target_is_whole(name):
    target = targets.load(name)
    assert target.name == name
    assert {way.runtime for way in target.engine} <= set(registry.names("runtime"))


def test_the_targets_that_people_ask_for_are_there():
    boards = {"raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-5-coral", "jetson-orin"}
    general = {"local", "linux-x86-64", "intel-npu", "generic-arm64", "generic-armv7"}
    assert boards | general <= set(targets.names())


@pytest.mark.parametrize("name", targets.names())
def test_each_target_has_a_cpu_to_fall_back_on_and_lists_what_accelerators_need(name):
    target = targets.load(name)
    assert "cpu" in {way.accelerator for way in target.engine}
    for way in target.engine:
        if way.accelerator not in ("cpu", "null"):
            assert way.nodes or way.usb
            assert set(way.groups) <= {*target.service.groups, "plugdev", "apex"}
        assert way.runtime == "null" or catalog.requirements(way)
    assert not any(" " in device for device in target.service.devices)


@pytest.mark.parametrize("name", targets.names())
def test_a_target_is_shown_whole(edgevid, name):
    shown = edgevid("targets", "show", name).stdout
    target = targets.load(name)
    for text in (target.title, *target.python, *target.wheels, *target.udev, *target.models):
        assert text in shown
    for provided in target.distribution:
        assert provided.package in shown
    for way in target.engine:
        assert f"{way.runtime}/{way.accelerator}" in shown
        assert all(
            text in shown
            for text in (*catalog.requirements(way), *way.nodes, *way.usb, *way.libraries)
        )


def test_a_target_is_shown_to_machines_with_its_wheels(edgevid):
    shown = json.loads(edgevid("targets", "show", "raspberry-pi-5-coral", "--json").stdout)
    assert shown["engine"][0]["requires"] == ["ai-edge-litert>=2.1"]
    assert shown["engine"][0]["proven"] is False
    assert shown["udev"]


def test_a_users_own_target_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "edgevid" / "targets"
    folder.mkdir(parents=True)
    (folder / "my-board.toml").write_text(WHOLE)
    assert targets.load("my-board").limits.memory_mb == 256
    assert "my-board" in targets.names()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "architecture",
            "architekture",
            r":3: unknown key 'architekture'; did you mean 'architecture'",
        ),
        ('accelerator = "cpu"', "", r":6: engine\[0\] lacks the key 'accelerator'; add it"),
        ("memory_mb = 256", 'memory_mb = "256"', ":5: limits: memory_mb must be a whole number"),
        ('python = ["3.11"]', 'python = "3.11"', ":4: python must be a list"),
        ('title = "A board"', 'title = "A board', ":2: not valid TOML"),
        (
            'title = "A board"',
            'name = "other"\ntitle = "x"',
            ":2: name must be the file's name",
        ),
    ],
)
def test_a_wrong_file_is_rejected_with_line_and_remedy(tmp_path, before, after, message):
    file = tmp_path / "board.toml"
    file.write_text(WHOLE.replace(before, after))
    with pytest.raises(BadInput, match=message):
        targets.read(file)


def test_an_unknown_target_is_rejected_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean generic-arm64"):
        targets.load("generic-arm46")
