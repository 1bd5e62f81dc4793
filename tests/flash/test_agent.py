"""The agent on a device that is a folder: real processes, real keys, a tiny real runner."""

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgevid.flash import agent
from edgevid.flash.agent import statement
from rigs.agent import Device, Fault, Key, Release, quick_folder, sha, tiny_runner, until, wheel
from rigs.need import need_root
from rigs.processes import alive

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return Key(folder, "right"), Key(folder, "wrong")


@pytest.fixture(scope="module")
def standing(keys):
    """A device on which a release serves, and which every test leaves as it was."""
    with quick_folder() as folder:
        device, first = Device(folder / "r", keys[0]), Release(serial=10)
        assert device.flash(first)["healthy"]
        yield device, first
        assert device.serving(first)["service"]["restarts"] == 0
        device.ask("uninstall")


@pytest.fixture
def folder():
    with quick_folder() as folder:
        yield folder


@pytest.fixture
def device(keys, folder):
    device = Device(folder / "r", keys[0])
    yield device
    if device.root.exists():
        device.ask("uninstall")
    assert not device.root.exists()
    assert not serving_processes(device.root)


def serving_processes(root):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if str(root).encode() in words and alive(int(folder.name)):
            found.append(words)
    return [words for words in found if b"pytest" not in words.partition(b"\0")[0]]


def books(root):
    """Everything that decides what serves, and every blob."""
    names = ("journal.json", "history.jsonl", "trusted/allowed_signers")
    texts = {name: (root / name).read_text() for name in names}
    blobs = {path.name: path.stat().st_size for path in (root / "blobs").iterdir()}
    return texts, blobs, (root / "current").readlink()


def test_the_agent_is_one_program_for_python_3_7_without_edgevid():
    assert agent.source() == agent.source()
    for file in Path(agent.__file__).parent.glob("*.py"):
        tree = ast.parse(file.read_text(), feature_version=(3, 7))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            top = {name.partition(".")[0] for name in names} - {""}
            relative = isinstance(node, ast.ImportFrom) and node.level
            assert relative or top <= set(sys.stdlib_module_names), (file.name, names)


def test_a_first_flash_serves_and_the_same_again_restarts_nothing(device):
    first = Release()
    done = device.flash(first)
    assert done["healthy"] and done["state"] == "idle", done
    assert device.current() == first.id == done["release"]
    before = device.serving(first)["service"]
    assert alive(before["pid"])
    with device.session() as session:
        again = device.stage(session, first)
        assert again["already"] and device.send(session, first) == 0
        assert not session.ask("activate", id=first.id)["started"]
    assert device.ask("status")["service"] == before
    whats = [entry["what"] for entry in device.ask("history")["history"]]
    assert whats == ["pinned", "activate", "serves"]


def test_a_second_release_serves_and_only_its_predecessor_is_kept(served):
    device, first = served
    runner = next(iter(first.blobs))
    second = Release(11, bundles={"door.edgevid": b"a better model"})
    third = Release(12, bundles={"door.edgevid": b"the best", "yard.edgevid": b"another"})
    with device.session() as session:
        device.stage(session, second)
        assert runner in {p.name for p in (device.root / "blobs").iterdir()}
    assert device.flash(second)["healthy"]
    assert {p.name for p in (device.root / "releases").iterdir()} == {first.id, second.id}
    assert device.flash(third)["healthy"]
    assert {p.name for p in (device.root / "releases").iterdir()} == {second.id, third.id}
    assert sha(b"a model") not in {p.name for p in (device.root / "blobs").iterdir()}
    assert device.serving(third)
    bundles = device.root / "current" / "bundles"
    assert {p.name: p.read_bytes() for p in bundles.iterdir()} == {
        "door.edgevid": b"the best",
        "yard.edgevid": b"another",
    }


def test_rollback_goes_to_the_release_before(served):
    device, first = served
    second = Release(11, bundles={"door.edgevid": b"a better model"})
    assert device.flash(second)["healthy"]
    with device.session() as session:
        begun = session.ask("rollback", health={"seconds": 1.0})
        done = session.ask("watch", activation=begun["activation"])
    assert done["healthy"] and device.current() == first.id
    assert device.serving(first)
    whats = [entry["what"] for entry in device.ask("history")["history"]]
    assert whats[-2:] == ["rollback", "serves"]


