import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from edgevid.errors import BadOutput
from edgevid.files import canonical_json, user_folder, write_json, writing, writing_folder


def test_an_error_leaves_the_old_file_and_no_part(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"old": 1})
    with pytest.raises(RuntimeError), writing(file) as part:
        part.write_text("half")
        raise RuntimeError
    assert file.read_bytes() == canonical_json({"old": 1})
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "run"
    for content in ("old", "new"):
        with writing_folder(folder) as part:
            (part / content).write_text(content)
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_two_processes_do_not_fill_one_folder(tmp_path):
    folder = tmp_path / "run"
    for keep in (True, False):
        with writing_folder(folder, keep=keep) as part:
            (part / "mine").write_text("1")
            refused = pytest.raises(BadOutput, match="is being written by another process")
            with refused, writing_folder(folder, keep=keep):
                raise AssertionError
            assert [file.name for file in part.iterdir()] == ["mine"]
        assert [file.name for file in folder.iterdir()] == ["mine"]


def test_the_old_folder_survives_if_the_new_one_is_lost(tmp_path):
    folder = tmp_path / "run"
    with writing_folder(folder) as part:
        (part / "old").write_text("1")
    with pytest.raises(FileNotFoundError), writing_folder(folder) as part:
        shutil.rmtree(part)
    assert [file.name for file in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_an_unfinished_folder_is_taken_up_again_only_if_asked(tmp_path):
    for keep in (True, False):
        with pytest.raises(RuntimeError), writing_folder(tmp_path / "run", keep=keep) as part:
            (part / "epoch").write_text("1")
            raise RuntimeError
        assert (tmp_path / ".run.part" / "epoch").exists() is keep
    assert not (tmp_path / "run").exists()


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"old": 1})
    script = f"""
        import pathlib, time
        from edgevid.files import writing
        with writing(pathlib.Path({str(file)!r})) as part:
            part.write_text("half")
            print("writing", flush=True)
            time.sleep(60)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "writing\n"
    time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert file.read_bytes() == canonical_json({"old": 1})


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"score": float("nan")})


def test_a_user_without_a_home_has_folders_that_do_not_exist(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/named")
    assert user_folder("XDG_CACHE_HOME", ".cache") == Path("/named")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert user_folder("XDG_CACHE_HOME", ".cache") == Path("/home/somebody/.cache")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 61_234)  # nobody's number, as of a service
    assert not user_folder("XDG_CACHE_HOME", ".cache").exists()


def test_a_name_that_is_not_utf_8_survives_in_json():
    name = os.fsdecode(b"caf\xe9")
    content = canonical_json({"file": name})
    assert json.loads(content.decode("utf-8")) == {"file": name}
