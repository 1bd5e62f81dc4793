"""The agent where systemd is PID 1: its unit for all, and a user's own."""

import pytest

from rigs.agent import Key, Release, until
from rigs.devices import PACKAGES
from rigs.inside import Inside
from rigs.systemd import machine

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]

HEALTH = {"seconds": 1.5, "start_s": 30.0}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def made():
    with machine(PACKAGES, bare=True) as made:
        yield made


def release(made, serial, **more):
    said = made.run("python3", "-c", "import sys;print('%d.%d' % sys.version_info[:2])").stdout
    release = Release(serial, **more)
    release.data["python"] = said.strip()
    return release


def left(made):
    words = ("-xdev", "-iname", "*edgevid*", "-not", "-path", "/proc/*", "-print")
    return made.run("find", "/etc", "/opt", "/var", "/run", "/home", *words).stdout.split()


def test_a_hardened_unit_serves_rolls_back_and_is_removed(made, key):
    assert not left(made)
    device = Inside(made, "/opt/edgevid", key)
    first = release(made, 1)
    first.data["service"]["groups"] = ["video", "no-such-group"]
    first.data["udev"] = ['SUBSYSTEM=="usb", ATTR{idVendor}=="18d1", GROUP="plugdev"']
    (made.root / "etc/udev/rules.d").mkdir(parents=True, exist_ok=True)
    done = device.flash(first, HEALTH)
    assert done["healthy"], done
    rules = made.root / "etc/udev/rules.d/70-edgevid.rules"
    assert rules.read_text() == first.data["udev"][0] + "\n"
    told = device.serving(first)["service"]
    assert (told["kind"], told["boot"]) == ("system", True)
    status = (made.root / f"proc/{told['pid']}/status").read_text()
    uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1]
    assert uid != "0" and made.show("edgevid", "ProtectSystem") == "strict"
    assert made.show("edgevid", "SupplementaryGroups") == "video"
    assert not device.flash(first, HEALTH)["started"]
    assert device.ask("status")["service"]["pid"] == told["pid"]

    done = device.flash(release(made, 2, sick={"dies_s": 1.0, "exit": 9}), HEALTH)
    reason = done["reason"]
    assert (done["state"], reason["exit_code"], reason["log"][-1]) == (
        "rolled-back", 9, "last words",
    ) or "last words" in reason["log"], done  # fmt: skip
    assert device.serving(first)

    # A killed guard is started again by systemd, and goes back, with nobody there.
    second = release(made, 3, bundles={"door.edgevid": b"better"})
    with device.session() as session:
        device.stage(session, second)
        begun = session.ask("activate", id=second.id, health={**HEALTH, "seconds": 60})
    device.serving(second)
    unit = f"edgevid-watchdog-{begun['activation']}.service"
    made.run("systemctl", "kill", "--signal=KILL", unit)
    until(lambda: device.journal()["state"] == "rolled-back")
    assert device.journal()["reason"]["stage"] == "watchdog"
    assert device.serving(first)

    # Power: everything ends at once, and the unit starts with the next boot.
    with device.session() as session:
        device.stage(session, second)
        begun = session.ask("activate", id=second.id, health={**HEALTH, "seconds": 60})
    device.serving(second)
    unit = f"edgevid-watchdog-{begun['activation']}.service"
    made.run("systemctl", "stop", unit)
    made.run("systemctl", "restart", "edgevid")
    assert device.journal()["reason"]["stage"] == "power"
    assert device.serving(first)
    assert device.flash(second, HEALTH)["healthy"]

    assert "/opt/edgevid" in device.ask("uninstall")["removed"]
    assert not left(made)
    assert made.show("edgevid", "LoadState") == "not-found"


def test_systemds_watchdog_ends_a_hanging_service_and_it_is_rolled_back(made, key):
    device = Inside(made, "/opt/edgevid", key)
    sick = release(made, 1, sick={"hangs_s": 0.5})
    done = device.flash(sick, {"seconds": 20, "start_s": 30})
    assert done["state"] == "rolled-back" and done["reason"]["stage"] == "serve", done
    assert done["release"] is None and made.show("edgevid", "LoadState") == "not-found"
    device.ask("uninstall")


def test_a_root_that_the_service_cannot_read_is_refused(made, key):
    device = Inside(made, "/root/edgevid", key)
    with device.session() as session, pytest.raises(Exception, match="cannot read files in"):
        session.ask("check", **device.package(release(made, 1)))


def test_a_unit_that_is_not_edgevids_is_kept(made, key):
    made.write("/etc/systemd/system/edgevid.service", "[Service]\nExecStart=/bin/true\n")
    device = Inside(made, "/opt/edgevid", key)
    with device.session() as session, pytest.raises(Exception, match="not written by edgevid"):
        session.ask("check", **device.package(release(made, 1)))
    device.ask("uninstall")
    made.run("rm", "/etc/systemd/system/edgevid.service")


@pytest.mark.soak
def test_a_user_without_sudo_gets_a_user_unit(key):
    with machine((*PACKAGES, "libpam-systemd", "dbus-user-session"), bare=True) as made:
        made.run("useradd", "--create-home", "--uid", "1234", "pi")
        made.run("chmod", "755", "/sys/fs/cgroup")  # the rig's is for root alone
        made.run("loginctl", "enable-linger", "pi")
        until(lambda: (made.root / "run/user/1234/systemd/private").exists())
        as_a_user(made, key)


def as_a_user(made, key):
    user = ("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups")
    device = Inside(made, "/home/pi/.local/share/edgevid", key, *user)
    first = release(made, 1)
    done = device.flash(first, HEALTH)
    assert done["healthy"], done
    told = device.serving(first)["service"]
    assert told["kind"] == "user" and told["boot"]
    done = device.flash(release(made, 2, sick={"blind": True}), HEALTH)
    assert done["reason"]["stage"] == "frames" and device.serving(first)
    device.ask("uninstall")
    assert not [path for path in left(made) if "/home/pi" in path or "/run/user" in path]
