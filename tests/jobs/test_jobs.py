"""A bench on a device behind a real OpenSSH: links are cut, and clients killed."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgevid import targets
from edgevid.bench.result import read_result
from edgevid.bench.summary_table import HEAD, rows
from edgevid.errors import DeviceFailed
from edgevid.flash import package
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.installed import Installed, look
from edgevid.flash.inventory import DeviceEntry
from edgevid.flash.replies import STATUS, UNINSTALL, ContentReply, JobDocument, JobStateReply
from edgevid.jobs.client import BenchRun
from edgevid.jobs.request import BenchRequest
from edgevid.remote import Remote
from rigs.bundles import write_null
from rigs.processes import alive, wait_for
from rigs.proxy import Proxy
from rigs.sshd import sshd

# A device whose own Python has all that is needed, so that no wheel is sent.
OWN = """
title = "A machine with everything"
architecture = "any"
python = ["3.11", "3.12", "3.13"]
requires = []

[[engine]]
runtime = "null"
accelerator = "cpu"
quantize = ["float32"]

[[engine]]
runtime = "tflite"
accelerator = "cpu"
quantize = ["float32"]

[[distribution]]
module = "numpy"
package = "python3-numpy"
project = "numpy"

[[distribution]]
module = "av"
package = "python3-av"
project = "av"

[service]
user = "root"

