"""The service as `docs/examples/edgevid.service` starts it, under a real systemd."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rigs.systemd import PROJECT, machine

UNIT = "edgevid"
PYTHON = "python"  # in the command line of the service and of all its workers
# The tests' Python stands in the place of an installed one, and may live in a home; they need not
# wait for a watchdog as long as a slow device needs it.
PROGRAM = f'#!/bin/sh\nexec {sys.executable} -m edgevid "$@"\n'
DROP_IN = """
[Service]
WatchdogSec=3
RuntimeDirectoryPreserve=yes
ProtectHome=tmpfs
BindReadOnlyPaths={paths}
Environment='EDGEVID_NULL={behaviour}'
"""
CONFIG = """
output = "/var/lib/edgevid/answers.jsonl"

[[bundle]]
path = "model.edgevid"
accelerator = "{accelerator}"
"""
CAMERA = """
[[camera]]
name = "{name}"
source = "synthetic:64x64@15"
"""


@pytest.fixture(scope="module")
def debian():
    with machine() as started:
        started.write("/opt/edgevid/bin/edgevid", PROGRAM)
        started.run("chmod", "755", "/opt/edgevid/bin/edgevid")
        unit = (PROJECT / "docs/examples/edgevid.service").read_text()
        started.write(f"/etc/systemd/system/{UNIT}.service", unit)
        yield started


@pytest.fixture
def service(debian, null_bundle):
    service = Service(debian)
    debian.write("/etc/edgevid/model.edgevid", null_bundle.read_bytes())
    service.configure("door")
    service.behave()
    yield service
    debian.run("systemctl", "stop", UNIT)
    debian.run("systemctl", "reset-failed", UNIT, check=False)
    debian.run("rm", "-rf", "/var/lib/private/edgevid", "/run/private/edgevid")


def answered(status):
    """How many frames each camera has answered; each has one source and one pipeline."""
    return {
        camera["name"]: camera["sources"][0]["lanes"][0]["frames"]["answered"]
        for camera in status["cameras"]
    }


class Service:
    """edgevid on that machine."""

    def __init__(self, debian):
        self.debian = debian

    def behave(self, **behaviour):
        """Set how the null engine behaves."""
        homes = [p for p in self.debian.binds if p.is_relative_to("/root") or p.parts[1] == "home"]
        drop_in = DROP_IN.format(behaviour=json.dumps(behaviour), paths=" ".join(map(str, homes)))
        self.debian.write(f"/etc/systemd/system/{UNIT}.service.d/test.conf", drop_in)
        self.debian.run("systemctl", "daemon-reload")

    def configure(self, *cameras, accelerator="cpu", more=""):
        text = (
            CONFIG.format(accelerator=accelerator)
            + more
            + "".join(CAMERA.format(name=name) for name in cameras)
        )
        self.debian.write("/etc/edgevid/site.toml", text)

    def do(self, verb, *options):
        done = self.debian.run("systemctl", verb, UNIT, *options, check=False)
        assert done.returncode == 0, done.stderr + self.journal()

    def ask(self):
        """What it says on its socket; None while nobody answers."""
        code = "import edgevid.runner.status as s, json; print(json.dumps(s.ask('/run/edgevid')))"
        done = self.debian.run(sys.executable, "-c", code, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def serving(self):
        """The accelerator that serves."""
        return self.ask()["bundles"][0]["engine"]["serving"]["accelerator"]

    def answered(self):
        return answered(self.ask() or {"cameras": []})

    def lines(self):
        text = (self.debian.root / "var/lib/private/edgevid/answers.jsonl").read_text()
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def journal(self):
        return self.debian.journal(UNIT)

    def show(self, name):
        return self.debian.show(UNIT, name)

    def until(self, true, seconds=40):
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"{self.ask()}\n{self.journal()}"
            time.sleep(0.2)


def test_it_is_active_once_it_serves(service):
    service.do("start")
    assert service.show("ActiveState") == "active"
    assert service.ask()["state"] == "serving"
    service.until(lambda: service.answered().get("door", 0) > 5)
    assert service.show("NRestarts") == "0"


def test_it_is_not_active_before_its_engine_serves_and_can_be_stopped(service):
    service.behave(faults=[{"at": -1, "kind": "hang"}])
    service.do("start", "--no-block")
    service.until(lambda: service.debian.processes(PYTHON))
    time.sleep(3)
    assert service.show("ActiveState") == "activating"
    began = time.monotonic()
    service.do("stop")
    assert time.monotonic() - began < 5
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")
    assert service.debian.processes(PYTHON) == {}


def test_a_hung_engine_is_not_covered_up_and_systemd_restarts_it(service):
    service.behave(faults=[{"at": 40, "kind": "hang"}])
    service.do("start")
    before = service.show("MainPID")
    service.until(lambda: service.show("NRestarts") != "0", 60)
    assert "Watchdog timeout" in service.journal()
    service.until(lambda: service.answered().get("door", 0) > 0)
    assert service.show("MainPID") != before


def test_stop_answers_what_waits_and_leaves_nothing(service):
    service.behave(latency_ms=100)  # there is always a frame that waits
    service.do("start")
    service.until(lambda: service.answered().get("door", 0) > 5)
    before = service.answered()["door"]
    service.do("stop")
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")
    last = json.loads((service.debian.root / "run/private/edgevid/status.json").read_bytes())
    assert last["state"] == "stopped"
    assert last["frames"]["in_flight"] == 0
    assert before <= answered(last)["door"] == len(service.lines())
    assert service.debian.processes(PYTHON) == {}


def test_reload_takes_a_valid_change_and_keeps_the_old_on_an_invalid_one(service):
    service.do("start")
    before = service.show("MainPID")
    service.configure("door", "gate")
    service.do("reload")
    service.until(lambda: service.answered().get("gate", 0) > 5)
    service.configure("door", "yard", more="\n[stauts]\n")
    service.do("reload")
    service.until(lambda: "stauts" in service.journal())
    counts = service.answered()
    service.until(lambda: service.answered()["gate"] > counts["gate"] + 5)
    assert set(service.answered()) == {"door", "gate"}
    assert (service.show("MainPID"), service.show("NRestarts")) == (before, "0")


def test_a_killed_service_is_restarted_and_leaves_nothing_behind(service):
    shared = service.debian.root / "dev/shm"
    service.configure("door", accelerator="null")  # serves from a process of its own
    service.do("start")
    service.until(lambda: service.serving() == "null")
    before = set(service.debian.processes(PYTHON))
    assert len(before) > 1
    service.do("kill", "--kill-whom=main", "--signal=KILL")
    service.until(lambda: service.show("NRestarts") == "1" and service.answered().get("door"))
    assert before.isdisjoint(service.debian.processes(""))
    service.do("stop")
    assert list(shared.iterdir()) == []
    assert service.debian.processes(PYTHON) == {}


def test_the_unit_is_as_closed_as_it_says(debian):
    done = debian.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}.service")
    assert done.stdout + done.stderr == ""


NESTED = """
import sys
sys.path.insert(0, sys.argv[1])
from rigs.systemd import machine
with machine() as started:
    print(started.pid, flush=True)
    sys.stdin.read()
"""


def test_a_machine_ends_with_whoever_started_it(debian):
    command = [sys.executable, "-c", NESTED, PROJECT / "tests"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        pid = int(process.stdout.readline())
        assert Path(f"/proc/{pid}/root/etc").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}/root/etc").exists():  # a zombie has no files
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert os.path.ismount("/proc")
