"""A device of every test's own."""

import pytest

from rigs.sshd import sshd


@pytest.fixture
def device(tmp_path):
    """This machine, behind an SSH server of its own."""
    folder = tmp_path / "sshd"
    folder.mkdir()
    with sshd(folder) as server:
        yield server
