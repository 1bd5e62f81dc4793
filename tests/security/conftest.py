"""Devices with a trusted key; a file may have a ``device`` of its own kind."""

import pytest

from rigs.agent import Device, Key, quick_folder
from rigs.trust import HEALTH, model


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return Key(folder, "right"), Key(folder, "wrong")


@pytest.fixture(scope="module")
def standing(keys):
    """A device on which two releases were installed; every test leaves it unchanged."""
    with quick_folder() as folder:
        device = Device(folder / "r", keys[0])
        assert device.flash(model(10), HEALTH)["healthy"]
        assert device.flash(model(20), HEALTH)["healthy"]
        yield device
        assert device.current() == model(20).id
        device.ask("uninstall")


@pytest.fixture(name="device")
def _device(keys):
    with quick_folder() as folder:
        made = Device(folder / "r", keys[0])
        yield made
        if made.root.exists():
            made.ask("uninstall")
