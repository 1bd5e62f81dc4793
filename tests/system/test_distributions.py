"""Versions of installed distributions agree with the standard library's."""

import subprocess
import sys
from importlib import metadata

import pytest

from edgevid.system.distributions import installed_version


@pytest.mark.parametrize(
    "project", ["numpy", "ai-edge-litert", "AI_Edge.LiteRT", "click", "edgevid"]
)
def test_the_version_is_that_of_the_metadata(project):
    assert installed_version(project) == metadata.version(project)


def test_what_is_not_installed_has_no_version():
    assert installed_version("edgevid-no-such-project") is None


def test_a_folder_on_the_path_is_enough(tmp_path, monkeypatch):
    (tmp_path / "some_thing-2.5rc1.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed_version("Some.Thing") == "2.5rc1"


def test_the_standard_library_is_not_imported_for_it():
    code = (
        "import sys; from edgevid.system.distributions import installed_version as v; v('numpy'); "
        "assert 'importlib.metadata' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