def test_stage_now_activate_later(served):
    device, first = served
    second = Release(11, bundles={"door.edgevid": b"a better model"})
    with device.session() as session:
        device.stage(session, second)
    assert device.current() == first.id and device.journal()["state"] == "staged"
    with device.session() as session:
        begun = session.ask("activate", health={"seconds": 1.0})
        assert session.ask("watch")["healthy"] and begun["release"] == second.id


def test_uninstall_removes_all_files_and_processes(served):
    device, _ = served
    pid = device.serving(None)["service"]["pid"]
    assert str(device.root) in device.ask("uninstall")["removed"]
    assert not device.root.exists() and not alive(pid)
    assert not serving_processes(device.root)


def test_uninstall_keeps_the_files_of_others(served):
    device, _ = served
    (device.root / "holiday.jpg").write_bytes(b"me")
    device.ask("uninstall")
    assert [p.name for p in device.root.iterdir()] == ["holiday.jpg"]
    with device.session() as session, pytest.raises(Fault, match="has other files"):
        session.ask("session")
    (device.root / "holiday.jpg").unlink()
    device.root.rmdir()


def test_uninstall_completes_an_uninstall_that_was_killed(served):
    device, _ = served
    (device.root / "journal.json").unlink()
    (device.root / "current").unlink()
    device.ask("uninstall")
    device.ask("uninstall")


# ------------------------------------------------------------------ what is refused


def refusal(device, release, **more):
    """The fault of `check`; neither it nor `stage` may touch anything."""
    before = books(device.root) if (device.root / "current").exists() else None
    with device.session() as session:
        package = device.package(release, **more)
        with pytest.raises(Fault) as fault:
            session.ask("check", **package)
        assert before is not None or not device.root.exists()
        if before is not None:
            with pytest.raises(Fault, match=fault.value.kind):
                session.ask("stage", **package)
            assert books(device.root) == before
    assert "\n" not in fault.value.message and fault.value.fix
    return fault.value


def wrong(serial=11):
    return Release(serial, bundles={"door.edgevid": b"a better model"})


def test_a_package_of_another_key_is_refused(standing, keys):
    device, _ = standing
    stranger = Device(device.root, keys[1])
    fault = refusal(stranger, wrong())
    assert fault.kind == "key" and fault.message.count("SHA256:") == 2


def test_a_changed_manifest_is_refused(standing):
    device, _ = standing
    release = wrong()
    package = device.package(release)
    package["manifest"] = package["manifest"].replace('"serial": 11', '"serial": 12')
    with device.session() as session, pytest.raises(Fault, match="signature does not match"):
        session.ask("check", **package)


def test_a_signature_for_something_else_is_refused(standing):
    device, _ = standing
    package = device.package(wrong())
    package |= device.key.signed(b"other words")
    with device.session() as session, pytest.raises(Fault, match="does not match what was sent"):
        session.ask("check", **package)


def test_a_new_key_is_pinned_only_when_the_old_one_signs_it(served, keys):
    device, _ = served
    other = Device(device.root, keys[1])
    line = keys[1].public
    forged = {"key": line, **keys[1].signed(line.encode(), statement.KEY)}
    assert "not signed by the one" in refusal(other, wrong(), pin=forged).message
    pin = {"key": line, **keys[0].signed(line.encode(), statement.KEY)}
    assert other.flash(wrong(), pin=pin)["healthy"]
    assert refusal(device, wrong(serial=12)).kind == "key"


def test_the_first_flash_pins_its_key(keys, tmp_path):
    device = Device(tmp_path / "r", keys[0])
    package = device.package(Release())
    with device.session() as session:
        with pytest.raises(Fault, match="trusts no key yet"):
            session.ask("check", **{**package, "key": None})
        assert session.ask("check", **package)["first"]
    assert not device.root.exists()  # a check writes nothing


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"serial": 9}, "downgrade", r"serial 9\) is older than the newest release"),
        ({"architecture": "riscv64"}, "architecture", "is for riscv64, this device is"),
        ({"python": "3.2"}, "python", "is for Python 3.2, this device has 3"),
        ({"glibc": "9.9"}, "glibc", "needs glibc 9.9, this device has"),
        ({"format": 2}, "manifest", "format 2, this agent knows 1"),
        ({"bundles": [{"name": "../../x", "sha256": "0" * 64, "size": 1}]}, "manifest", "name"),
    ],
)
def test_a_package_for_another_device_is_refused(standing, more, kind, words):
    device, _ = standing
    release = wrong()
    release.data.update(more)
    fault = refusal(device, release)
    assert fault.kind == kind
    assert re.search(words, fault.message)


