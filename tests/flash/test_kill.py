"""Killed anywhere: then a whole release serves, the old or the new one, and the next flash works.

The points are not chosen by hand: real flashes are traced on the device, and real processes are
killed at each of their calls that change a disk or start a program. For a cut of the power the
disk's image is copied at that moment, and the device goes on with what is on the copy.
"""

from __future__ import annotations

import json
import random
import signal
from contextlib import contextmanager
from itertools import count

import pytest

from edgevid.bundle import Bundle
from edgevid.errors import BadInput
from edgevid.runner.status import ask
from rigs.audit import whole
from rigs.bundles import write_null
from rigs.crash_points import Disk, Traps
from rigs.devices import Person, device
from rigs.processes import wait_for

pytestmark = pytest.mark.starts(0)

ROOT = "/opt/edgevid"
SETTLE_S = 60.0


class Victim:
    """A device on which something serves, and whose programs are killed again and again."""

    def __init__(self, person, made, folder):
        self.person, self.device, self._folder = person, made, folder
        self.machine, self.root = made.machine, made.root / ROOT.lstrip("/")
        self.traps = Traps(made.machine)
        self.disk = Disk(made.machine, ROOT, folder / "disk")
        self._numbers = count()
        person.inventory(made)

    def bundle(self, padding=0):
        """A bundle that the device has never seen; all have the same name."""
        number = next(self._numbers)
        place = self._folder / str(number)
        place.mkdir()
        dust = random.Random(number).randbytes(padding // 2).hex()
        return write_null(place / "motion.edgevid", mark=number, padding=dust)

    def words(self, bundle):
        there = ("--source", "synthetic:64x64@15", "--target", self.device.name)
        return ("flash", bundle, *there, "--health-s", 1, "--json")

    def flash_well(self):
        """The next flash simply works."""
        bundle = self.bundle()
        done = self.person.edgevid(*self.words(bundle))
        assert done.returncode == 0, done.stderr + done.stdout
        release = whole(self.root)
        assert release.name == json.loads(done.stdout)["release"]
        assert release.keys == {Bundle.open(bundle).key}

    def state(self):
        """What the journal says."""
        try:
            return json.loads((self.root / "journal.json").read_text())["state"]
        except FileNotFoundError:
            return "none"

    def serving(self):
        """The keys of the bundles that answer now; None where none does."""
        try:
            status = ask(self.device.root / "run/edgevid")
        except BadInput:
            return None
        keys = {bundle["key"] for bundle in status["bundles"]}
        return keys if status["state"] == "serving" else None

    def settled(self):
        """Wait until nothing is being decided; look at each byte, and at who answers."""
        wait_for(lambda: self.state() != "activating", SETTLE_S)
        release = whole(self.root)
        if release is not None:
            wait_for(lambda: self.serving() == release.keys, SETTLE_S)
        return release

    @contextmanager
    def struck(self, what, padding=0):
        """Let something strike a flash inside of this; then all is as it must be."""
        before = whole(self.root)
        bundle = self.bundle(padding)
        flashing = self.person.start(*self.words(bundle))
        try:
            yield flashing
            flashing.communicate(timeout=120)
            allowed = [{Bundle.open(bundle).key}] + ([before.keys] if before else [None])
            after = self.settled()
            assert (after.keys if after else None) in allowed
            self.flash_well()
        except BaseException as error:
            error.add_note(f"at {what}")
            raise
        finally:
            self.machine.signal_all(signal.SIGCONT)
            flashing.kill()
            flashing.communicate()

    def kill_at(self, point):
        """Kill a program of the device at a point; whether it came there at all."""
        self.traps.kill(point)
        with self.struck(point) as flashing:
            flashing.communicate(timeout=120)
            self.traps.clear()
        return self.traps.struck(point)

    def cut_power_at(self, point):
        """Cut the power when a program of the device is at a point, and start it again."""
        self.traps.kill(point)
        with self.struck(f"{point}, without power") as flashing:
            wait_for(lambda: self.traps.struck(point) or flashing.poll() is not None, 120)
            copy = self.disk.snapshot()
            flashing.kill()
            self.traps.clear()
            self.reboot(copy)
        return self.traps.struck(point)

    def reboot(self, copy):
        """Go on with the disk as it is on ``copy``; memory is lost, with all that ran."""
        self.machine.run("pkill", "-KILL", "-f", "python3", check=False)
        self.machine.signal_all(signal.SIGCONT)
        self.machine.run("systemctl", "kill", "--signal=KILL", "edgevid*", check=False)
        self.machine.run("systemctl", "stop", "edgevid*", check=False)
        wait_for(lambda: not self.machine.processes("python3"), SETTLE_S)
        self.disk.become(copy)
        self.machine.run("systemctl", "reset-failed", check=False)
        self.machine.run("systemctl", "start", "edgevid", check=False)

    def points(self):
        """The points of an update, in which the runner stays: of the session, then of the guard."""
        for role in ("session", "guard"):
            self.traps.trace(role)
        self.flash_well()
        self.traps.clear()
        # How often the guard looks, and says how far it is, is not the same in each flash.
        guard = [p for p in self.traps.points("guard") if p.call != "vfork" or p.count <= 6]
        return self.traps.points("session"), [p for p in guard if "progress" not in p.words]

    def points_of_the_first(self):
        """The points of a first flash, each file of the runner being one of many."""
        self.uninstall()
        self.traps.trace("session")
        self.flash_well()
        self.traps.clear()
        return self.traps.points("session")

    def uninstall(self):
        done = self.person.edgevid("flash", "--uninstall", "--target", self.device.name)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("victim")
    person = Person(folder / "person")
    with device(person, "victim") as made:
        victim = Victim(person, made, folder)
        victim.flash_well()
        try:
            yield victim
        finally:
            made.machine.run("systemctl", "stop", "edgevid*", check=False)
            wait_for(lambda: not made.machine.processes(ROOT), SETTLE_S)
            victim.disk.close()


@pytest.fixture(scope="module")
def points(victim):
    return victim.points()


def spread(points, number):
    """So many of them, evenly, the last one too."""
    step = max(1.0, len(points) / number)
    return [points[round((n + 1) * step) - 1] for n in range(min(number, len(points)))]


def test_an_update_has_these_points(points):
    session, guard = points
    assert {"fsync", "rename", "link", "write"} <= {point.call for point in session}
    assert {"fsync", "rename", "symlink", "write"} <= {point.call for point in guard}
    assert len(session) + len(guard) >= 40


@pytest.mark.parametrize("number", range(4))
def test_the_agent_is_killed(victim, points, number):
    assert victim.kill_at(spread(points[0], 4)[number])


@pytest.mark.parametrize("number", range(3))
def test_the_watchdog_is_killed(victim, points, number):
    assert victim.kill_at(spread(points[1], 3)[number])


@pytest.mark.parametrize("state", ["staged", "activating"])
def test_the_power_is_cut_in_a_state(victim, state):
    with victim.struck(f"the state {state}, without power") as flashing:
        wait_for(lambda: victim.state() == state, SETTLE_S)
        copy = victim.disk.snapshot()
        flashing.kill()
        victim.reboot(copy)


def kill_client(victim, flashing):
    flashing.kill()


def kill_sshd(victim, flashing):
    victim.machine.run("pkill", "-KILL", "-f", "sshd: pi")


@pytest.mark.parametrize("kill", [kill_client, kill_sshd])
@pytest.mark.parametrize("moment", ["sending", "activating"])
def test_one_end_of_the_session_is_killed(victim, kill, moment):
    def reached():
        parts = list((victim.root / "blobs").glob("*.part"))
        return parts if moment == "sending" else victim.state() == moment

    victim.device.link.limit(16)
    try:
        with victim.struck(f"{kill.__name__} while {moment}", padding=1 << 20) as flashing:
            wait_for(reached, SETTLE_S)
            kill(victim, flashing)
    finally:
        victim.device.link.free()


@pytest.mark.soak
def test_every_point_of_an_update(victim, points):
    struck = sum(victim.kill_at(point) for point in (*points[0], *points[1]))
    print(f"killed at {struck} of {len(points[0]) + len(points[1])} points")
    assert struck >= 60


@pytest.mark.soak
def test_power_is_cut_at_points_of_an_update(victim, points):
    chosen = [*spread(points[0], 20), *spread(points[1], 10)]
    struck = sum(victim.cut_power_at(point) for point in chosen)
    print(f"without power at {struck} of {len(chosen)} points")
    assert struck >= 25


@pytest.mark.soak
def test_points_of_a_first_flash(victim):
    found = victim.points_of_the_first()
    common = [point for point in found if "/lib/" in point.words or "/blobs/" in point.words]
    rare = [point for point in found if point not in common]
    struck = 0
    for number, point in enumerate([*spread(common, 6), *spread(rare, 12)]):
        victim.uninstall()
        struck += (victim.cut_power_at if number % 3 == 0 else victim.kill_at)(point)
    print(f"struck at {struck} points of a first flash, which has {len(found)}")
    assert struck >= 15
