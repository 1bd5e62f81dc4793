"""What a signature protects a device against, tried by somebody who does not have the key."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest

from edgevid.flash.agent import locked, statement
from edgevid.flash.keys import load as load_key
from edgevid.flash.signed_request import sign_request
from rigs.agent import Device, Fault, Key, Release, Session, quick_folder, sha, until
from rigs.bundles import write_null
from rigs.devices import Person, device
from rigs.need import need_program
from rigs.sshd import sshd_program

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]

YEAR = 366 * 24 * 3600
HEALTH = {"seconds": 0.3, "start_s": 30.0}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return Key(folder, "right"), Key(folder, "wrong")


@pytest.fixture(scope="module")
def standing(keys):
    """A device on which two releases were installed, and which every test leaves as it was."""
    with quick_folder() as folder:
        device = Device(folder / "r", keys[0])
        assert device.flash(model(10), HEALTH)["healthy"]
        assert device.flash(model(20), HEALTH)["healthy"]
        yield device
        assert device.current() == model(20).id
        device.ask("uninstall")


@pytest.fixture(name="device")
def _device(keys):
    with quick_folder() as folder:
        made = Device(folder / "r", keys[0])
        yield made
        if made.root.exists():
            made.ask("uninstall")


def model(serial, **more):
    """A release with a model of its own."""
    return Release(serial, bundles={"door.edgevid": f"model {serial}".encode()}, **more)


def refusal(device, release, about=None, **more):
    """Why the device refuses a package, asked as whoever has only the SSH login asks."""
    package = device.package(release, about, **more)
    with device.session() as session, pytest.raises(Fault) as fault:
        session.ask("check", **package)
    return fault.value


def permission(device, nonce="1" * 32):
    return {"device": device.id, "permits": (statement.RESET_FLOOR,), "nonce": nonce}


# ---------------------------------------------------------------- replay and downgrade


def test_an_old_signed_release_cannot_be_replayed(standing):
    assert refusal(standing, model(10)).kind == "downgrade"


def test_the_floor_stays_when_something_older_serves_again(device):
    for serial in (10, 20):
        assert device.flash(model(serial), HEALTH)["healthy"]
    with device.session() as session:  # the device may go back to its own previous release
        session.ask("session")
        begun = session.ask("rollback", health=HEALTH)
        assert session.ask("watch", activation=begun["activation"])["healthy"]
    assert device.current() == model(10).id
    fault = refusal(device, model(15))
    assert fault.kind == "downgrade" and "(20)" in fault.message


def test_a_release_for_another_device_is_refused(standing):
    fault = refusal(standing, model(30), {"device": "0" * 32})
    assert fault.kind == "device" and "00000000" in fault.message
    assert standing.ask("check", **standing.package(model(30), {"device": standing.id}))["release"]


def test_a_release_for_any_device_is_only_for_devices_of_its_target(standing):
    other = model(30, target="coral-dev-board")
    assert "any coral-dev-board" in refusal(standing, other).message
    assert standing.ask("check", **standing.package(other, {"device": standing.id}))["release"]


def test_a_permission_that_is_not_signed_is_worth_nothing(standing):
    old = model(10)
    for forged in ({"allow_downgrade": True}, {"permits": [statement.RESET_FLOOR]}):
        assert refusal(standing, old, **forged).kind == "downgrade"
    package = standing.package(old)
    allowed = dict(json.loads(package["statement"]), permits=[statement.RESET_FLOOR])
    text = json.dumps(allowed, sort_keys=True)
    assert refusal(standing, old, statement=text).kind == "signature"


def test_a_permission_is_for_one_device(standing):
    for other in (statement.ANY, "0" * 32):
        about = {**permission(standing), "device": other}
        assert refusal(standing, model(10), about).kind in ("device", "downgrade")
    assert refusal(standing, model(10), {**permission(standing), "nonce": ""}).kind == "downgrade"


def test_a_permission_is_used_up_and_resets_the_floor(device):
    for serial in (10, 20):
        assert device.flash(model(serial), HEALTH)["healthy"]
    about = permission(device)
    assert device.flash(model(10), HEALTH, about=about)["healthy"]
    assert device.ask("status")["installed"]["floor"] == 10
    assert device.flash(model(20), HEALTH)["healthy"]
    assert refusal(device, model(10), about).kind == "replay"


def test_a_release_from_the_far_future_is_refused(standing):
    fault = refusal(standing, model(20 + YEAR + 1))
    assert fault.kind == "downgrade" and "more than a year" in fault.message
    assert "clock" in fault.fix
    assert standing.ask("check", **standing.package(model(20 + YEAR)))["release"]
    about = permission(standing)
    assert standing.ask("check", **standing.package(model(20 + 2 * YEAR), about))["release"]


def test_a_signature_for_one_purpose_is_worth_nothing_for_another(standing):
    release = model(30)
    for purpose in ("edgevid", "file", statement.KEY, statement.REQUEST):
        signed = standing.key.signed(release.manifest, purpose)
        assert refusal(standing, release, **signed).kind == "signature"


def test_a_statement_is_byte_for_byte_what_edgevid_writes(standing):
    release = model(30)
    good = json.loads(standing.package(release)["statement"])
    for bad in (
        json.dumps(good),
        json.dumps({**good, "more": 1}, sort_keys=True),
        json.dumps({**good, "permits": ["everything"]}, sort_keys=True),
        json.dumps({**good, "device": "ANY"}, sort_keys=True),
        "[]",
        "{",
    ):
        if bad != json.dumps(good, sort_keys=True):
            signed = {"statement": bad, "signature": standing.key.sign(bad.encode())}
            assert refusal(standing, release, **signed).kind == "signature"


def test_an_installation_without_a_record_says_what_to_do(device, keys):
    assert device.flash(model(10), HEALTH)["healthy"]
    (device.root / "trusted/record.json").unlink()
    fault = refusal(device, model(20))
    assert "older version of edgevid" in fault.message and "--uninstall" in fault.fix


# ---------------------------------------------------------------- revocation, signed requests


def signed_request(key, device_id, nonce, do, purpose=statement.REQUEST, /, **fields):
    """The fields of the request ``signed``."""
    text = json.dumps({"do": do, **fields})
    about = {"device": device_id, "nonce": nonce}
    return {"request": text, "key": key.public, **key.signed(text.encode(), purpose, **about)}


def test_what_is_revoked_is_never_accepted_or_activated_again(device):
    for serial in (10, 20):
        assert device.flash(model(serial), HEALTH)["healthy"]
    with device.session() as session:
        nonce = session.ask("probe")["nonce"]
        root = {"root": str(device.root)}
        for number, (what, kind) in enumerate(
            [(model(20).id, "use"), (model(10).id, None), ("door", "use")]
        ):
            request = signed_request(
                device.key, device.id, f"{nonce}-{number}", "revoke", what=what, **root
            )
            if kind is None:
                assert session.ask("signed", **request)["revoked"] == [what]
                continue
            with pytest.raises(Fault) as fault:
                session.ask("signed", **request)
            assert fault.value.kind == kind
        with pytest.raises(Fault, match="revoked"):
            session.ask("rollback", health=HEALTH)
    assert refusal(device, model(10), permission(device)).kind == "revoked"


def test_only_the_key_revokes(standing, keys):
    with standing.session() as session:
        with pytest.raises(Fault, match="not signed"):
            session.ask("revoke", what=model(10).id)
        nonce = session.ask("probe")["nonce"]
        request = signed_request(keys[1], standing.id, f"{nonce}-0", "revoke", what=model(10).id)
        with pytest.raises(Fault, match="signed by another key"):
            session.ask("signed", **request)
    assert standing.ask("status")["installed"]["revoked"] == []


# ---------------------------------------------------------------- the locked mode


@pytest.fixture(scope="module")
def sshd_config(tmp_path_factory):
    """A configuration by which only root can write the keys of the user ``nobody``."""
    need_program("ssh-keygen", "openssh-client")
    sshd_program()
    folder = tmp_path_factory.mktemp("sshd")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host"], check=True
    )
    config = folder / "config"
    config.write_text(
        f"HostKey {folder}/host\nMatch User nobody\n  AuthorizedKeysFile /etc/ssh/edgevid_keys\n"
    )
    return config


class LockedSession(Session):
    """The only conversation that a forced command allows, with whoever can log in."""

    def __init__(self, device, config, user="nobody"):
        self.root, self.heard = device.root, []
        command = [sys.executable, "-I", device.root / "current/agent.py", "session", "--locked"]
        command += ["--root", device.root, "--sshd-config", config]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "SUDO_USER": user},
        )
        assert self.process.stdout.readline() == b"\n"
        mark, _, text = self.process.stdout.readline().decode().partition(" ")
        assert mark == locked.MARK
        self.greeting = json.loads(text)
        self._count = 0

    def close(self):
        """End it; ``rest`` is the first line that it said without being asked, if any."""
        self.process.stdin.close()
        self.rest = json.loads(self.process.stdout.readline() or b"{}")
        super().close()

    def nonce(self):
        self._count += 1
        return f"{self.greeting['nonce']}-{self._count - 1}"

    def ask_signed(self, key, do, /, **fields):
        request = signed_request(key, self.greeting["device"], self.nonce(), do, **fields)
        return self.ask("signed", **request)


@pytest.fixture
def session(standing, sshd_config):
    session = LockedSession(standing, sshd_config)
    yield session
    session.close()


VERBS = {
    "check": {},
    "session": {},
    "missing": {"blobs": {"0" * 64: 1}},
    "read": {"sha256": "0" * 64},
    "stage": {},
    "activate": {"health": HEALTH},
    "watch": {},
    "rollback": {"health": HEALTH},
    "credential": {"name": "x", "sha256": "0" * 64},
    "revoke": {"what": "0" * 16},
    "uninstall": {},
    "job": {"id": "x", "release": "y", "args": ["bench"], "files": {}, "deadline_s": 1},
    "job-state": {"id": "x"},
    "job-read": {"id": "x", "file": "stdout", "offset": 0},
    "job-end": {},
    "tuned": {"name": "x", "content": "y"},
}


def test_every_request_is_tried():
    """A request that is new needs a decision whether the login alone may send it."""
    from edgevid.flash.agent.session import AgentSession

    known = set(AgentSession(None)._verbs)
    assert known == {*VERBS, *locked.UNSIGNED, "blob"}


def test_a_stolen_login_only_reads_the_state(standing, session, keys):
    before = (standing.root / "history.jsonl").read_text()
    for do in sorted(locked.UNSIGNED):
        assert session.ask(do)["ok"]
    package = standing.package(model(30))
    for do, fields in VERBS.items():
        for more in (fields, {**fields, **package}):
            with pytest.raises(Fault) as fault:
                session.ask(do, **more)
            assert fault.value.kind == "locked", do
        with pytest.raises(Fault) as fault:
            session.ask_signed(keys[1], do, **fields)
        assert fault.value.kind == "key", do
    with pytest.raises(Fault) as fault:
        session.ask("blob", b"x", sha256="0" * 64, size=1, offset=0)
    assert fault.value.kind == "locked"
    assert (standing.root / "history.jsonl").read_text() == before
    assert standing.ask("status")["service"]["restarts"] == 0


def test_a_stolen_login_names_no_other_folder_and_imports_nothing(standing, session, tmp_path):
    with pytest.raises(Fault, match="only for"):
        session.ask("status", root=str(tmp_path))
    for fields in ({"modules": ["os.path"]}, {"libraries": ["../../etc/shadow"]}):
        with pytest.raises(Fault, match="plain names"):
            session.ask("probe", **fields)


def test_a_request_is_valid_once_and_in_one_session(standing, session, sshd_config):
    request = signed_request(
        standing.key, standing.id, session.nonce(), "missing", blobs={"0" * 64: 1}
    )
    assert session.ask("signed", **request)["missing"]
    other = LockedSession(standing, sshd_config)
    for one in (session, other):
        with pytest.raises(Fault) as fault:
            one.ask("signed", **request)
        assert fault.value.kind == "replay"
    other.close()


def test_a_signed_request_is_for_this_device_and_purpose(standing, session):
    key = standing.key
    for number, (name, purpose, kind) in enumerate(
        [
            (statement.ANY, statement.REQUEST, "replay"),
            ("0" * 32, statement.REQUEST, "device"),
            (standing.id, statement.RELEASE, "signature"),
        ]
    ):
        nonce = f"{session.greeting['nonce']}-{number}"
        request = signed_request(key, name, nonce, "uninstall", purpose)
        with pytest.raises(Fault) as fault:
            session.ask("signed", **request)
        assert fault.value.kind == kind


def test_what_is_signed_is_what_is_done(standing, session):
    request = signed_request(standing.key, standing.id, session.nonce(), "missing", blobs={})
    request["request"] = json.dumps({"do": "uninstall"})
    with pytest.raises(Fault, match="does not match what was sent"):
        session.ask("signed", **request)


def test_bytes_that_follow_a_signed_request_are_read_with_it(standing, session):
    secret = b"password"
    request = {"do": "credential", "name": "door", "sha256": sha(secret), "bytes": len(secret)}
    key = load_key(standing.key.path)
    signed = sign_request(request, key, session.greeting["device"], session.nonce())
    assert signed.pop("do") == "signed" and signed.pop("bytes") == len(secret)
    assert session.ask("signed", secret, **signed)["changed"]
    session.ask_signed(standing.key, "session")


def test_the_next_key_may_sign_when_the_trusted_one_says_so(standing, session, keys):
    line = keys[1].public
    for signer, accepted in ((keys[1], False), (keys[0], True)):
        pin = {"key": line, **signer.signed(line.encode(), statement.KEY)}
        request = signed_request(keys[1], standing.id, session.nonce(), "missing", blobs={})
        if accepted:
            assert session.ask("signed", pin=pin, **request)["missing"] == {}
        else:
            with pytest.raises(Fault, match="not signed by the one"):
                session.ask("signed", pin=pin, **request)


def test_with_the_key_a_locked_device_is_flashed(device, sshd_config):
    assert device.flash(model(10), HEALTH)["healthy"]
    new = model(20)
    session = LockedSession(device, sshd_config)
    package, key = device.package(new, {"device": device.id}), device.key
    session.ask_signed(key, "check", **package)
    session.ask_signed(key, "session")
    missing = session.ask_signed(key, "missing", blobs={n: len(c) for n, c in new.blobs.items()})
    for name in missing["missing"]:
        content = new.blobs[name]
        session.ask("blob", content, sha256=name, size=len(content), offset=0)
    session.ask_signed(key, "stage", **package)
    begun = session.ask_signed(key, "activate", health=HEALTH)
    assert session.ask_signed(key, "watch", activation=begun["activation"])["healthy"]
    session.close()
    assert device.current() == new.id


def test_a_lock_that_the_login_could_lift_is_none(standing, sshd_config, tmp_path):
    """The keys of whoever logs in must not be theirs to write."""
    keys_file = tmp_path / "own"
    keys_file.write_text("")
    shutil.chown(keys_file, "nobody")
    loose = tmp_path / "config"
    for name in (str(keys_file), "/dev/shm/not-there-yet"):
        text = sshd_config.read_text().replace("/etc/ssh/edgevid_keys", f"/etc/ssh/x {name}")
        loose.write_text(text)
        refused(standing, loose, "nobody", "lift the forced command")
    refused(standing, sshd_config, "root", "a user of its own")


def refused(device, config, user, words):
    session = LockedSession(device, config, user)
    session.close()
    error = session.rest.get("error", {})
    assert error.get("kind") == "locked" and words in error["message"], session.rest


# ---------------------------------------------------------------- what serves is what was signed


def files(device, serial):
    """Files that are executed or loaded, or decide on it, by what is said of them."""
    release = device.root / "releases" / model(serial).id
    lib = device.root / "runners" / model(serial).data["runner"]["id"] / "lib/edgevid"
    return {
        "bundles/door.edgevid was changed": release / "bundles/door.edgevid",
        "site.toml was changed": release / "site.toml",
        "its manifest was changed": release / "manifest.json",
        "the signature does not match": release / "manifest.sig",
        "edgevid/__main__.py of the runner was changed": lib / "__main__.py",
        "__main__.cpython": next((lib / "__pycache__").glob("__main__*")),
        "edgevid/new.py of the runner was added": lib / "new.py",
    }


def change(path):
    """Change a file without a trace in its size or its time."""
    if not path.exists():
        path.write_text("")
        return
    stat = path.stat()
    content = path.read_bytes()
    at = len(content) // 2
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    path.unlink()  # the blob of the same content stays
    path.write_bytes(changed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


KINDS = [
    "bundles/door.edgevid was changed",
    "site.toml was changed",
    "its manifest was changed",
    "the signature does not match",
    "edgevid/__main__.py of the runner was changed",
    "__main__.cpython",
    "edgevid/new.py of the runner was added",
]


def test_a_release_that_was_changed_after_staging_is_not_activated(device):
    assert device.flash(model(10), HEALTH)["healthy"]
    for what in KINDS:
        with device.session() as session:
            device.stage(session, model(20))  # again, which repairs what was changed before
            change(files(device, 20)[what])
            with pytest.raises(Fault) as fault:
                session.ask("activate", health=HEALTH)
        assert fault.value.kind in ("changed", "use"), what
        assert device.current() == model(10).id
    assert device.flash(model(20), HEALTH)["healthy"]


@contextmanager
def booted(device):
    """Start the service as a boot does, which nobody watches."""
    status = device.ask("status")["service"]
    supervisor = int((device.root / "state/supervisor.lock").read_text())
    for pid in (supervisor, status["pid"]):
        os.kill(pid, signal.SIGKILL)
    agent = device.root / "current/agent.py"
    command = [sys.executable, "-I", agent, "supervise", "--root", device.root]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.parametrize("what", [KINDS[0], KINDS[2], KINDS[4]])
def test_at_boot_a_changed_release_gives_way_to_the_previous_one(device, what):
    """The runner is not shared here, so that the previous release has a whole one."""
    assert device.flash(model(10, wheels={"a-1-py3-none-any.whl": other_runner()}), HEALTH)[
        "healthy"
    ]
    assert device.flash(model(20), HEALTH)["healthy"]
    before = device.ask("status")["installed"]["previous"]
    change(files(device, 20)[what])
    with booted(device):
        until(lambda: device.current() == before, 30)
        until(lambda: device.ask("status")["status"], 30)
        installed = device.ask("status")["installed"]
        assert installed["journal"]["state"] == "rolled-back"
        reason = installed["journal"]["reason"]["message"]
        assert what in reason and "\n" not in reason


def other_runner():
    from rigs.agent import RUNNER, wheel

    return wheel({"edgevid/__init__.py": "# another\n", "edgevid/__main__.py": RUNNER})


def test_without_a_previous_release_nothing_that_was_changed_is_started(device):
    assert device.flash(model(10), HEALTH)["healthy"]
    change(files(device, 10)["site.toml was changed"])
    with booted(device) as supervisor:
        assert supervisor.wait(30) == 0
    found = device.ask("status")
    assert found["installed"]["current"] is None and found["service"]["pid"] is None
    assert "site.toml was changed" in found["installed"]["journal"]["reason"]["message"]
    assert device.flash(model(20), HEALTH)["healthy"]


def test_files_that_were_copied_to_another_disk_are_read_once_and_serve(device):
    assert device.flash(model(10), HEALTH)["healthy"]
    path = files(device, 10)["edgevid/__main__.py of the runner was changed"]
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    (listed,) = (device.root / "trusted").glob("*.files")
    before = listed.read_text()
    assert device.ask("probe")["installed"]["changed"] is None
    assert listed.read_text() == before  # a probe writes nothing
    agent = device.root / "current/agent.py"
    subprocess.run([sys.executable, "-I", agent, "recover", "--root", device.root], check=True)
    assert json.loads(listed.read_text())["edgevid/__main__.py"][4] == path.stat().st_ctime_ns
    assert device.current() == model(10).id


# ---------------------------------------------------------------- a real device, a real sshd


SOURCE = ("--source", "synthetic:64x64@15", "--health-s", "1", "--json")


def test_a_locked_device_is_flashed_with_the_key_and_only_read_without_it(tmp_path, video):
    owner = Person(tmp_path / "owner")
    thief = Person(tmp_path / "thief", key=owner.key)  # has the login, but not the signing key
    bundles = [tmp_path / name / "motion.edgevid" for name in ("one", "two", "three")]
    for number, bundle in enumerate(bundles):
        bundle.parent.mkdir()
        write_null(bundle, mark=number)
    with device(owner, "gate") as made:
        owner.inventory(made)
        first = read(owner, "flash", bundles[0], "--target", "gate", *SOURCE)
        lock(owner, made)
        shut = replace(made, name="shut", user="edgevid-deploy")
        for person in (owner, thief):
            person.knows(shut)
            person.inventory(shut)

        second = read(owner, "flash", bundles[1], "--target", "shut", *SOURCE)
        assert (second["outcome"], second["replaced"]) == ("serving", first["release"])
        same = read(owner, "flash", bundles[1], "--target", "shut", *SOURCE)
        assert same["outcome"] == "unchanged" and same["wire_bytes"] < 64 << 10

        journal = (made.root / "opt/edgevid/journal.json").read_text()
        tried = thief.ssh(shut, "touch /tmp/owned; id -u")
        assert locked.MARK in tried.stdout and not (made.root / "tmp/owned").exists()
        assert "uid" not in as_login(made, "sudo", "-n", "id").stdout
        (seen,) = read(thief, "fleet", "status", "--target", "shut", "--json")["devices"]
        assert (seen["health"], seen["release"]) == ("serving", second["release"])
        for words in (
            ("flash", bundles[2], "--target", "shut", "--replace", *SOURCE),
            ("flash", "--rollback", "--target", "shut", "--json"),
            ("flash", "--uninstall", "--target", "shut", "--json"),
            ("flash", "--revoke", first["release"], "--target", "shut", "--json"),
        ):
            done = thief.edgevid(*words)
            assert done.returncode == 2, done.stderr + done.stdout
            assert "signed by another key" in done.stdout + done.stderr
        assert (made.root / "opt/edgevid/journal.json").read_text() == journal

        short = ("--rounds", "2", "--samples", "100", "--scenario", "step", "--json")
        measured = owner.edgevid("bench", bundles[1], "--source", video, "--target", "shut", *short)
        assert measured.returncode in (0, 3), measured.stderr  # 3: a busy machine
        assert json.loads(measured.stdout)["device"]["name"] == "shut"
        back = read(owner, "flash", "--rollback", "--target", "shut", "--health-s", "1", "--json")
        assert back["release"] == first["release"]
        made.machine.run("chown", "edgevid-deploy", "/etc/ssh/edgevid_keys")
        done = owner.edgevid("fleet", "status", "--target", "shut", "--json")
        assert "lift the forced command" in done.stdout


def read(person, *words):
    """What a command of edgevid gives."""
    done = person.edgevid(*words)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def as_login(made, *words):
    """Run something as the user of the locked login, were there a way."""
    return made.machine.run("runuser", "-u", "edgevid-deploy", "--", *words, check=False)


def lock(person, made):
    """Set up the locked login, as the script's first lines say."""
    script = person.edgevid("keys", "--forced-command", person.key.with_suffix(".pub")).stdout
    command = ["ssh", "-F", person.config, "-o", "BatchMode=yes", made.name, "sudo", "sh"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "locked: " in done.stdout, done.stderr + done.stdout