def test_a_downgrade_can_be_allowed(served):
    device, _ = served
    older = Release(9, bundles={"door.edgevid": b"an old model"})
    permitted = {"device": device.id, "permits": ("reset-floor",), "nonce": "0" * 32}
    assert device.flash(older, about=permitted)["healthy"]


def test_modules_that_the_device_lacks_are_named(standing):
    device, _ = standing
    release = wrong()
    release.data["runner"]["packages"] = ["json", "no_such_module"]
    fault = refusal(device, release)
    assert fault.kind == "modules" and "no_such_module" in fault.message
    assert "apt-get install python3-no-such-module" in fault.fix


def test_an_accelerator_that_the_service_may_not_use_is_refused(standing):
    need_root()
    device, _ = standing
    release = wrong()
    release.data["service"]["devices"] = ["/dev/null", "/dev/mem*", "/dev/not-there"]
    release.data["service"]["user"] = "nobody"
    if not Path("/dev/mem").exists():
        release.data["service"]["devices"][1] = "/dev/kmsg"
    fault = refusal(device, release)
    assert fault.kind == "permission" and "may not use /dev/" in fault.message


def test_a_flipped_byte_on_the_way_is_refused_and_sent_again(served):
    device, first = served
    release = wrong()
    name = sha(b"a better model")
    with device.session() as session:
        session.ask("session")
        with pytest.raises(Fault, match="arrived damaged") as fault:
            session.ask("blob", b"a bettar model", sha256=name, size=14, offset=0)
        assert fault.value.kind == "hash"
        sizes = {name: 14}
        assert session.ask("missing", blobs=sizes)["missing"] == {name: 0}
    assert device.current() == first.id
    assert device.flash(release)["healthy"]


def test_a_swapped_file_on_the_device_is_noticed_and_sent_again(served):
    device, _ = served
    release = wrong()
    name = sha(b"a better model")
    with device.session() as session:
        session.ask("session")
        device.send(session, release)
    (device.root / "blobs" / name).write_bytes(b"another model!")
    with device.session() as session:
        package = device.package(release)
        with pytest.raises(Fault, match="1 files of the package are missing here"):
            session.ask("stage", **package)
        assert device.send(session, release) == 14
        assert session.ask("stage", **package)["release"] == release.id


def test_deploying_the_same_release_repairs_damage(served):
    device, first = served
    (device.root / "current" / "bundles" / "door.edgevid").write_bytes(b"a mudel")
    again = device.flash(first)
    assert not again["started"]
    assert (device.root / "current" / "bundles" / "door.edgevid").read_bytes() == b"a model"


def test_the_transfer_of_a_blob_is_resumed(standing):
    device, _ = standing
    content = os.urandom(300_000)
    name, size = sha(content), len(content)
    with device.session() as session:
        session.ask("session")
        session.ask("blob", content[:100_000], sha256=name, size=size, offset=0)
    with device.session() as session:
        session.ask("session")
        head = {"do": "blob", "sha256": name, "size": size, "offset": 100_000, "bytes": 200_000}
        session.write(json.dumps(head).encode() + b"\n" + content[100_000:250_000])
        until(lambda: (device.root / "blobs" / f"{name}.part").stat().st_size > 150_000)
        session.kill()
    with device.session() as session:
        session.ask("session")
        offset = session.ask("missing", blobs={name: size})["missing"][name]
        assert offset > 150_000
        have = session.ask("blob", content[offset:], sha256=name, size=size, offset=offset)
    assert have["have"] == size
    written = (device.root / "blobs" / name).read_bytes()
    assert hashlib.sha256(written).hexdigest() == name


@pytest.mark.parametrize("name", ["../../evil.py", "/evil.py", "a/../../evil.py"])
def test_a_wheel_that_would_write_outside_its_folder_is_refused(standing, name):
    device, first = standing
    wheels = {"a-1-py3-none-any.whl": tiny_runner(), "b-1-py3-none-any.whl": wheel({name: "!"})}
    release = Release(11, wheels=wheels)
    with device.session() as session, pytest.raises(Fault, match="would be written outside"):
        device.stage(session, release)
    assert device.current() == first.id and not list(device.root.parent.rglob("evil.py"))
    assert {p.name for p in (device.root / "runners").glob("[!.]*")} == {first.data["runner"]["id"]}
    assert device.serving(first)


