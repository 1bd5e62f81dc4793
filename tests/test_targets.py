import pytest

from edgevid import registry, targets
from edgevid.errors import BadInput

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


def test_the_three_first_targets_are_there():
    assert {"local", "linux-x86-64", "generic-arm64"} <= set(targets.names())


def test_a_users_own_target_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "edgevid" / "targets"
    folder.mkdir(parents=True)
    (folder / "my-board.toml").write_text(WHOLE)
    assert targets.load("my-board").limits.memory_mb == 256
    assert "my-board" in targets.names()


@pytest.mark.parametrize(
    ("before", "after", "says"),
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
def test_a_wrong_file_is_answered_with_place_and_mend(tmp_path, before, after, says):
    file = tmp_path / "board.toml"
    file.write_text(WHOLE.replace(before, after))
    with pytest.raises(BadInput, match=says):
        targets.read(file)


def test_an_unknown_target_is_answered_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean generic-arm64"):
        targets.load("generic-arm46")
