"""Jobs on a device that is a folder: real processes, which go on when nobody watches them."""

import base64
import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from edgevid.flash.agent import source
from rigs.agent import RUNNER, Device, Fault, Key, Release, quick_folder, sha, until, wheel
from rigs.processes import alive

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]

# It serves as ever; and what a job asks for, it does: args are Python.
JOBS = f"""
import sys
if sys.argv[1] == "bench":
    import json, os, subprocess, time
    open("pid", "w").write(str(os.getpid()))
    exec(sys.argv[2])
else:
    exec({RUNNER!r})
"""
WRITE = "open('document.json', 'w').write(open('../files/text').read());"
SLEEP = "time.sleep(60)"
CHILD = "subprocess.Popen(['sleep', '61'], start_new_session=True);"


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def device(key):
    with quick_folder() as folder:
        device = Device(folder / "r", key)
        yield device
        device.ask("uninstall")
        assert not device.root.exists()


@pytest.fixture
def release():
    return Release(
        wheels={"edgevid-1.whl": wheel({"edgevid/__init__.py": "", "edgevid/__main__.py": JOBS})}
    )


@pytest.fixture
def flashed(device, release):
    assert device.flash(release)["healthy"]
    return device


NAME = "0123456789abcdef"


def begin(device, release, code, name=NAME, **more):
    """Start a job, and leave: what it needs is sent before."""
    files = {"agent.py": source(), "text": b"what was asked for"}
    with device.session() as session:
        session.ask("session")
        for content in files.values():
            sizes = {"sha256": sha(content), "size": len(content)}
            session.ask("blob", content, offset=0, **sizes)
        named = {file: sha(content) for file, content in files.items()}
        args = ["bench", code]
        return session.ask("job", id=name, release=release.id, args=args, files=named, **more)


def state(device, name=NAME, said=0):
    return device.ask("job-state", id=name, said=said)


def ended(device, name=NAME):
    return until(lambda: (now := state(device, name))["state"] != "running" and now)


def pid_of(device, name=NAME):
    file = device.root / "jobs" / name / "out" / "pid"
    return int(until(lambda: file.exists() and file.read_text()))


def keeper_of(device):
    return int((device.root / "jobs" / "lock").read_text().split()[0])


def gone(pid):
    return until(lambda: not alive(pid))


def test_a_job_runs_without_a_client_and_its_document_is_read(device, release):
    with device.session() as session:
        device.stage(session, release)
    code = f"print('one', file=sys.stderr, flush=True); time.sleep(0.5); {WRITE} sys.exit(3)"
    assert not begin(device, release, code)["already"]
    assert begin(device, release, code)["already"]
    first = until(lambda: (now := state(device))["stderr"] and now)
    assert first["stderr"] == "one\n" and state(device, said=first["said"])["stderr"] == ""
    done = ended(device)
    assert (done["state"], done["exit_code"], done["why"]) == ("ended", 3, "ended")
    part = device.ask("job-read", id=NAME, file="document", offset=5)["content"]
    assert base64.b64decode(part) == b"was asked for"
    whole = b"what was asked for"
    assert done["document"] == {"sha256": hashlib.sha256(whole).hexdigest(), "size": len(whole)}
    assert begin(device, release, code)["already"]
    assert device.ask("job-end", id=NAME)["ended"]
    assert state(device)["state"] == "absent"


def test_ending_a_job_ends_its_children(device, release):
    with device.session() as session:
        device.stage(session, release)
    begin(device, release, CHILD + SLEEP)
    pid = pid_of(device)
    sleeping = until(lambda: [p for p in marked(device) if p != pid])
    assert device.ask("job-end", id=NAME)["ended"]
    assert not any(map(alive, [pid, *sleeping]))
    assert not (device.root / "jobs" / NAME).exists()


def test_a_deadline_ends_a_job_and_killing_its_runner_leaves_no_process(device, release):
    with device.session() as session:
        device.stage(session, release)
    begin(device, release, SLEEP, deadline_s=1.0)
    assert ended(device)["why"] == "deadline"
    begin(device, release, SLEEP, name="f" * 16)
    pid = pid_of(device, "f" * 16)
    os.kill(keeper_of(device), signal.SIGKILL)
    gone(pid)
    assert state(device, "f" * 16)["state"] == "lost"
    assert not begin(device, release, "pass", name="f" * 16)["already"]
    assert ended(device, "f" * 16)["exit_code"] == 0


