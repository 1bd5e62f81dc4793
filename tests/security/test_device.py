"""What a local user or a compromised runner can do to the root agent on a device."""

import json
import os
import stat
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgevid.flash.agent import disk, jobs, runner_status, untrusted
from edgevid.flash.agent.store import Store
from edgevid.flash.agent.transport import Refused
from edgevid.runner.status import StatusBoard
from rigs.agent import Device, Fault, Key, Release
from rigs.strangers import NOBODY, act, open_folder, start

OTHER = 65533
"""A user that is neither the service's nor this process's."""
NAME = "a" * 32


@pytest.fixture
def folder():
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def store(folder):
    """A store in which something serves, with a cache that the service's user owns."""
    store = Store(folder / "root")
    store.make()
    store.point("0" * 16)
    untrusted.make_folder(store.state / "cache", 0o700, (NOBODY, NOBODY))
    return store


def within(seconds, function, *args):
    """Call a function that must not hang; returns its result."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*args)), daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "it hangs"
    return found[0]


# ------------------------------------------------------------------ root in folders of other users


def test_a_tuning_is_stored_where_the_service_cannot_write(store, folder):
    victim = folder / "victim"
    victim.mkdir()
    (victim / "tuned").mkdir()
    (victim / "secret").write_text("root's")
    act("import os,sys; os.symlink(sys.argv[2], sys.argv[1])",
        store.state / "cache" / "edgevid", victim)  # fmt: skip
    assert jobs.keep_tuned(store, {"name": NAME, "content": {"threads": 2}}) == {"kept": True}
    assert [path.stat().st_uid for path in (victim, victim / "tuned", victim / "secret")] == [0] * 3
    assert not any((victim / "tuned").iterdir())
    kept = store.root / "tuned" / f"{NAME}.json"
    assert json.loads(kept.read_text()) == {"threads": 2}
    for one in (kept, *kept.parents):
        found = one.stat()
        sticky = found.st_mode & stat.S_ISVTX
        assert found.st_uid == 0 and (sticky or not found.st_mode & 0o022), one
    with pytest.raises(Refused, match="too long"):
        jobs.keep_tuned(store, {"name": NAME, "content": "x" * (1 << 20)})


def test_no_program_of_the_agent_gives_files_away():
    """Root changes the owner only of what it has just created in its own folder."""
    agent = Path(untrusted.__file__).parent
    found = [
        f"{file.name}: {line.strip()}"
        for file in sorted(agent.glob("*.py"))
        for line in file.read_text().splitlines()
        if "chown(" in line
    ]
    assert found == [
        "credentials.py: os.chown(str(path), user, group, follow_symlinks=False)",
        "supervisor.py: os.chown(str(path), account[0], account[1], follow_symlinks=False)",
        "untrusted.py: os.chown(str(path), account[0], account[1], follow_symlinks=False)",
    ]


@pytest.mark.parametrize("trap", ["link", "file", "folder"])
def test_a_folder_for_a_user_is_made_anew_and_what_was_there_is_not_given_away(folder, trap):
    secret = folder / "secret"
    secret.mkdir()
    (secret / "key").write_text("root's")
    place = folder / "cache"
    if trap == "link":
        place.symlink_to(secret)
    elif trap == "file":
        os.link(secret / "key", place)
    else:
        place.mkdir()
        os.link(secret / "key", place / "key")
    untrusted.make_folder(place, 0o700, (NOBODY, NOBODY))
    made = place.lstat()
    assert stat.S_ISDIR(made.st_mode) and made.st_uid == NOBODY and not any(place.iterdir())
    assert (secret / "key").stat().st_uid == secret.stat().st_uid == 0
    (place / "kept").touch()
    untrusted.make_folder(place, 0o700, (NOBODY, NOBODY))
    assert (place / "kept").exists()


DEEP = """
import os, sys
os.chdir(sys.argv[1])
for name in ("victim", "victim/x"):
    os.symlink(sys.argv[2] + name[6:], name.replace("/", "-"))
os.mkfifo("pipe")
for number in range(3000):
    os.mkdir("d" * 60)
    os.chdir("d" * 60)
    os.symlink(sys.argv[2], "link")
