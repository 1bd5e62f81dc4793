"""Many devices: waves, thresholds, one table, and how they all are."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import ExitStack

import pytest

from edgevid.errors import BadInput, CheckFailed, DeviceFailed
from edgevid.flash import fleet
from edgevid.flash.fleet import exit_code, read_threshold, read_waves, roll
from edgevid.flash.inventory import DeviceEntry
from rigs.audit import current, whole
from rigs.bundles import write_null
from rigs.devices import Person, device, new_host_key
from rigs.processes import wait_for

pytestmark = pytest.mark.starts(0)


def devices(count):
    return [DeviceEntry(f"d{n}", f"10.0.0.{n}") for n in range(1, count + 1)]


@pytest.mark.parametrize(
    ("text", "total", "sizes"),
    [
        ("100%", 6, [6]),
        ("1,25%,100%", 20, [1, 4, 15]),
        ("1,25%", 20, [1, 4, 15]),
        ("1,10%,50%,100%", 6, [1, 2, 3]),
        ("1,2,5", 6, [1, 1, 3, 1]),
        ("3,90", 6, [3, 3]),
        ("1", 1, [1]),
    ],
)
def test_a_wave_says_how_many_are_done_after_it(text, total, sizes):
    assert read_waves(text, total) == sizes


@pytest.mark.parametrize("text", ["", "0", "x", "1,,3", "120%", "-1", "5,2", "50%,1", "1.5"])
def test_an_invalid_wave_is_refused(text):
    with pytest.raises(BadInput, match="--wave"):
        read_waves(text, 6)


def test_a_threshold_is_a_number_or_a_part_that_is_rounded_down():
    assert [read_threshold(text, 9) for text in ("0", "2", "10%", "12%", "100%")] == [0, 2, 0, 1, 9]
    for text in ("", "x", "101%", "-1"):
        with pytest.raises(BadInput, match="--max-failures"):
            read_threshold(text, 9)


class Acts:
    """Does what the test says, and remembers in which order and how many at once."""

    def __init__(self, **errors):
        self.errors = errors
        self.begun, self.ended, self.most, self._running = [], [], 0, 0
        self._lock = threading.Lock()

    def __call__(self, device):
        with self._lock:
            self.begun.append(device.name)
            self._running += 1
            self.most = max(self.most, self._running)
        time.sleep(0.02)
        with self._lock:
            self._running -= 1
            self.ended.append(device.name)
        if device.name in self.errors:
            raise self.errors[device.name]
        return {"release": "r", "outcome": "unchanged" if device.name == "d2" else "serving"}


def states(outcomes):
    return [outcome.state for outcome in outcomes]


def test_a_wave_waits_for_the_one_before_and_keeps_to_its_width():
    act, said = Acts(), []
    outcomes = roll(devices(7), act, waves=[1, 6], parallel=3, log=said.append)
    assert states(outcomes) == ["serving", "unchanged", *["serving"] * 5]
    assert [outcome.wave for outcome in outcomes] == [1, 2, 2, 2, 2, 2, 2]
    assert act.begun[0] == act.ended[0] == "d1"
    assert act.most == 3
    assert "wave 2 of 2: d2, d3, d4, d5, d6, d7" in said
    assert exit_code(outcomes) == 0


def test_beyond_the_threshold_no_device_is_begun():
    act = Acts(d2=CheckFailed("no frames"), d3=DeviceFailed("gone", "unreachable"))
    outcomes = roll(devices(6), act, waves=[1, 4, 1], may_fail=1, parallel=1, log=str)
    assert states(outcomes) == ["serving", "refused", "failed", *["not begun"] * 3]
    assert (outcomes[1].reason, outcomes[2].kind) == ("no frames", "unreachable")
    assert act.begun == ["d1", "d2", "d3"]
    assert exit_code(outcomes) == 1


def test_within_the_threshold_it_goes_on():
    act = Acts(d1=DeviceFailed("gone", "unreachable"))
    outcomes = roll(devices(3), act, waves=[1, 2], may_fail=1, log=str)
    assert states(outcomes) == ["failed", "unchanged", "serving"]
    assert exit_code(outcomes) == 4


def test_a_bug_in_one_does_not_hang_the_others(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda bug: told.append(bug.exc_type))
    outcomes = roll(devices(2), Acts(d1=KeyError("x")), waves=[2], may_fail=2, log=str)
    assert states(outcomes) == ["failed", "unchanged"]
    assert told == [KeyError]


def test_what_was_flashed_is_remembered_by_address(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one = DeviceEntry("a", "b", 22, "pi", root="/srv/../x")
    fleet.note(one, {"release": "0123"})
    assert fleet.flashed(DeviceEntry("renamed", "b", 22, "pi", root="/srv/../x")) == "0123"
    assert fleet.flashed(DeviceEntry("a", "b", 22, "pi")) is None
    assert [len(file.relative_to(tmp_path).parts) for file in tmp_path.rglob("*.json")] == [3]
    fleet.forget(one)
    assert fleet.flashed(one) is None


# ---------------------------------------------------------------- six devices, for real


class Six:
    """Devices without systemd, each on a link of its own, and the person who has them all."""

    def __init__(self, person, made, folder):
        self.person, self.devices, self.folder = person, made, folder
        person.inventory(*made.values())

    def bundle(self, name, **behaviour):
        (self.folder / name).mkdir()
        return write_null(self.folder / name / "motion.edgevid", mark=name, **behaviour)

    def flash(self, bundle, *options):
        words = ("--target", "all", "--source", "synthetic:64x64@15", "--health-s", 1, "--json")
        done = self.person.edgevid("flash", bundle, *words, *options)
        outcomes = json.loads(done.stdout)["devices"]
        return done.returncode, {one["device"]: one for one in outcomes}, done.stderr

    def status(self):
        done = self.person.edgevid("fleet", "status", "--json")
        found = json.loads(done.stdout)["devices"]
        return done.returncode, {one["device"]: one for one in found}

    def root(self, name):
        return self.devices[name].root / "opt/edgevid"


NAMES = ("one", "two", "three", "four", "five", "six")


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    folder = tmp_path_factory.mktemp("six")
    person = Person(folder / "person")
    with ExitStack() as stack:
        made = {n: stack.enter_context(device(person, n, systemd=False)) for n in NAMES}
        yield Six(person, made, folder)


def test_a_wave_stops_at_its_threshold_and_the_others_serve(six):
    code, outcomes, said = six.flash(six.bundle("old"))
    assert (code, {one["state"] for one in outcomes.values()}) == (0, {"serving"}), said
    old = {name: current(six.root(name)) for name in NAMES}
    code, seen = six.status()
    assert (code, {one["health"] for one in seen.values()}) == (0, {"serving"})
    assert {name: one["release"] for name, one in seen.items()} == old
    assert all(one["fps"] > 1 and one["engine"] == "null/cpu float32" for one in seen.values())

    # Two are broken, each in its own way, and a third is not the machine that it was.
    blobs = "mount --bind /opt/edgevid/blobs /opt/edgevid/blobs"
    ro = "mount -o remount,bind,ro /opt/edgevid/blobs"
    six.devices["two"].machine.run("sh", "-c", f"{blobs} && {ro}")
    six.devices["three"].machine.run("mv", "/usr/bin/python3", "/usr/bin/python3.gone")
    new_host_key(six.devices["four"].machine)
    waves = ("--wave", "1,4,100%", "--max-failures", 2)
    code, outcomes, said = six.flash(six.bundle("new"), *waves)
    assert code == 4
    assert {name: one["state"] for name, one in outcomes.items()} == {
        "one": "serving",
        "two": "failed",
        "three": "failed",
        "four": "failed",
        "five": "not begun",
        "six": "not begun",
    }
    assert [outcomes[name]["kind"] for name in ("two", "three", "four")] == [
        "readonly",
        "no-python",
        "host-key-changed",
    ]
    assert "wave 2 of 3: two, three, four" in said
    new = outcomes["one"]["result"]["release"]
    for name in NAMES:
        release = whole(six.root(name))
        assert release.name == (new if name == "one" else old[name])
        assert six.devices[name].machine.processes("edgevid run")

    code, seen = six.status()
    assert code == 4
    assert {name: one["health"] for name, one in seen.items()} == {
        "one": "serving",
        "two": "serving",
        "three": "unreachable",
        "four": "unreachable",
        "five": "serving",
        "six": "serving",
    }


def test_drift_is_reported_and_a_stale_lock_is_ignored(six):
    """Another person flashes a device of ours; and one who was killed in between holds no lock."""
    other = Person(six.folder / "other", key=six.person.key)
    five = six.devices["five"]
    other.knows(five)
    other.inventory(five)
    words = ("--target", "five", "--source", "synthetic:64x64@15", "--health-s", 1)
    key = six.person.folder / ".config/edgevid/signing-key"
    ours = current(six.root("five"))
    five.link.limit(4)  # so that it is seen while it travels
    try:
        large = six.bundle("slow", padding=random.Random(5).randbytes(1 << 20).hex())
        flashing = other.start("flash", large, *words, "--key", key)
        parts = (six.root("five") / "blobs").glob
        wait_for(lambda: list(parts("*.part")) or flashing.poll() is not None, 60)
        assert flashing.poll() is None, flashing.communicate()
        flashing.kill()
        flashing.communicate()
    finally:
        five.link.free()
    done = other.edgevid("flash", six.bundle("theirs"), *words, "--key", key)
    assert done.returncode == 0, done.stderr
    theirs = current(six.root("five"))
    code, seen = six.status()
    assert code == 1
    assert seen["five"]["drift"] == f"{theirs} instead of {ours}"
    assert seen["six"]["drift"] is None
