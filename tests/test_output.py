"""Where outputs go: files are replaced, links followed, devices and pipes written into."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from edgevid.errors import BadOutput, OutputFailed
from edgevid.files import write_bytes, writing, writing_folder
from edgevid.output import Destination, ReaderGone, open_append, reject_input, same_file, try_folder
from rigs.need import need_root


@pytest.fixture
def mount(tmp_path):
    """Give a function that mounts a small file system in a folder."""
    need_root()
    mounted = []

    def mount(name, options="size=64k"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "edgevid", folder], check=True)
        mounted.append(folder)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", folder], check=True)


def only(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_file_appears_whole_and_in_missing_folders(tmp_path):
    path = tmp_path / "a/b/result.json"
    with Destination(path) as output:
        assert output.is_regular
        assert not path.parent.exists()  # trying it creates nothing
        output.write(b"new")
    assert path.read_bytes() == b"new"
    assert only(path.parent) == ["result.json"]


def test_an_existing_file_keeps_its_mode_and_owner(tmp_path):
    need_root()
    path = tmp_path / "result"
    path.write_text("old")
    path.chmod(0o640)
    os.chown(path, 12, 34)
    Destination(path).write(b"new")
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 12, 34)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("write", [lambda path: Destination(path).write(b"new"), None])
def test_a_link_is_followed_and_stays_a_link(tmp_path, write):
    write = write or (lambda path: write_bytes(path, b"new"))
    for target in ("there", "missing"):
        link = tmp_path / f"to-{target}"
        link.symlink_to(f"files/{target}")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/there").write_text("old")
    for target in ("there", "missing"):
        write(tmp_path / f"to-{target}")
        assert (tmp_path / f"to-{target}").is_symlink()
        assert (tmp_path / f"files/{target}").read_bytes() == b"new"
    assert only(tmp_path / "files") == ["missing", "there"]


def test_a_link_to_a_folder_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with writing_folder(tmp_path / "link") as part:
        (part / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert only(tmp_path / "real") == ["new"]


def test_a_device_is_written_into_and_stays_one(tmp_path):
    need_root()
    device = tmp_path / "null"
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    Destination(device).write(b"gone")
    write_bytes(device, b"gone")
    with Destination(device) as output, output.file() as part:
        part.write_bytes(b"gone")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert only(tmp_path) == ["null"]


@pytest.mark.parametrize("way", ["write", "file", "writing"])
def test_a_pipe_is_written_into_once(tmp_path, way):
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    if way == "writing":
        write_bytes(fifo, b"all of it")
    else:
        with Destination(fifo) as output:
            assert not output.is_regular
            if way == "write":
                output.write(b"all of it")
            else:
                with output.file() as part:
                    part.write_bytes(b"all of it")
    reader.join(10)
    assert got == [b"all of it"]
    assert fifo.is_fifo()


def test_a_socket_is_written_into(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen(1)
        with Destination(tmp_path / "socket") as output:
            output.write(b"line\n")
        taken, _ = server.accept()
        with taken:
            assert taken.recv(100) == b"line\n"


def test_a_pipe_whose_reader_is_gone_is_no_failure(tmp_path):
    reading, writing_end = os.pipe()
    output = Destination(Path(f"/dev/fd/{writing_end}"))
    os.close(reading)
    with pytest.raises(ReaderGone):
        output.write(b"x")
    output.close()
    os.close(writing_end)


def test_a_descriptor_is_continued_and_not_opened_afresh(tmp_path):
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before ")
        Destination(Path(f"/proc/self/fd/{file.fileno()}")).write(b"after")
        with open_append(Path(f"/dev/fd/{file.fileno()}")) as more:
            more.write(b" more")
    assert (tmp_path / "log").read_bytes() == b"before after more"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("folder", "name a file"),
        ("file/below", "part of the path is a file"),
        ("loop", "form a loop"),
        ("x" * 300, "give it a shorter name"),
        (f"new/{'x' * 300}/result", "give it a shorter name"),
    ],
)
def test_a_name_that_can_never_be_written_is_found_before(tmp_path, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    before = only(tmp_path)
    with pytest.raises(BadOutput, match=says) as caught:
        Destination(tmp_path / name)
    assert caught.value.exit_code == 2
    assert only(tmp_path) == before
    with pytest.raises(BadOutput, match=says.partition(";")[0]):
        write_bytes(tmp_path / name, b"x")
    assert (tmp_path / "loop").is_symlink()


def test_the_longest_name_can_be_written(tmp_path):
    for name in ("x" * 255, "ä" * 127):
        Destination(tmp_path / name).write(b"new")
        assert (tmp_path / name).read_bytes() == b"new"


def test_a_name_that_is_not_utf_8_is_kept(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    Destination(path).write(b"new")
    assert os.listdir(os.fsencode(tmp_path)) == [b"caf\xe9"]  # noqa: PTH208


def test_a_read_only_disk_is_found_before(mount):
    folder = mount("disk")
    (folder / "old").write_text("old")
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    for name in ("old", "new", "new/folder/file"):
        with pytest.raises(OutputFailed, match="Read-only file system") as caught:
            Destination(folder / name)
        assert caught.value.exit_code == 4
    for name in (".", "new", "new/folder"):
        with pytest.raises(OutputFailed, match="Read-only file system"):
            try_folder(folder / name)


def test_an_immutable_file_is_found_before(tmp_path):
    need_root()
    file = tmp_path / "kept"
    file.write_text("old")
    if subprocess.run(["chattr", "+i", file], capture_output=True).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        with pytest.raises(OutputFailed, match="Operation not permitted"):
            Destination(file)
    finally:
        subprocess.run(["chattr", "-i", file], check=True)


def _as_nobody(act):
    """Run ``act`` in a child without privileges; give what it raised, as text."""
    reading, writing_end = os.pipe()
    if (child := os.fork()) == 0:
        text = ""
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            act()
        except BaseException as error:  # noqa: BLE001 - reported to the parent
            text = f"{type(error).__name__}: {error}"
        os.write(writing_end, text.encode())
        os._exit(0)
    os.close(writing_end)
    with os.fdopen(reading) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def open_folder():
    """A folder that everybody can reach, unlike pytest's own."""
    import tempfile

    need_root()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_what_the_user_may_not_write_is_found_before(open_folder):
    (open_folder / "old").write_text("old")
    for name in ("old", "new", "new/below"):
        said = _as_nobody(lambda name=name: Destination(open_folder / name))
        assert said.startswith("OutputFailed: ")
        assert "Permission denied" in said
    assert "Permission denied" in _as_nobody(lambda: try_folder(open_folder / "run"))


