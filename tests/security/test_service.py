"""What a compromised runner can do to its device, tried from inside the service."""

import json
import re
import shlex

import pytest

from edgevid.cli import run
from edgevid.flash.agent import accounts
from edgevid.flash.agent.manifest import read as read_manifest
from edgevid.flash.agent.transport import Refused
from rigs.agent import RUNNER, Fault, Key, Release, until, wheel
from rigs.devices import PACKAGES, PLAIN
from rigs.inside import Inside
from rigs.service import bundle, camera
from rigs.systemd import machine

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]

HEALTH = {"seconds": 1.5, "start_s": 30.0}
AS_PI = ("setpriv", "--reuid=1234", "--regid=1234", "--init-groups", "--inh-caps=-all")
SECRETS = ("/home/pi/.ssh/id", "/root/.ssh/id")
PLACES = (
    "/etc",
    "/usr",
    "/opt",
    "/home/pi",
    "/root",
    "/var/lib",
    "/var/tmp",
    "/run",
    "/tmp",
    "/srv",
)

# It tries what must not work, writes down what did, and then serves.
ATTACK = (
    """
import ctypes, json, os, socket
libc, done = ctypes.CDLL(None, use_errno=True), {}
def attempt(name, action):
    try:
        done[name] = action()
    except OSError as error:
        done[name] = error.strerror
def call(name, *args):
    ctypes.set_errno(0)
    if getattr(libc, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "worked"
def write(path):
    os.close(os.open(path + "/edgevid-was-here", os.O_WRONLY | os.O_CREAT))
    return "worked"
def reach(path):
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(path)
    return "worked"
"""
    + f"""
for path in {SECRETS!r}:
    attempt("read " + path, lambda: open(path).read())
for path in [*{PLACES!r}, os.environ["EDGEVID_ROOT"], os.environ["EDGEVID_TUNED"]]:
    attempt("write " + path, lambda: write(path))
"""
    + """
attempt("state", lambda: write(os.environ["STATE_DIRECTORY"]))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
done["rights"] = [status[name].strip() for name in ("NoNewPrivs", "CapEff", "CapPrm", "Seccomp")]
done["ids"] = [os.getuid(), os.getgid(), os.getgroups()]
done["cpuinfo"] = "processor" in open("/proc/cpuinfo").read()
victims = [1] + [int(pid) for pid in os.listdir("/proc") if pid.isdigit()
                 and int(pid) != os.getpid() and os.stat("/proc/" + pid).st_uid == os.getuid()]
done["victims"] = len(victims)
for pid in victims:
    attempt("ptrace %d" % pid, lambda: call("ptrace", 16, pid, 0, 0))
    attempt("memory %d" % pid, lambda: open("/proc/%d/mem" % pid, "r+b") and "worked")
    attempt("environ %d" % pid, lambda: open("/proc/%d/environ" % pid).read() and "worked")
for path in ("/run/user/1234/bus", "/run/user/1234/systemd/private", "/run/systemd/private"):
    attempt("reach " + path, lambda: reach(path))
for flag in (0x10000000, 0x20000, 0x20000000):  # user, mount and process namespaces
    if os.fork() == 0:
        try:
            os._exit(0 if call("unshare", flag) else 1)
        except OSError:
            os._exit(1)
    done["unshare %x" % flag] = "worked" if os.wait()[1] == 0 else "refused"
with open(os.environ["STATE_DIRECTORY"] + "/attack.json", "w") as file:
    json.dump(done, file)
"""
)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def made():
    with machine((*PACKAGES, "libpam-systemd", "dbus-user-session"), bare=True) as made:
        made.run("useradd", "--create-home", "--uid", "1234", "pi")
        made.run("chmod", "755", "/sys/fs/cgroup", "/root")  # the rig's is for root alone
        made.run("loginctl", "enable-linger", "pi")
        for secret in SECRETS:  # open to everybody, so that nothing but the unit protects them
            made.write(secret, "a secret")
        made.run("chown", "-R", "pi:", "/home/pi")
        made.run("chmod", "755", "/home/pi")
        made.run("chmod", "1777", "/srv")  # open to everybody, as are the secrets
        until(lambda: (made.root / "run/user/1234/systemd/private").exists())
        yield made


