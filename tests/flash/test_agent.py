"""The agent on a device that is a folder: real processes, real keys, a tiny real runner."""

import pytest

from rigs.agent import Device, Key, Release
from rigs.processes import alive


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return Key(folder, "right"), Key(folder, "wrong")


@pytest.fixture
def device(keys, tmp_path):
    device = Device(tmp_path / "r", keys[0])
    yield device
    if device.root.exists():
        device.ask("uninstall")
    assert not device.root.exists()


def test_a_first_flash_serves_and_the_same_again_restarts_nothing(device):
    first = Release()
    done = device.flash(first)
    assert done["healthy"] and done["state"] == "idle", done
    assert device.current() == first.id == done["release"]
    before = device.serving(first)["service"]
    assert alive(before["pid"])
    again = device.flash(first)
    assert not again["started"]
    assert device.ask("status")["service"] == before