[limits]
memory_mb = 512
disk_mb = 16
"""
ENTRY = DeviceEntry(name="one", host="one")
SHORT = ("--rounds", "2", "--samples", "100", "--scenario", "step")
LONG = ("--rounds", "2", "--scenario", "step", "--sustained", "60s")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with sshd(tmp_path_factory.mktemp("sshd"), path=path) as server:
        yield server


@pytest.fixture
def own_target():
    return "own", OWN


class Person:
    """Who benches from here, on folders of this machine as if they were devices."""

    def __init__(self, server, home, folder, bundle, video):
        self.server, self.home, self.folder = server, home, folder
        self.bundle, self.video = bundle, video
        self.roots = set()

    def root(self, name="one"):
        root = self.folder / name
        self.roots.add(root)
        return root

    def environment(self, port=None):
        return {**self.server.environment(port), "PYTHONPATH": os.pathsep.join(sys.path)}

    def words(self, *words, verb="bench", name="one", port=None):
        target = f"{self.server.user}@127.0.0.1:{port or self.server.port}"
        place = ("--target", target, "--kind", "own", "--root", self.root(name))
        command = [sys.executable, "-m", "edgevid", verb, self.bundle, *place, *words]
        return [*map(str, command)]

    def bench(self, *words, **more):
        """The whole command line; gives its exit code, what it told, and its document."""
        done = subprocess.run(
            self.words("--source", self.video, "--json", *words, **more),
            capture_output=True, text=True, env=self.environment(more.get("port")), timeout=120,
        )  # fmt: skip
        return done.returncode, done.stderr, json.loads(done.stdout)

    def start(self, *words, port=None):
        return subprocess.Popen(
            self.words("--source", self.video, "--json", *words, port=port),
            env=self.environment(port), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def flash(self):
        words = ("--source", "synthetic:96x64@5", "--health-s", "1", "--json")
        done = subprocess.run(
            self.words(*words, verb="flash"), capture_output=True, text=True,
            env=self.environment(), timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["release"]

    def ask(self, verb, root=None, **fields):
        with (
            self.server.remote() as remote,
            AgentClient(remote, str(root or self.root())) as device,
        ):
            return device.call(verb, fields)

    def pid(self, root):
        """The process that measures, once it does."""
        return int(wait_for(lambda: self._pid(root), 60))

    def _pid(self, root):
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
                told = (folder / "environ").read_bytes()
            except OSError:
                continue
            mark = f"EDGEVID_JOB={root}".encode()
            if mark in told.split(b"\0") and words.split(b"\0")[3:5] == [b"edgevid", b"bench"]:
                return folder.name
        return None

    def forget(self):
        for root in self.roots:
            for one in (root, root.with_name(f"{root.name}-bench")):
                if one.exists():
                    self.ask(UNINSTALL, one)


@pytest.fixture
def person(server, home, video):
    with tempfile.TemporaryDirectory(prefix="ev-") as name:  # a device's folder has a short name
        folder = Path(name)
        person = Person(server, home, folder, write_null(folder / "motion.edgevid"), video)
        yield person
        person.forget()


def _serves(person):
    status = person.ask(STATUS).status
    return status is not None and status.state == "serving"


def beside(root):
    return root.with_name(f"{root.name}-bench")


def test_a_temporary_runner_measures_and_nothing_is_left(person):
    out = person.folder / "result.json"
    code, said, document = person.bench(*SHORT, "--out", out)
    assert code in (0, 3), said
    assert document["release"] is None and document["throw_away"] is True
    assert document["service"] is None
    assert (document["bundle"]["name"], document["results"][0]["job"]["scenario"]) == (
        "motion",
        "step",
    )
    assert document == json.loads(out.read_text())
    assert not person.root().exists() and not beside(person.root()).exists()
    assert (
        dict(zip(HEAD, rows([read_result(document, "it")])[0], strict=True))["engine"] == "null/cpu"
    )


@pytest.mark.soak
def test_the_deployed_runner_measures_beside_its_service(person):
    release = person.flash()
    before = person.ask(STATUS).service.pid
    code, said, document = person.bench(*SHORT)
    assert code in (0, 3), said
    assert document["release"] == release and document["throw_away"] is False
    assert document["service"] == "beside"
    assert person.ask(STATUS).service.pid == before
    assert not beside(person.root()).exists()
    assert not any((person.root() / "jobs").glob("*/"))
    blobs = {path.name for path in (person.root() / "blobs").iterdir()}
    manifest = json.loads((person.root() / "current" / "manifest.json").read_text())
    wheels = manifest["runner"]["wheels"]
    assert len(blobs) == 3 + len(wheels)  # nothing more than the release's


def test_a_runner_of_another_edgevid_or_without_the_runtime_is_not_used(person):
    target = targets.load("own")
    with person.server.remote() as there, AgentClient(there, str(person.root())) as device:
        facts = look(device)[0]
    made = json.loads(package.build(facts, target, [person.bundle], b"").manifest)
    other = json.loads(json.dumps(made))
    other["runner"]["wheels"][0]["sha256"] = "0" * 64

    def serves(manifest, *runtimes):
        request = BenchRequest(person.bundle, person.video, runtimes=runtimes)
        run = BenchRun(ENTRY, request, Remote(ENTRY.address), None, None, None, None)
        text = json.dumps(manifest).encode()
        return run.runner_fits(Installed("r", text).content, facts, target)

    assert serves(made)
    assert not serves(other)
    assert not serves(made, "tflite")
    made["runner"]["wheels"].append(
        {"name": "ai_edge_litert-2.3.0-cp311.whl", "sha256": "", "size": 1}
    )
    assert serves(made, "tflite")


def test_a_link_that_is_cut_meanwhile_changes_nothing(person):
    proxy = Proxy(person.server.port)
    person.server.know(proxy.port)
    try:
        running = person.start(*SHORT, "--sustained", "3s", port=proxy.port)
        pid = person.pid(beside(person.root()))
        proxy.cut()
        wait_for(lambda: not alive(pid), 60)  # it was not seen while it measured
        proxy.restore()
        out, said = running.communicate(timeout=60)
    finally:
        proxy.close()
    assert running.returncode in (0, 3), said
    assert "reconnecting" in said and "reconnected" in said
    assert json.loads(out)["results"][0]["sustained"]
    assert not beside(person.root()).exists()


def test_the_same_command_takes_over_what_a_killed_client_began(person):
    words = (*SHORT, "--sustained", "3s")
    running = person.start(*words)
    pid = person.pid(beside(person.root()))
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert alive(pid)
    code, said, document = person.bench(*words)
    assert code in (0, 3), said
    assert "attaching to it" in said
    assert document["results"][0]["sustained"]
    assert not beside(person.root()).exists()


@pytest.mark.soak
def test_an_ended_job_of_a_killed_client_is_taken_over(person):
    running = person.start(*SHORT)
    root = beside(person.root())
    person.pid(root)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    wait_for(lambda: list(root.glob("jobs/*/exit.json")), 60)
    wait_for(lambda: not (root / "runners").exists())  # the runner did not wait for anybody
    (job,) = root.glob("jobs/*/job.json")
    began = json.loads(job.read_text())["began_unix_s"]
    code, said, document = person.bench(*SHORT)
    assert code in (0, 3) and "ended; attaching to it" in said
    assert began < document["created_unix_s"] < began + 60
    assert not root.exists()


def test_an_interrupt_ends_the_job_and_leaves_nothing(person):
    running = person.start(*LONG)
    pid = person.pid(beside(person.root()))
    os.killpg(running.pid, signal.SIGINT)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert not alive(pid)
    assert not beside(person.root()).exists()


@pytest.mark.soak
def test_another_bench_is_not_disturbed_unless_it_is_ended(person):
    running = person.start(*LONG)
    pid = person.pid(beside(person.root()))
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    code, said, _ = person.bench(*SHORT)
    assert code == 4 and "another benchmark is running" in said and "--end-other" in said
    assert alive(pid)
    code, said, _ = person.bench(*SHORT, "--end-other")
    assert code in (0, 3), said
    assert not alive(pid)


def test_a_paused_service_comes_back_when_all_processes_are_killed(person):
    person.flash()
    root = person.root()
    served = person.ask(STATUS).service.pid
    running = person.start(*LONG, "--pause-service")
    pid = person.pid(root)
    assert not alive(served)
    keeper = int((root / "jobs" / "lock").read_text().split()[0])
    os.killpg(running.pid, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    running.communicate()
    wait_for(lambda: _serves(person), 30)


@pytest.mark.soak
def test_a_kept_runner_makes_the_next_bench_cheap(person):
    assert person.bench(*SHORT, "--keep-runner")[0] in (0, 3)
    root = beside(person.root())
    (lib,) = root.glob("runners/*/lib")
    made = lib.stat().st_ino
    code, said, _ = person.bench(*SHORT, "--keep-runner")
    assert code in (0, 3) and "unpacking" not in said
    assert lib.stat().st_ino == made
    assert person.bench(*SHORT)[0] in (0, 3)
    assert not root.exists()


def test_a_failed_bench_gives_its_reason_in_one_line(person):
    code, said, document = person.bench(*SHORT, "--artifact", "null-int8")
    assert code == 2
    assert "null-int8" in document["error"] and "Traceback" not in said
    assert not beside(person.root()).exists()


def test_several_devices_at_once_give_one_table(person):
    devices = ""
    for name in ("one", "two"):
        devices += f'[[device]]\nname = "{name}"\nhost = "127.0.0.1"\nport = {person.server.port}\n'
        devices += f'user = "{person.server.user}"\ntarget = "own"\ntags = ["all"]\n'
        devices += f'root = "{person.root(name)}"\n'
    devices += '[[device]]\nname = "gone"\nhost = "127.0.0.1"\nport = 9\ntags = ["all"]\n'
    (person.home / "devices.toml").write_text(devices)
    out = person.folder / "results"
    words = ["bench", person.bundle, "--source", person.video, "--target", "all", "--out", out]
    done = subprocess.run(
        [sys.executable, "-m", "edgevid", *map(str, words), *SHORT],
        capture_output=True, text=True, env=person.environment(), timeout=120,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    table = done.stdout.splitlines()
    assert [line.split()[0] for line in table[:3]] == ["device", "one", "two"]
    assert "gone: connection refused" in done.stdout.replace(": 127.0.0.1:9", "")
    documents = [json.loads((out / f"{name}.json").read_text()) for name in ("one", "two")]
    assert [one["device"]["name"] for one in documents] == ["one", "two"]
    assert not any(beside(root).exists() for root in person.roots)


def test_a_damaged_result_is_refused(person):
    request = BenchRequest(person.bundle, person.video)
    run = BenchRun(ENTRY, request, Remote(ENTRY.address), None, lambda *_: None, None, None)

    class Place:
        def ask(self, verb, offset, **fields):
            return ContentReply(base64.b64encode(b'{"valid": true}'[offset:]).decode())

    end = JobStateReply(
        "ended", document=JobDocument(hashlib.sha256(b'{"valid": true}').hexdigest(), 15)
    )
    assert run.fetch_document(Place(), "name", end) == {"valid": True}
    end = replace(end, document=JobDocument("0" * 64, 15))
    with pytest.raises(DeviceFailed, match="damaged"):
        run.fetch_document(Place(), "name", end)
