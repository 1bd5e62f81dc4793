"""What the tests of the agent share; each file has a ``device`` of its own kind."""

import pytest

from rigs.agent import Release


@pytest.fixture
def served(device):
    """A device on which a release serves."""
    first = Release(serial=10)
    assert device.flash(first)["healthy"]
    return device, first