"""


def test_removal_follows_no_link_and_depth_does_not_stop_it(folder):
    victim = folder / "victim"
    victim.mkdir()
    (victim / "x").write_text("root's")
    place = folder / "cache"
    untrusted.make_folder(place, 0o700, (NOBODY, NOBODY))
    assert act(DEEP, place, victim) == ""
    within(60, lambda: disk.remove(place) or True)
    assert not place.exists() and (victim / "x").read_text() == "root's"


@pytest.mark.parametrize("trap", ["fifo", "link", "folder", "huge"])
def test_a_jobs_document_is_a_plain_file_or_none(store, folder, trap):
    out = store.jobs / ("b" * 16) / "out"
    out.mkdir(parents=True)
    document = out / "document.json"
    secret = folder / "secret"
    secret.write_text("root's")
    if trap == "fifo":
        os.mkfifo(document)
    elif trap == "link":
        document.symlink_to(secret)
    elif trap == "folder":
        document.mkdir()
    else:
        document.write_bytes(b"x" * (2 << 20))
    request = {"id": "b" * 16, "file": "document", "offset": 0}
    content = within(5, jobs.read, store, request)["content"]
    assert len(content) == (0 if trap != "huge" else 4 * ((jobs.PART + 2) // 3))


# ------------------------------------------------------------------ local users and the service


def test_no_other_user_can_open_a_lock(folder, store):
    assert store.lock.take() and store.watchdog.take()
    board = StatusBoard(folder / "run", dict)
    locks = [store.lock.path, store.watchdog.path, folder / "run" / "status.lock"]
    for lock in locks:
        said = act("import sys; open(sys.argv[1])", lock)
        assert "PermissionError" in said, lock
    board.close()


HOLD = """
import fcntl, sys
try:
    fcntl.flock(lock := open(sys.argv[1]), fcntl.LOCK_EX)
except OSError as error:
    print(error.strerror)
print("ready", flush=True)
sys.stdin.read()
"""


def test_no_other_user_can_keep_the_service_from_starting(folder):
    lock = folder / "run" / "status.lock"
    StatusBoard(lock.parent, dict).close()
    lock.chmod(0o644)  # an older edgevid's
    StatusBoard(lock.parent, dict).close()
    with start(HOLD, lock) as holder:
        try:
            assert holder.stdout.readline() == "Permission denied\n"
            StatusBoard(lock.parent, dict).close()
        finally:
            holder.kill()


@pytest.mark.parametrize("kind", ["anybody may write it", "somebody else's"])
def test_the_status_is_not_published_in_a_folder_of_others(folder, kind):
    place = folder / "run"
    place.mkdir()
    place.chmod(0o777 if kind == "anybody may write it" else 0o755)
    if kind == "somebody else's":
        os.chown(place, NOBODY, NOBODY)
    with pytest.raises(Exception, match=r"other users can write|belongs to another user"):
        StatusBoard(place, dict)
    assert not any(place.iterdir())


SERVE = """
import os, socket, sys, time
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
while True:
    client, _ = server.accept()
    try:
        if sys.argv[2] == "right":
            client.sendall(b'{"pid": 1}')
        while sys.argv[2] == "slow":
            client.sendall(b" ")
            time.sleep(0.2)
        while sys.argv[2] == "endless":
            client.sendall(b" " * (1 << 20))
    except OSError:
        pass
    client.close()