def release(made, serial=1, code=ATTACK + RUNNER, **more):
    said = made.run("python3", "-c", "import sys;print('%d.%d' % sys.version_info[:2])").stdout
    files = {"edgevid/__init__.py": "", "edgevid/__main__.py": code}
    release = Release(serial, wheels={"edgevid-1-py3-none-any.whl": wheel(files)}, **more)
    release.data["python"] = said.strip()
    release.data["service"]["user"] = "edgevid"
    return release


MUST_NOT = ("read", "ptrace", "memory", "environ", "unshare", "reach")


def succeeded(made, done, *places):
    """What the attack could do that it must not; it may write its own temporary folders."""
    found = [
        name
        for name, result in done.items()
        if name.partition(" ")[0] in MUST_NOT and result in ("worked", "a secret")
    ]
    for place in (*PLACES, *places):
        if (made.root / place[1:] / "edgevid-was-here").exists():
            found.append(f"write {place}")
    return found


def exposure(made, path):
    """The figure of ``systemd-analyze security`` for a unit file; 10 is the worst."""
    said = made.run("systemd-analyze", "security", "--no-pager", "--offline=yes", path, check=False)
    return float(re.findall(r"Overall exposure level.*?: ([\d.]+)", said.stdout)[0])


def test_the_systems_service_is_confined(made, key):
    device = Inside(made, "/opt/edgevid", key)
    first = release(made)
    first.data["service"]["groups"] = ["video"]
    verdict = device.flash(first, HEALTH)
    assert verdict["healthy"], verdict
    done = json.loads((made.root / "var/lib/private/edgevid/attack.json").read_text())
    assert succeeded(made, done, device.inside, f"{device.inside}/tuned") == []
    assert done["state"] == "worked" and done["cpuinfo"] and done["ids"][0] != 0
    assert done["rights"] == ["1", "0" * 16, "0" * 16, "2"]
    video = int(made.run("getent", "group", "video").stdout.split(":")[2])
    assert video in done["ids"][2]
    assert exposure(made, "/etc/systemd/system/edgevid.service") <= 1.8
    log = made.run("systemd-analyze", "verify", "/etc/systemd/system/edgevid.service", check=False)
    assert log.stdout + log.stderr == ""
    device.ask("uninstall")


def test_a_users_service_is_confined(made, key):
    device = Inside(made, "/home/pi/.local/share/edgevid", key, *AS_PI)
    victim = ("sh", "-c", "sleep 300 >/dev/null 2>&1 &")
    made.run(*AS_PI, *victim)
    verdict = device.flash(release(made), HEALTH)
    assert verdict["healthy"], verdict
    done = json.loads((device.root / "state" / "attack.json").read_text())
    assert succeeded(made, done, device.inside, f"{device.inside}/tuned") == []
    assert done["victims"] > 2  # it sees other processes of the same user, and cannot touch them
    assert done["state"] == "worked" and done["cpuinfo"] and done["ids"][0] == 1234
    assert done["rights"] == ["1", "0" * 16, "0" * 16, "2"]
    unit = "/home/pi/.config/systemd/user/edgevid.service"
    assert exposure(made, unit) <= 2.1
    # After a power cut, the release before is restored: outside of the confinement.
    with device.session() as session:
        second = release(made, 2, bundles={"door.edgevid": b"better"})
        device.stage(session, second)
        begun = session.ask("activate", id=second.id, health={**HEALTH, "seconds": 60})
    device.serving(second)
    manager = (*AS_PI, "env", "XDG_RUNTIME_DIR=/run/user/1234", "systemctl", "--user")
    made.run(*manager, "stop", f"edgevid-watchdog-{begun['activation']}.service")
    made.run(*manager, "restart", "edgevid")
    assert device.journal()["reason"]["stage"] == "power"
    device.ask("uninstall")


