"""Services for the tests of the runner."""

import pytest

from rigs.service import Running


@pytest.fixture
def start(tmp_path):
    started = []

    def give(text: str, **env: str) -> Running:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Running(folder, text, **env))
        return started[-1]

    yield give
    for one in started:
        one.process.kill()
        one.process.communicate()
