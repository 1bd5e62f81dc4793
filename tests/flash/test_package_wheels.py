"""Wheels for another machine, from an index that is a folder, or from none."""

import subprocess
import sys

import pytest

from edgevid.errors import BadInput, EnvironmentFailed
from edgevid.flash import wheels
from edgevid.flash.wheels import WheelRequest, gather, platforms
from rigs.need import need_program, need_root
from rigs.wheels import write_wheel

ARM = platforms((), "aarch64", "2.36")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The only place in which wheels are found; nothing is kept yet."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def want(*requirements, architecture="aarch64", python="3.13", tags=ARM, provided=()):
    return WheelRequest(requirements, architecture, python, tags, provided)


def names(got):
    return {wheel.project for wheel, _ in got}


def test_markers_are_evaluated_for_the_device(index):
    requires = (
        'only-arm; platform_machine == "aarch64"',
        'only-pc; platform_machine == "x86_64"',
        'for-old; python_version < "3.13"',
        'for-new; python_full_version >= "3.13"',
        'elsewhere; sys_platform == "win32"',
        'with-extra; extra == "more"',
    )
    write_wheel(index, "app", requires=requires)
    for text in requires:
        write_wheel(index, text.partition(";")[0])
    assert names(gather(want("app"))) == {"app", "only-arm", "for-new"}
    on_pc = want("app", architecture="x86_64", python="3.12")
    assert names(gather(on_pc)) == {"app", "only-pc", "for-old"}


def test_markers_are_evaluated_for_the_device_without_uv(index):
    arm = platforms(("manylinux_2_34_armv7l", "linux_armv7l"), "armv7l", "2.36")
    old = want("app", architecture="armv7l", python="3.11", tags=arm, provided=("numpy",))
    requires = ('only-arm; platform_machine == "armv7l"', 'only-pc; platform_machine == "x86_64"')
    write_wheel(index, "app", tag="cp311-cp311-manylinux_2_34_armv7l", requires=requires)
    write_wheel(index, "only-pc")
    with pytest.raises(BadInput, match="no wheel of only-arm for armv7l"):
        gather(old)
    write_wheel(index, "only-arm", requires=["numpy>=1.23"])
    assert names(gather(old)) == {"app", "only-arm"}
    for _, file in gather(old):
        file.unlink()
    assert names(gather(old)) == {"app", "only-arm"}
    assert all(file.is_file() for _, file in gather(old))


def test_a_wheel_fits_the_devices_glibc_python_and_processor(index):
    for version, glibc, machine in (
        ("1", 28, "aarch64"),
        ("2", 35, "aarch64"),
        ("3", 28, "x86_64"),
    ):
        write_wheel(index, "app", version, f"cp311-abi3-manylinux_2_{glibc}_{machine}")
    new, old = want("app"), want("app", tags=platforms((), "aarch64", "2.31"))
    assert [wheel.version for wheel, _ in gather(new)] == ["2"]
    assert [wheel.version for wheel, _ in gather(old)] == ["1"]
    with pytest.raises(
        BadInput, match=r"no wheel of app for aarch64, Python 3\.13, manylinux_2_27"
    ):
        gather(want("app", tags=platforms((), "aarch64", "2.27")))
    write_wheel(index, "fixed", "1", "cp311-cp311-manylinux2014_aarch64")
    assert names(gather(want("fixed", python="3.11"))) == {"fixed"}
    with pytest.raises(BadInput, match="no wheel of fixed"):
        gather(want("fixed", python="3.12"))


def test_a_manylinux_tag_stands_for_older_ones_as_far_as_glibc_goes():
    tags = platforms(("manylinux_2_39_aarch64", "linux_aarch64"), "aarch64", "2.18")
    assert tags == (
        "manylinux_2_18_aarch64",
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
        "linux_aarch64",
    )
    assert platforms(("manylinux_2_19_aarch64",), "aarch64", "2.41")[0] == "manylinux_2_19_aarch64"
    with pytest.raises(BadInput, match="not glibc 2"):
        platforms((), "aarch64", "")


def test_a_lock_is_used_until_it_is_renewed(index):
    write_wheel(index, "app", "1")
    assert [wheel.version for wheel, _ in gather(want("app"))] == ["1"]
    write_wheel(index, "app", "2")
    assert [wheel.version for wheel, _ in gather(want("app"))] == ["1"]
    assert [wheel.version for wheel, _ in gather(want("app"), renew=True)] == ["2"]


def test_a_damaged_wheel_is_downloaded_again_with_the_locked_hash(index):
    write_wheel(index, "app", requires=["part"])
    write_wheel(index, "part")
    ((_, file), _) = gather(want("app"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    gather(want("app"))
    assert file.read_bytes() == whole
    file.unlink()
    write_wheel(index, "app", requires=["part", "another"])  # of the same version
    with pytest.raises(EnvironmentFailed, match="does not have the locked hash"):
        gather(want("app"))


def test_provided_projects_need_no_wheel_but_all_others_do(index):
    write_wheel(index, "app", requires=["numpy>=1.23"])
    assert names(gather(want("app", provided=("numpy",)))) == {"app"}
    write_wheel(index, "other", requires=["numpy", "part>=2"])
    with pytest.raises(BadInput, match="no wheel of part>=2"):
        gather(want("other", provided=("numpy",)))


def test_an_empty_request_resolves_nothing():
    assert gather(want()) == []


def test_a_damaged_lock_is_resolved_again(index):
    write_wheel(index, "app")
    gather(want("app"))
    (lock,) = (wheels.folder() / "locks").glob("*.json")
    lock.write_text("{}")
    said = []
    assert names(gather(want("app"), log=said.append)) == {"app"}
    assert "is not usable" in said[0]


def test_without_a_network_kept_wheels_are_used_and_missing_ones_named(index, monkeypatch):
    need_root()
    need_program("unshare", "util-linux")
    write_wheel(index, "app")
    gather(want("app"))
    write_wheel(wheels.folder(), "by-hand")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")

    def alone(requirement):
        code = f"""
from edgevid.errors import EdgevidError
from edgevid.flash.wheels import WheelRequest, gather
try:
    print(len(gather(WheelRequest(({requirement!r},), "aarch64", "3.13", {ARM!r}))))
except EdgevidError as error:
    print(type(error).__name__, error)
"""
        command = ["unshare", "--net", sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert alone("app") == "1\n"
    assert alone("by-hand") == "1\n"
    said = alone("numpy>=1.24")
    assert said.startswith("EnvironmentFailed no wheel of numpy>=1.24 for aarch64, Python 3.13")
    assert "the package index cannot be reached" in said
    assert str(wheels.folder()) in said
