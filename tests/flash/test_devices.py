"""Whole flashes of whole devices: the real command line, OpenSSH, and Debians of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rigs.devices import Person, device
from rigs.processes import wait_for
from rigs.systemd import PROJECT


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    return Person(tmp_path_factory.mktemp("person"))


@pytest.fixture(scope="module")
def door(person):
    """A device with systemd."""
    with device(person, "door") as made:
        yield made


@pytest.fixture(scope="module")
def shed(person):
    """A device without systemd."""
    with device(person, "shed", systemd=False) as made:
        yield made


@pytest.mark.parametrize(("name", "systemd"), [("door", True), ("shed", False)])
def test_the_rig_is_a_device_by_itself(name, systemd, person, request):
    made = request.getfixturevalue(name)
    assert person.ssh(made, "id -un; hostname").stdout.split() == ["pi", name]
    assert person.ssh(made, "sudo -n id -u").stdout.strip() == "0"
    assert person.ssh(made, "test -d /run/systemd/system").returncode == (0 if systemd else 1)
    assert person.ssh(made, "python3 -c 'import numpy'").returncode != 0
    route = person.ssh(made, "cat /proc/net/route").stdout.splitlines()[1:]
    assert [line.split()[1] for line in route if line.split()[1] == "00000000"] == []


NESTED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from rigs.devices import Person, device
with device(Person(Path(sys.argv[2])), "short", systemd=False) as made:
    print(made.link.name, flush=True)
    sys.stdin.read()
"""


def test_a_device_and_its_link_end_with_whoever_started_them(tmp_path):
    command = [sys.executable, "-c", NESTED, PROJECT / "tests", tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        name = run.stdout.readline().strip()
        assert Path(f"/sys/class/net/{name}").exists()
        run.kill()
    wait_for(lambda: not Path(f"/sys/class/net/{name}").exists())