def test_a_wheel_unpacks_as_an_installer_would(device):
    wheels = {
        "tool-1-py3-none-any.whl": wheel(
            {
                "tool/__init__.py": "",
                "tool-1.data/purelib/more.py": "x = 1",
                "tool-1.data/scripts/tool": "#!python",
                "tool-1.dist-info/METADATA": "Name: tool",
            }
        ),
        "edgevid-1-py3-none-any.whl": tiny_runner(),
    }
    release = Release(wheels=wheels)
    with device.session() as session:
        device.stage(session, release)
    lib = device.root / "runners" / release.data["runner"]["id"] / "lib"
    files = {str(p.relative_to(lib)) for p in lib.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert files == {
        "tool/__init__.py", "more.py", "tool-1.dist-info/METADATA",
        "edgevid/__init__.py", "edgevid/__main__.py",
    }  # fmt: skip


# ------------------------------------------------------------------ the disk


def mounted(folder, options):
    need_root()
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "edgevid", folder], check=True)


def test_a_small_disk_is_refused_before_and_a_full_one_while_it_is_written(keys, tmp_path):
    disk = tmp_path / "d"
    mounted(disk, "size=24m")
    device = Device(disk / "r", keys[0])
    try:
        first = Release(10)
        assert device.flash(first)["healthy"]
        big = Release(11, bundles={"door.edgevid": os.urandom(8 << 20)})
        fault = refusal(device, big)
        assert fault.kind == "disk" and "MB free" in fault.message
        better = Release(11, bundles={"door.edgevid": os.urandom(1 << 20)})
        with device.session() as session:
            session.ask("session")
            with (
                (disk / "ballast").open("wb", buffering=0) as file,
                pytest.raises(OSError, match="space"),
            ):
                while True:
                    file.write(bytes(1 << 16))
            with pytest.raises(Fault, match="the disk is full") as fault:
                device.send(session, better)
            assert fault.value.kind == "disk"
        assert device.current() == first.id and device.ask("status")["status"]
        (disk / "ballast").unlink()
        assert device.flash(better)["healthy"]
        device.ask("uninstall")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_read_only_disk_is_refused(keys, tmp_path):
    disk = tmp_path / "d"
    mounted(disk, "size=8m,ro")
    try:
        fault = refusal(Device(disk / "r", keys[0]), Release())
        assert fault.kind == "readonly" and str(disk) in fault.message
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_user_without_permission_is_refused(keys):
    need_root()
    device = Device(Path("/var/lib/edgevid-of-root"), keys[0])
    lowered = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    python = "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip("no python3 that everybody may run")
    release = Release()
    version = "import sys;print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", version], capture_output=True, text=True)
    release.data["python"] = done.stdout.strip()
    package = device.package(release)
    lowly = device.session(before=lowered, python=python)
    with lowly as session, pytest.raises(Fault) as fault:
        session.ask("check", **package)
    assert fault.value.kind == "permission", fault.value


def test_an_unsuitable_root_folder_is_refused(keys, tmp_path):
    for root, words in ((Path("relative"), "cannot be"), (tmp_path / ("x" * 90), "cannot be")):
        with Device(root, keys[0]).session() as session, pytest.raises(Fault, match=words):
            session.ask("session")


def test_only_one_session_at_a_time_has_the_lock(standing):
    device, _ = standing
    with device.session() as one, device.session() as two:
        one.ask("session")
        with pytest.raises(Fault, match="someone else is flashing this device"):
            two.ask("session")
        one.kill()
        two.ask("session")  # its lock was never stale


def test_an_invalid_request_is_answered_and_the_session_goes_on(device):
    with device.session() as session:
        with pytest.raises(Fault, match="is unknown"):
            session.ask("dance", b"with me")
        for line in (b"no json\n", b"[1]\n", b'{"do": 1}\n'):
            session.write(line)
            assert b'"protocol"' in session.process.stdout.readline()
        name = "../../../tmp/x"
        for fields in ({"sha256": name, "size": 1}, {"sha256": "0" * 64, "size": -1}, {}):
            with pytest.raises(Fault, match="protocol"):
                session.ask("session")
                session.ask("blob", b"x", **fields)
        assert session.ask("probe")["architecture"]
