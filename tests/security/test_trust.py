"""What a signature protects a device against, tried without the key."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from edgevid.errors import BadInput
from edgevid.flash.agent import integrity, statement
from edgevid.flash.agent.store import Store
from edgevid.flash.keys import load as load_key
from edgevid.flash.signed_request import sign
from rigs.agent import RUNNER, Fault, until, wheel
from rigs.packages import package
from rigs.trust import HEALTH, model, signed_request

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]

YEAR = 366 * 24 * 3600


def refusal(device, release, about=None, **more):
    """Why the device refuses a package, as seen with only the SSH login."""
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


def test_a_carried_file_permits_no_device_a_downgrade(keys):
    with pytest.raises(BadInput, match="--device"):
        sign(package(), load_key(keys[0].path), device=statement.ANY, reset_floor=True)


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


# ---------------------------------------------------------------- what serves is what was signed


def files(device, serial):
    """Files that are executed or loaded, or decide what is, by their description in the error."""
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
    """Change a file without changing its size or modification time."""
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
    """Start the service as at boot, with nobody connected."""
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
    """The releases share no runner, so the previous one's is intact."""
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


def test_at_boot_a_file_that_cannot_be_read_counts_as_changed(device):
    """Otherwise one unreadable file would let all others be changed, and a failing card would
    serve."""
    assert device.flash(model(10, wheels={"a-1-py3-none-any.whl": other_runner()}), HEALTH)[
        "healthy"
    ]
    assert device.flash(model(20), HEALTH)["healthy"]
    before = device.ask("status")["installed"]["previous"]
    what = "edgevid/__main__.py of the runner was changed"
    path = files(device, 20)[what]
    path.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as unreadable:
        unreadable.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)
    assert device.ask("probe")["installed"]["changed"] == what
    with booted(device):
        until(lambda: device.current() == before, 30)
        assert what in device.ask("status")["installed"]["journal"]["reason"]["message"]
        until(lambda: device.ask("status")["status"], 30)


def test_a_manifest_that_is_no_file_or_nested_deeply_is_none(tmp_path):
    store, release = Store(tmp_path), "0123456789abcdef"
    manifest = store.release(release) / "manifest.json"
    manifest.mkdir(parents=True)
    assert store.manifest(release) is None
    manifest.rmdir()
    manifest.write_bytes(b"[" * 100_000)
    assert store.manifest(release) is None
    manifest.with_name("manifest.sig").write_bytes(b"[" * 100_000)
    assert store.signed(release) == {}
    store.signers.parent.mkdir()
    store.runner_files("a").write_bytes(b"[" * 100_000)
    assert "is missing" in str(integrity.runner_fault(store, "a"))


def other_runner():
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
