"""Whole flashes of whole devices: the real command line, OpenSSH, and Debians of their own."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rigs.audit import whole
from rigs.bundles import write_null
from rigs.devices import Person, device
from rigs.processes import wait_for
from rigs.systemd import PROJECT

pytestmark = pytest.mark.starts(0)


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


SOURCE = "synthetic:64x64@15"
OPT = "opt/edgevid"


class Owner:
    """The person, and what they do to one device."""

    def __init__(self, person, made):
        self.person, self.device = person, made
        self.root = made.root / OPT
        person.inventory(made)

    def call(self, *words, code=0, health_s=2):
        """Flash, and give the result; ``code`` is the exit code that is expected."""
        options = ("--target", self.device.name, "--health-s", health_s, "--json")
        done = self.person.edgevid("flash", *words, *options)
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)

    def flash(self, *bundles, options=(), **more):
        return self.call(*bundles, "--source", SOURCE, *options, **more)

    def status(self):
        """What the runner on the device says of itself."""
        done = self.person.edgevid("fleet", "status", "--target", self.device.name, "--json")
        (found,) = json.loads(done.stdout)["devices"]
        return found

    def pids(self):
        """The processes of the service, but not those of guards and agents."""
        return set(self.device.machine.processes("edgevid run"))

    def forget(self):
        self.call("--uninstall")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Bundles of one name and other content, with equal runners; ``sick`` dies when it serves."""
    folder = tmp_path_factory.mktemp("bundles")
    faults = [{"at": 35, "kind": "vanish"}]  # it served well for two seconds
    made = {"one": {}, "two": {"mark": 2}, "sick": {"faults": faults}}
    made["large"] = {"padding": random.Random(1).randbytes(500_000).hex()}
    for name, behaviour in made.items():
        (folder / name).mkdir()
        write_null(folder / name / "motion.edgevid", **behaviour)
    return {name: folder / name / "motion.edgevid" for name in made}


@pytest.fixture
def owner(person, door):
    return Owner(person, door)


def test_a_first_flash_becomes_healthy_and_serves(owner, bundles):
    result = owner.flash(bundles["one"])
    assert result["outcome"] == "serving"
    release = whole(owner.root)
    assert release.name == result["release"]
    seen = owner.status()
    assert (seen["health"], seen["drift"]) == ("serving", None)
    assert seen["engine"] == "null/cpu float32"
    assert seen["fps"] > 1


def test_a_second_flash_sends_next_to_nothing_and_restarts_nothing(owner, bundles):
    first = owner.flash(bundles["one"])
    before = owner.pids()
    assert before
    again = owner.flash(bundles["one"])
    assert again["outcome"] == "unchanged"
    assert again["release"] == first["release"]
    assert again["wire_bytes"] < 64 << 10
    assert owner.pids() == before


def test_a_new_model_sends_little_more_than_the_model(owner, bundles):
    owner.flash(bundles["one"])
    result = owner.flash(bundles["large"])
    size = bundles["large"].stat().st_size
    assert result["outcome"] == "serving"
    assert size <= result["wire_bytes"] < size + (64 << 10)


def test_an_unhealthy_release_is_rolled_back_with_its_reason(owner, bundles):
    old = owner.flash(bundles["one"])["release"]
    result = owner.flash(bundles["sick"], code=1, health_s=5)
    assert whole(owner.root).name == old
    assert owner.status()["health"] == "serving"
    assert "rolled back" in json.dumps(result)


def test_an_unhealthy_release_is_rolled_back_without_a_link(person, bundles):
    with device(person, "pole") as made:
        owner = Owner(person, made)
        old = owner.flash(bundles["one"])["release"]
        words = ("--source", SOURCE, "--target", "pole", "--health-s", 6, "--json")
        flashing = person.start("flash", bundles["sick"], *words)
        journal = owner.root / "journal.json"
        wait_for(lambda: json.loads(journal.read_text())["state"] == "activating", 60)
        made.link.cut()
        cut = time.monotonic()
        wait_for(lambda: json.loads(journal.read_text())["state"] == "rolled-back", 30)
        assert time.monotonic() - cut < 6 + 5  # the health window, and a loaded machine
        assert whole(owner.root).name == old
        reason = json.loads(journal.read_text())["reason"]
        assert reason["message"]
        wait_for(owner.pids)
        flashing.terminate()
        flashing.communicate()


def test_without_systemd_the_supervisor_serves(person, shed, bundles):
    owner = Owner(person, shed)
    result = owner.flash(bundles["one"])
    assert result["outcome"] == "serving"
    assert owner.status()["health"] == "serving"
    old = whole(owner.root).name
    for pid in owner.pids():
        shed.machine.run("kill", "-KILL", pid, check=False)
    wait_for(lambda: owner.pids() and owner.status()["health"] == "serving", 30)
    owner.flash(bundles["sick"], code=1, health_s=5)
    assert whole(owner.root).name == old
    owner.forget()
    assert not owner.root.exists()
    assert shed.machine.processes("edgevid") == {}


NESTED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from rigs.devices import Person, device
with device(Person(Path(sys.argv[2])), "short", systemd=False) as made:
    print(made.link.name, flush=True)
    sys.stdin.read()
"""


def test_the_rig_ends_with_the_process_that_started_it(tmp_path):
    command = [sys.executable, "-c", NESTED, PROJECT / "tests", tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        name = run.stdout.readline().strip()
        assert Path(f"/sys/class/net/{name}").exists()
        run.kill()
    wait_for(lambda: not Path(f"/sys/class/net/{name}").exists())


def test_once_sudo_asks_for_a_password_no_second_installation_is_made(person, shed, bundles):
    owner = Owner(person, shed)
    owner.flash(bundles["one"])
    sudoers = shed.root / "etc/sudoers.d/pi"
    allowed = sudoers.read_text()
    sudoers.unlink()
    try:
        for words in ((bundles["two"], "--source", SOURCE), ("--uninstall",)):
            refused = owner.call(*words, code=2)["error"]
            assert "is installed in /opt/edgevid, and sudo asks this user for a password" in refused
        assert owner.status()["others"] == ["/opt/edgevid"]
        assert not (shed.root / "home/pi/.local/share/edgevid").exists()
    finally:
        sudoers.write_text(allowed)
        sudoers.chmod(0o440)
    assert owner.status()["others"] == []
    owner.forget()