def test_a_file_in_a_folder_of_others_is_overwritten_in_place(open_folder):
    file = open_folder / "mine"
    file.write_text("old and longer")
    os.chown(file, 65534, 65534)
    assert _as_nobody(lambda: Destination(file).write(b"new")) == ""
    assert file.read_bytes() == b"new"
    assert only(open_folder) == ["mine"]


def test_a_file_that_is_a_mount_point_is_overwritten_in_place(tmp_path):
    need_root()
    (tmp_path / "outside").write_text("old")
    (tmp_path / "inside").touch()
    subprocess.run(["mount", "--bind", tmp_path / "outside", tmp_path / "inside"], check=True)
    try:
        Destination(tmp_path / "inside").write(b"new")
    finally:
        subprocess.run(["umount", tmp_path / "inside"], check=True)
    assert (tmp_path / "outside").read_bytes() == b"new"
    assert only(tmp_path) == ["inside", "outside"]


def test_an_empty_folder_that_is_a_mount_point_is_filled(mount):
    folder = mount("volume")
    with writing_folder(folder) as part:
        (part / "sub").mkdir()
        (part / "sub/file").write_text("new")
    assert (folder / "sub/file").read_text() == "new"


def test_a_full_disk_leaves_the_old_file_and_no_half_one(mount):
    folder = mount("disk", "size=32k")
    (folder / "result").write_bytes(b"old")
    with pytest.raises(OutputFailed, match="No space left on device; free some space") as caught:
        Destination(folder / "result").write(b"x" * 100_000)
    assert caught.value.exit_code == 4
    with pytest.raises(OutputFailed, match="No space left"), writing(folder / "new") as part:
        part.write_bytes(b"x" * 100_000)
    with pytest.raises(OutputFailed, match="No space left"), writing_folder(folder / "f") as part:
        (part / "file").write_bytes(b"x" * 100_000)
    assert only(folder) == ["result"]
    assert (folder / "result").read_bytes() == b"old"


def test_other_errors_of_the_work_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "new"):
        (tmp_path / "source").read_bytes()


def test_one_file_is_known_by_all_its_names(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "hard").hardlink_to(tmp_path / "file")
    (tmp_path / "dangling").symlink_to("missing")
    for name in ("link", "hard", "../" + tmp_path.name + "/file"):
        assert same_file(tmp_path / "file", tmp_path / name)
        with pytest.raises(BadOutput, match="is an input of this command"):
            reject_input(tmp_path / name, [tmp_path / "file"])
    assert same_file(tmp_path / "dangling", tmp_path / "missing")
    assert same_file(Path("-"), Path("-"))
    assert not same_file(Path("/dev/null"), Path("/dev/null"))
    assert not same_file(tmp_path / "file", tmp_path / "missing")