"""


@contextmanager
def listening(path, how, user=NOBODY):
    with start(SERVE, path, how, user=user) as server:
        assert server.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            server.kill()


@pytest.fixture
def status(folder):
    """The status folder of a service that runs as nobody."""
    untrusted.make_folder(folder / "run", 0o777, (NOBODY, NOBODY))
    (folder / "run").chmod(0o777)  # so that the other user gets in, too
    return folder / "run"


def test_roots_question_about_the_status_has_an_answer(status):
    with listening(status / "status.sock", "right"):
        assert runner_status.ask(status, NOBODY) == {"pid": 1}
    act("import sys; open(sys.argv[1], 'w').write('{\"pid\": 2}')", status / "status.json")
    assert runner_status.ask(status, NOBODY) == {"pid": 2}


@pytest.mark.parametrize("how", ["slow", "endless"])
def test_roots_question_about_the_status_ends(status, how):
    with listening(status / "status.sock", how):
        assert within(10, lambda: [runner_status.ask(status, NOBODY)]) == [None]


def test_another_users_socket_or_file_is_not_the_status(status):
    with listening(status / "status.sock", "right", user=OTHER):
        assert runner_status.ask(status, NOBODY) is None
    act("import sys; open(sys.argv[1], 'w').write('{}')", status / "status.json", user=OTHER)
    assert runner_status.ask(status, NOBODY) is None


@pytest.mark.parametrize("trap", ["fifo", "link", "huge", "nested"])
def test_a_status_file_is_a_plain_file_of_moderate_size(status, folder, trap):
    file = status / "status.json"
    if trap == "fifo":
        os.mkfifo(file)
    elif trap == "link":
        (folder / "other.json").write_text("{}")
        os.chown(folder / "other.json", NOBODY, NOBODY)
        file.symlink_to(folder / "other.json")
    elif trap == "huge":
        file.write_bytes(b"{}" + b" " * runner_status.LIMIT)
    else:
        file.write_bytes(b"[" * 100_000)
    os.chown(file, NOBODY, NOBODY, follow_symlinks=False)
    assert within(5, lambda: [runner_status.ask(status, NOBODY)]) == [None]


# ------------------------------------------------------------------ the folder of edgevid


def test_another_programs_folder_is_neither_used_nor_erased(folder, key):
    root = folder / "data"
    root.mkdir()
    for name in ("state", "jobs", "blobs"):  # names that edgevid has, too
        (root / name).mkdir()
        (root / name / "theirs").write_text("years of work")
    device, release = Device(root, key), Release()
    with device.session() as session:
        for verb in ("check", "session", "uninstall"):
            with pytest.raises(Fault, match="has other files"):
                session.ask(verb, **device.package(release))
    assert sorted(path.name for path in root.iterdir()) == ["blobs", "jobs", "state"]
    assert all((root / name / "theirs").read_text() for name in ("state", "jobs", "blobs"))


def test_uninstalling_leaves_and_names_what_the_store_did_not_make(store):
    (store.root / "photos").mkdir()
    (store.root / ".hidden.part").touch()
    assert store.lock.take()
    left = store.erase()
    assert left == [f"{store.root}/.hidden.part", f"{store.root}/photos"]
    assert sorted(path.name for path in store.root.iterdir()) == [".hidden.part", "photos"]


@pytest.mark.parametrize("what", ["anybody may write it", "somebody else's", "above", "link"])
def test_a_folder_that_another_user_can_change_is_refused(folder, key, what):
    above = folder / "above"
    above.mkdir()
    root = above / "root"
    if what == "link":
        untrusted.make_folder(folder / "theirs", 0o755, (NOBODY, NOBODY))
        root.symlink_to(folder / "theirs" / "root")
    else:
        Store(root).make()
    if what == "anybody may write it":
        root.chmod(0o1777)
    elif what == "somebody else's":
        os.chown(root, NOBODY, NOBODY)
    elif what == "above":
        os.chown(above, NOBODY, NOBODY)
    device = Device(root, key)
    with device.session() as session:
        for verb in ("probe", "status", "session", "uninstall", "tuned"):
            with pytest.raises(Fault, match="is not safe from other users"):
                session.ask(verb)
    if what != "link":
        with pytest.raises(Refused, match="is not safe"):
            jobs._paused_by(Store(folder / "mine"), {"pause": str(root)})


def test_a_folder_in_a_sticky_one_and_a_folder_of_ones_own_group_are_safe(folder):
    sticky = folder / "tmp"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "root").mkdir()
    assert untrusted.unsafe_reason(sticky / "root") is None
    assert untrusted.unsafe_reason(sticky / "not" / "there") is None
    assert untrusted.unsafe_reason(sticky) is not None
    (folder / "own").mkdir()
    (folder / "own").chmod(0o775)  # umask 002: root is alone in its group
    assert untrusted.unsafe_reason(folder / "own") is None
    os.chown(folder / "own", 0, NOBODY)
    assert untrusted.unsafe_reason(folder / "own") is not None


def test_a_datagram_socket_of_the_watchdog_is_closed_to_others(folder):
    from edgevid.flash.agent.supervisor import Supervisor

    store = Store(folder / "root")
    store.make()
    supervisor = Supervisor(store)
    path = supervisor._listen((NOBODY, NOBODY))
    send = (
        "import socket, sys\n"
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'WATCHDOG=1', sys.argv[1])"
    )
    assert act(send, path) == ""
    assert supervisor._notices.recv(100) == b"WATCHDOG=1"
    assert "PermissionError" in act(send, path, user=OTHER)
    assert "PermissionError" in act("import os, sys; os.unlink(sys.argv[1])", path)
    names = Path("/proc/net/unix").read_text()
    assert f"@edgevid-{os.getpid()}" not in names
    supervisor._notices.close()


def test_a_process_that_says_it_is_edgevids_does_not_stop_root_for_long(monkeypatch):
    from edgevid.flash.agent import processes

    monkeypatch.setattr(processes, "TERM_S", 0.2)
    monkeypatch.setattr(processes, "KILL_S", 0.2)
    monkeypatch.setattr(processes, "_processes", lambda: [os.getpid()])
    monkeypatch.setattr(processes, "environment", lambda pid: {"EDGEVID_ROOT": "/x"})
    monkeypatch.setattr(processes, "kill", lambda pid, number: None)
    within(5, lambda: processes.end_stragglers(Path("/x")) or True)
