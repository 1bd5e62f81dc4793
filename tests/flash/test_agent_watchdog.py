"""Sick releases, and processes killed anywhere: the device serves the old one or the new one."""

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from rigs.agent import HEALTH, Device, Key, Release, quick_folder, tiny_runner, until, wheel

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def folder():
    with quick_folder() as folder:
        yield folder


@pytest.fixture
def device(key, folder):
    device = Device(folder / "r", key)
    yield device
    until(lambda: not guards(device.root))
    if device.root.exists():
        device.ask("uninstall")
    assert not device.root.exists()


def guards(root):
    """The guards of this folder: their numbers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[1:2] == [b"-I"] and words[3:4] == [b"guard"] and str(root).encode() in words:
            found.append(int(folder.name))
    return found


def end_guards(root):
    """As a power cut ends them: with who would start them again."""
    for guard in guards(root):
        parent = int(Path(f"/proc/{guard}/stat").read_text().rpartition(")")[2].split()[1])
        for pid in (parent, guard):
            os.kill(pid, signal.SIGKILL)


SICK = [
    ({"dies_s": 0.0, "exit": 7}, {}, "start", "ended with exit code 7"),
    ({"dies_s": 0.9, "exit": 9}, {"seconds": 3.0}, "serve", "ended with exit code 9"),
    ({"blind": True}, {}, "frames", "door: no frames arrive (open)"),
    pytest.param(
        {"mute": True},
        {},
        "frames",
        "door: frames arrive, but none is processed",
        marks=pytest.mark.soak,
    ),
    pytest.param(
        {"degraded": True},
        {},
        "engine",
        "it is degraded: door.edgevid: the stick fell out",
        marks=pytest.mark.soak,
    ),
    ({"p95": 80.0}, {"p95_ms": 50.0}, "latency", "p95 is 80.0 ms, more than the 50 ms allowed"),
    pytest.param(
        {"slow_s": 99},
        {"start_s": 2.0},
        "start",
        "does not serve after 2 s",
        marks=pytest.mark.soak,
    ),
    ({"keys": {"another": "one"}}, {"start_s": 2.0}, "start", "does not serve after 2 s"),
]


@pytest.mark.parametrize(("sick", "health", "stage", "words"), SICK)
def test_an_unhealthy_release_is_rolled_back_with_its_reason(served, sick, health, stage, words):
    device, first = served
    second = Release(11, sick=sick)
    with device.session() as session:
        device.stage(session, second)
        session.ask("activate", id=second.id, health={**HEALTH, **health})
        session.kill()  # nobody is there any more
    until(lambda: device.journal()["state"] == "rolled-back")
    reason = device.journal()["reason"]
    assert reason["stage"] == stage and words in reason["message"], reason
    assert device.current() == first.id
    device.serving(first)
    if "exit" in sick:
        assert reason["exit_code"] == sick["exit"] and reason["log"][-1] == "last words"
    last = device.ask("history")["history"][-1]
    assert last["what"] == "rolled-back" and last["reason"] == reason
    told = device.ask("watch")
    assert told["state"] == "rolled-back" and not told["healthy"] and told["reason"] == reason
    # A failed release never counts as installed, and the next flash simply works.
    third = Release(12, bundles={"door.edgevid": b"a sound one"})
    assert device.flash(third)["healthy"]


def test_degraded_may_be_allowed(served):
    device, _ = served
    second = Release(11, sick={"degraded": True})
    done = device.flash(second, {**HEALTH, "allow_degraded": True})
    assert done["healthy"] and done["health"]["degraded"]


def test_an_unhealthy_first_release_leaves_nothing_running(device):
    done = device.flash(Release(sick={"dies_s": 0.0}))
    assert done["state"] == "rolled-back" and done["release"] is None
    assert device.current() is None and device.ask("status")["service"]["pid"] is None
    assert device.flash(Release(2))["healthy"]


def test_deploying_the_same_release_restarts_a_dead_service(served):
    device, first = served
    holder = int((device.root / "state" / "supervisor.lock").read_text())
    os.kill(holder, signal.SIGKILL)
    until(lambda: device.ask("status")["service"]["pid"] is None)
    done = device.flash(first)
    assert done["started"] and done["healthy"] and device.current() == first.id


def test_the_supervisor_restarts_a_runner_that_died(served):
    device, first = served
    before = device.serving(first)["service"]["pid"]
    os.kill(before, signal.SIGKILL)
    after = until(lambda: (p := device.ask("status")["service"]["pid"]) and p != before and p)
    assert after and device.serving(first)["service"]["restarts"] == 1


@pytest.mark.soak
def test_the_supervisor_ends_a_runner_that_hangs(device):
    done = device.flash(Release(sick={"hangs_s": 0.5}), {**HEALTH, "seconds": 30})
    assert done["reason"]["stage"] == "serve" and done["reason"]["exit_code"] == 134, done


CRONTAB = """#!/bin/sh
table=$(dirname "$0")/table
case $1 in
-l) [ -e "$table" ] && cat "$table" || { echo "no crontab for $(id -un)" >&2; exit 1; } ;;
-r) rm "$table" ;;
-) cat > "$table" ;;
esac
"""


def test_cron_starts_it_with_the_device_and_other_lines_stay(device, folder):
    (folder / "bin").mkdir()
    table, program = folder / "bin" / "table", folder / "bin" / "crontab"
    program.write_text(CRONTAB)
    program.chmod(0o755)
    before = ("env", f"PATH={folder / 'bin'}:{os.environ['PATH']}")
    mine = "0 4 * * * backup\n"
    for start in ("", mine):
        table.unlink(missing_ok=True)
        if start:
            table.write_text(start)
        first = Release()
        with device.session(before=before) as session:
            device.stage(session, first)
            session.ask("activate", id=first.id, health=HEALTH)
            assert session.ask("watch")["healthy"]
            line = table.read_text().removeprefix(start)
            assert line.startswith("@reboot ") and line.count("\n") == 1
            assert session.ask("status")["service"]["boot"]
            os.kill(int((device.root / "state" / "supervisor.lock").read_text()), signal.SIGKILL)
            end_stragglers(device.root)
            # The device is on again: cron reads its table.
            subprocess.Popen(["sh", "-c", line.removeprefix("@reboot ")])
            device.serving(first)
            session.ask("uninstall")
        assert (table.read_text() if table.exists() else "") == start


def end_stragglers(root):
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"EDGEVID_ROOT={root}\0".encode() in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except (OSError, ProcessLookupError):
            continue


# ------------------------------------------------------------------ power


def test_power_lost_before_the_verdict_rolls_back(served):
    device, first = served
    second = Release(11, bundles={"door.edgevid": b"a better model"})
    with device.session() as session:
        device.stage(session, second)
        session.ask("activate", id=second.id, health={**HEALTH, "seconds": 60})
        until(lambda: device.current() == second.id)
        device.serving(second)
        session.kill()
    end_guards(device.root)
    holder = int((device.root / "state" / "supervisor.lock").read_text())
    os.kill(holder, signal.SIGKILL)
    agent = device.root / "current" / "agent.py"
    # The device is on again: what the unit, or cron, starts.
    again = subprocess.Popen(["python3", "-I", agent, "supervise", "--root", device.root])
    device.serving(first)
    assert device.journal()["state"] == "rolled-back"
    assert device.journal()["reason"]["stage"] == "power"
    assert device.flash(second)["healthy"]
    again.wait(30)


def test_power_lost_in_the_first_deployment_leaves_nothing_serving(device):
    first = Release()
    with device.session() as session:
        device.stage(session, first)
        session.ask("activate", id=first.id, health={**HEALTH, "seconds": 60})
        until(lambda: device.current() == first.id)
        lock = device.root / "state" / "supervisor.lock"
        until(lambda: lock.exists() and lock.read_text())  # only it can notice
        end_guards(device.root)
        session.kill()
    until(lambda: device.journal()["state"] == "rolled-back")  # its supervisor noticed
    until(lambda: device.ask("status")["service"]["pid"] is None)
    assert device.current() is None
    assert device.flash(first)["healthy"]


def test_a_client_that_reconnects_sees_the_end(served):
    device, _ = served
    second = Release(11, bundles={"door.edgevid": b"a better model"})
    with device.session() as session:
        device.stage(session, second)
        begun = session.ask("activate", id=second.id, health={**HEALTH, "seconds": 3})
        session.kill()
    with device.session() as session:
        session.ask("session")
        assert session.ask("watch", activation=begun["activation"])["healthy"]
        assert any("serving for" in text for text in session.heard)


def test_the_next_deployment_waits_for_the_verdict_on_the_one_before(served):
    device, _ = served
    second = Release(11, bundles={"door.edgevid": b"a better model"})
    third = Release(12, bundles={"door.edgevid": b"the best model"})
    with device.session() as session:
        device.stage(session, second)
        session.ask("activate", id=second.id, health={**HEALTH, "seconds": 2})
        session.kill()
    assert device.flash(third)["healthy"] and device.current() == third.id
    with device.session() as session:
        back = session.ask("rollback", health=HEALTH)
        assert back["release"] == second.id
        assert session.ask("watch")["healthy"]


# ------------------------------------------------------------------ kills


def whole(device, old, new):
    """Whether the device serves the old release or the new one, complete; gives which."""
    current = device.current()
    release = {one.id: one for one in (old, new)}[current]
    folder = device.root / "releases" / current
    for bundle in release.data["bundles"]:
        content = (folder / "bundles" / bundle["name"]).read_bytes()
        assert content == release.blobs[bundle["sha256"]]
    assert (folder / "manifest.json").read_bytes() == release.manifest
    assert (device.root / "runners" / release.data["runner"]["id"] / ".complete").exists()
    return release


def flash_until_killed(device, release, after_s):
    """Flash, and kill the agent after so long; gives whether it came to the end."""
    session = device.session()
    opened = session.__enter__()
    pid = opened.process.pid
    killer = subprocess.Popen(["sh", "-c", f"sleep {after_s}; kill -9 {pid} 2>/dev/null"])
    try:
        staged = device.stage(opened, release)
        begun = opened.ask("activate", id=staged["release"], health=HEALTH)
        if begun["started"]:
            opened.ask("watch", activation=begun["activation"])
        return True
    except (EOFError, BrokenPipeError, ConnectionError):
        return False
    finally:
        killer.wait()
        opened.close()


def sweep(device, moments):
    old = Release(10)
    assert device.flash(old)["healthy"]
    cut = 0
    for number, after_s in enumerate(moments):
        # Each has a runner of its own, so that every step of the way is gone.
        more = wheel({f"m{i}.py": f"x = {number}" for i in range(40)})
        new = Release(
            11 + number,
            bundles={"door.edgevid": os.urandom(200_000)},
            wheels={"a-1-py3-none-any.whl": tiny_runner(), "b-1-py3-none-any.whl": more},
        )
        cut += not flash_until_killed(device, new, after_s)
        until(lambda: not guards(device.root))
        whole(device, old, new)
        device.serving(None)
        done = device.flash(new)
        assert done["healthy"] if done["started"] else device.current() == new.id
        assert whole(device, old, new) is new
        old = new
    return cut


def test_the_agent_killed_at_any_moment_leaves_the_old_or_the_new(device):
    assert sweep(device, [0.1, 0.2, 0.35]) >= 2


@pytest.mark.soak
def test_the_agent_killed_at_many_moments(device):
    rng = random.Random(4)
    assert sweep(device, [rng.uniform(0.0, 1.2) for _ in range(40)]) >= 20


@pytest.mark.parametrize("with_power", [False, True])
@pytest.mark.parametrize("after_s", [0.0, pytest.param(0.15, marks=pytest.mark.soak), 1.0])
def test_the_watchdog_killed_at_any_moment_rolls_back_or_has_decided(served, after_s, with_power):
    device, first = served
    second = Release(11, bundles={"door.edgevid": b"a better model"})
    with device.session() as session:
        device.stage(session, second)
        session.ask("activate", id=second.id, health={**HEALTH, "seconds": 2})
        session.kill()
    time.sleep(after_s)
    if with_power:
        end_guards(device.root)
        with device.session() as session:
            session.ask("session")  # what was broken off is put in order first
    else:
        for guard in guards(device.root):
            with suppress(ProcessLookupError):  # it was done that very moment
                os.kill(guard, signal.SIGKILL)
    until(lambda: device.journal()["state"] != "activating")
    release = whole(device, first, second)
    assert release is (second if device.journal()["state"] == "idle" else first)
    device.serving(release)
    assert device.flash(second)["healthy"] if release is first else True
