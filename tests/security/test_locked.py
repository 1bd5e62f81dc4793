"""The locked login: what a stolen SSH key can do on a device without the signing key."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from edgevid.flash.agent import locked, statement
from edgevid.flash.keys import load as load_key
from edgevid.flash.signed_request import sign_request
from rigs.agent import Fault, sha
from rigs.bundles import write_null
from rigs.devices import Person, device
from rigs.need import need_program, need_root
from rigs.sshd import sshd_program
from rigs.trust import HEALTH, LockedSession, model, signed_request

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]


@pytest.fixture(scope="module")
def sshd_config(tmp_path_factory):
    """An sshd configuration in which only root can write the keys of the user ``nobody``."""
    need_program("ssh-keygen", "openssh-client")
    sshd_program()
    need_root()
    folder = tmp_path_factory.mktemp("sshd")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host"], check=True
    )
    config = folder / "config"
    config.write_text(
        f"HostKey {folder}/host\nMatch User nobody\n  AuthorizedKeysFile /etc/ssh/edgevid_keys\n"
    )
    return config


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
    """A new request needs a decision: may the login send it without a signature?"""
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
    """The user who logs in must not be able to write their own keys."""
    keys_file = tmp_path / "own"
    keys_file.write_text("")
    shutil.chown(keys_file, "nobody")
    loose = tmp_path / "config"
    for name in (str(keys_file), "/dev/shm/not-there-yet"):
        text = sshd_config.read_text().replace("/etc/ssh/edgevid_keys", f"/etc/ssh/x {name}")
        loose.write_text(text)
        refused(standing, loose, "nobody", "remove the forced command")
    refused(standing, sshd_config, "root", "a user of its own")


def refused(device, config, user, words):
    session = LockedSession(device, config, user)
    session.close()
    error = session.rest.get("error", {})
    assert error.get("kind") == "locked" and words in error["message"], session.rest


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
        assert "remove the forced command" in done.stdout


def read(person, *words):
    """Run an edgevid command; returns its result."""
    done = person.edgevid(*words)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def as_login(made, *words):
    """Try to run something as the user of the locked login."""
    return made.machine.run("runuser", "-u", "edgevid-deploy", "--", *words, check=False)


def lock(person, made):
    """Set up the locked login, as the script's first lines say."""
    script = person.edgevid("keys", "--forced-command", person.key.with_suffix(".pub")).stdout
    command = ["ssh", "-F", person.config, "-o", "BatchMode=yes", made.name, "sudo", "sh"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "locked: " in done.stdout, done.stderr + done.stdout