@pytest.fixture(scope="module")
def plain():
    """A device without systemd."""
    init = f"/usr/bin/python3 -I -c {shlex.quote(PLAIN)}"
    with machine(PACKAGES, bare=True, init=init) as made:
        yield made


def test_without_systemd_the_service_gets_a_user_of_its_own(plain, key):
    device = Inside(plain, "/opt/edgevid", key)
    first = release(plain)
    assert plain.run("getent", "passwd", "edgevid", check=False).stdout == ""
    verdict = device.flash(first, HEALTH)
    assert verdict["healthy"], verdict
    assert "the service runs as edgevid, a new system user" in verdict["health"]["notes"]
    entry = plain.run("getent", "passwd", "edgevid").stdout.strip().split(":")
    assert 0 < int(entry[2]) < 1000 and entry[6].endswith(("nologin", "false"))
    done = json.loads((device.root / "state" / "results" / "attack.json").read_text())
    assert done["ids"][:2] == [int(entry[2]), int(entry[3])]
    assert done["rights"][:3] == ["1", "0" * 16, "0" * 16]
    for place in ("etc", "usr", "opt", "opt/edgevid", "var/lib", "home/pi"):
        assert not (plain.root / place / "edgevid-was-here").exists()
    device.ask("uninstall")


def test_without_systemd_and_users_it_is_refused_unless_root_is_allowed(plain, key):
    device = Inside(plain, "/opt/edgevid", key)
    first = release(plain, code=RUNNER)
    first.data["service"]["user"] = "nobody-yet"
    plain.run("mv", "/usr/sbin/useradd", "/usr/sbin/useradd.away")
    try:
        with device.session() as session, pytest.raises(Fault, match="must not run as root"):
            session.ask("check", **device.package(first))
    finally:
        plain.run("mv", "/usr/sbin/useradd.away", "/usr/sbin/useradd")
    first.data["service"]["user"] = "root"
    verdict = device.flash(first, HEALTH)
    assert verdict["healthy"], verdict
    assert "runs as root" in verdict["health"]["notes"][0]
    device.ask("uninstall")


def test_root_needs_a_signed_permission(monkeypatch):
    monkeypatch.setattr(accounts.os, "geteuid", lambda: 0)
    missing = read_manifest(release_for("no-such-user"))
    with pytest.raises(Refused, match="must not run as root"):
        accounts.account_of(missing)
    assert accounts.account_of(read_manifest(release_for("root"))) is None
    monkeypatch.setattr(accounts.os, "geteuid", lambda: 1000)
    assert accounts.account_of(missing) is None


def release_for(user):
    release = Release()
    release.data["service"]["user"] = user
    return release.manifest


def test_the_example_unit_is_as_closed_as_the_deployed_one(made):
    from rigs.systemd import PROJECT

    unit = (PROJECT / "docs/examples/edgevid.service").read_text()
    made.write("/tmp/edgevid.service", unit)
    assert exposure(made, "/tmp/edgevid.service") <= 1.8


@pytest.mark.parametrize("user", [0, 1234])
def test_a_service_of_root_that_was_started_by_hand_says_so(
    tmp_path, null_bundle, user, monkeypatch
):
    class WouldRun(Exception):
        pass

    def would_run(service):
        raise WouldRun

    said = []
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr(run, "say", said.append)
    monkeypatch.setattr(run, "_run", would_run)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    site = tmp_path / "site.toml"
    site.write_text(f"{bundle(null_bundle)}\n{camera('door')}\n")
    with pytest.raises(WouldRun):
        run._run_service(site, as_json=True)
    assert any("runs as root" in line for line in said) == (user == 0)
