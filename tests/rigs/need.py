"""What a rig needs of the machine: where it is missing a test skips, but never in CI."""

import os
import shutil

import pytest


def missing(what: str, mend: str) -> None:
    """Skip the test, with the line that mends it; fail where nothing may be missing."""
    tell = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    tell(f"{what} is missing; {mend}")


def need_program(name: str, package: str) -> str:
    """Give the path of a program that a Debian package provides."""
    found = shutil.which(name)
    if found is None:
        missing(name, f"run: apt-get install {package}")
    return str(found)


def need_root() -> None:
    """For rigs that make namespaces and mounts of their own."""
    if os.geteuid() != 0:
        missing("root", "run the tests as root")