def marked(device):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"EDGEVID_JOB={device.root}".encode() in told.split(b"\0"):
            found.append(int(folder.name))
    return found


def test_one_job_runs_at_a_time_including_temporary_runners(device, release, key):
    with device.session() as session:
        device.stage(session, release)
    trial = Device(device.root.with_name("r-bench"), key)
    with trial.session() as session:
        package = trial.package(release)
        session.ask("session", trial=True)
        sizes = {name: len(content) for name, content in release.blobs.items()}
        assert session.ask("missing", blobs=sizes, beside=str(device.root))["missing"] == {}
        session.ask("stage", **package)
    begin(trial, release, SLEEP, throw_away=True)
    with pytest.raises(Fault, match="another benchmark is running"):
        begin(device, release, SLEEP)
    assert device.ask("job-end")["ended"]
    begin(device, release, "pass")
    assert ended(device)["exit_code"] == 0
    trial.ask("uninstall")


def test_a_temporary_runner_is_removed_with_its_job(device, release):
    with device.session() as session:
        device.stage(session, release)
    begin(device, release, WRITE, throw_away=True)
    ended(device)
    until(lambda: not (device.root / "runners").exists())
    assert not any((device.root / name).exists() for name in ("blobs", "releases"))
    assert device.ask("job-read", id=NAME, file="document", offset=0)["content"]


def serves(device):
    """Whether a process of the service is there."""
    return device.ask("status")["service"]["pid"]


@pytest.mark.parametrize("way", ["end", "deadline", "asked", "all killed"])
def test_a_paused_service_always_serves_again(flashed, release, way):
    device, before = flashed, serves(flashed)
    code = "while not os.path.exists('go'): time.sleep(0.02)" if way == "end" else SLEEP
    deadline_s = 1.0 if way == "deadline" else 60.0
    begin(device, release, code, pause=str(device.root), deadline_s=deadline_s)
    job = pid_of(device)
    assert not alive(before)
    if way != "deadline":  # which may be over by now
        assert serves(device) is None
        with pytest.raises(Fault, match="paused"):
            device.ask("activate", id=release.id)
    if way == "end":
        (device.root / "jobs" / NAME / "out" / "go").touch()
    if way == "asked":
        device.ask("job-end", id=NAME)
    if way == "all killed":
        for pid in (keeper_of(device), job):
            os.kill(pid, signal.SIGKILL)
    gone(job)
    until(lambda: serves(device))
    device.serving(release)
    assert device.ask("status")["service"]["restarts"] == 0


def test_a_service_that_was_not_paused_keeps_serving(flashed, release):
    before = serves(flashed)
    begin(flashed, release, WRITE)
    assert ended(flashed)["exit_code"] == 0
    assert serves(flashed) == before


def test_an_invalid_job_is_refused(flashed, release):
    bad = [
        {"id": "../../etc"},
        {"release": "f" * 16},
        {"args": "rm"},
        {"files": {"../x": sha(b"a model")}},
        {"files": {"x": sha(b"never sent")}},
    ]
    good = {"id": NAME, "release": release.id, "args": ["bench", "pass"], "files": {}}
    with flashed.session() as session:
        session.ask("session")
        for fields in bad:
            with pytest.raises(Fault):
                session.ask("job", **{**good, **fields})
        for verb in ("job-read", "job-state", "job-end"):
            with pytest.raises(Fault):
                session.ask(verb, id="../..", file="document")
    outside = flashed.root / "jobs" / NAME / "out" / "document.json"
    begin(flashed, release, "os.symlink('/etc/passwd', 'document.json')")
    assert ended(flashed)["document"] is None and outside.is_symlink()
    assert flashed.ask("job-read", id=NAME, file="document")["content"] == ""


def test_a_tuning_is_stored_where_the_service_looks(flashed):
    name, choice = "a" * 32, {"choice": {"threads": 2}}
    assert flashed.ask("tuned", name=name, content=choice)["kept"]
    file = flashed.root / "tuned" / f"{name}.json"
    assert json.loads(file.read_text()) == choice
    assert not flashed.ask("tuned", name=name, content=None)["kept"]
    assert not file.exists()
    with pytest.raises(Fault):
        flashed.ask("tuned", name="../x", content=choice)
