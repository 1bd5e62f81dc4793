"""The lock of a target: a package index cannot put in another wheel."""

import json
import re

import pytest

from edgevid import targets
from edgevid.errors import BadInput
from edgevid.flash import target_lock, wheels
from edgevid.flash.wheels import LockedWheel, LockedWheels, WheelRequest, gather, platforms
from edgevid.runtimes import catalog
from rigs.wheels import write_wheel

ARM = platforms((), "aarch64", "2.36")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The only place in which wheels are found; nothing is kept yet."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def want(*requirements):
    return WheelRequest(requirements, "aarch64", "3.13", ARM)


def lock(folder, *names) -> LockedWheels:
    """A lock of the wheels that are in the index now."""
    found = [wheels.read_wheel(file) for file in sorted(folder.glob("*.whl"))]
    listed = [LockedWheel(w.name, w.project, w.version, w.sha256) for w in found]
    return LockedWheels("the lock", tuple(w for w in listed if w.project in names), "make it")


def versions(got):
    return {wheel.project: wheel.version for wheel, _ in got}


def test_a_newer_version_of_the_index_is_not_taken(index):
    write_wheel(index, "app", "1", requires=["part"])
    write_wheel(index, "part", "1")
    locked = lock(index, "app", "part")
    write_wheel(index, "part", "2")
    assert versions(gather(want("app"))) == {"app": "1", "part": "2"}
    assert versions(gather(want("app"), locked=locked)) == {"app": "1", "part": "1"}


def test_another_wheel_of_the_same_version_is_refused(index):
    write_wheel(index, "app", "1", requires=["part"])
    write_wheel(index, "part", "1")
    locked = lock(index, "app", "part")
    write_wheel(index, "part", "1", requires=["evil"])
    write_wheel(index, "evil", "1")
    with pytest.raises(
        BadInput, match=r"part-1-.* differs from the wheel that the lock lists.*: make it"
    ):
        gather(want("app"), locked=locked)
    assert not list(wheels.folder().glob("*.whl"))


def test_what_was_resolved_before_the_lock_is_resolved_again(index):
    write_wheel(index, "app", "1")
    locked = lock(index, "app")
    write_wheel(index, "app", "2")
    assert versions(gather(want("app"))) == {"app": "2"}
    assert versions(gather(want("app"), locked=locked)) == {"app": "1"}


def test_projects_of_plugins_are_not_in_the_lock_and_may_be_added(index):
    write_wheel(index, "app", "1")
    locked = lock(index, "app")
    write_wheel(index, "plugin", "3")
    assert versions(gather(want("app", "plugin"), locked=locked)) == {"app": "1", "plugin": "3"}


def test_a_wheel_that_the_index_no_longer_has_is_an_error(index):
    write_wheel(index, "app", "1")
    locked = lock(index, "app")
    (index / "app-1-py3-none-any.whl").unlink()
    write_wheel(index, "app", "2")
    with pytest.raises(
        BadInput, match=r"no wheel of app.*the lock allows only the versions it lists"
    ):
        gather(want("app"), locked=locked)


# ---------------------------------------------------------------- the locks that ship

SHIPPED = [name for name in targets.names() if targets.load(name).architecture != "any"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_target_ships_with_its_lock(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    target = targets.load(name)
    file = target_lock.find(name)
    assert file is not None and file.name == f"{name}.lock"
    text = file.read_text()
    assert "://" not in text and "/" not in text.replace("\\/", "")
    least = (target.glibc or "2.17").split(".")[1]
    for python in target.python:
        for glibc in (int(least), 41):
            tags = platforms(target.wheels, target.architecture, f"2.{glibc}")
            request = WheelRequest((), target.architecture, python, tags)
            locked = target_lock.locked(name, request)
            assert locked is not None
            projects = {one.project for one in locked.wheels}
            wanted = [*target.requires]
            if glibc == 41:  # an older one lacks what some engines need
                wanted += [one for way in target.engine for one in catalog.requirements(way)]
            for requirement in wanted:
                assert re.match(r"[A-Za-z0-9_.-]+", requirement)[0] in projects, requirement
            assert all(re.fullmatch("[0-9a-f]{64}", one.sha256) for one in locked.wheels)
            assert all(one.name.endswith(".whl") for one in locked.wheels)


def test_the_users_own_lock_comes_first_and_is_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = target_lock.own_file("raspberry-pi-5")
    own.parent.mkdir(parents=True)
    shipped = json.loads(target_lock.find("raspberry-pi-5").read_text())
    own.write_text(json.dumps({**shipped, "sections": []}))
    assert target_lock.find("raspberry-pi-5") == own
    with pytest.raises(BadInput, match=r"no wheels for Python 3\.13 .*target_lock raspberry-pi-5"):
        target_lock.locked("raspberry-pi-5", want())
    for text in ("{", "[]", '{"format": 2}'):
        own.write_text(text)
        with pytest.raises(BadInput, match="damaged"):
            target_lock.locked("raspberry-pi-5", want())


def test_a_target_of_the_user_needs_no_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "edgevid" / "targets"
    folder.mkdir(parents=True)
    (folder / "own.toml").write_text('title = "x"\n')
    assert target_lock.locked("own", want()) is None


def test_a_lock_is_made_of_what_the_index_has_now(index):
    write_wheel(index, "av", "11")
    write_wheel(index, "click", "8.2")
    write_wheel(index, "numpy", "2.0")
    target = targets.load("raspberry-pi-5")
    request = target_lock._request(target, "3.13", 36, ())
    assert {one.project for one in target_lock._listed(request)} == {"av", "click", "numpy"}
