"""Many devices: waves, thresholds, one table, and how they all are."""

from __future__ import annotations

import threading
import time

import pytest

from edgevid.errors import BadInput, DeviceFailed, GateRefused
from edgevid.flash import fleet
from edgevid.flash.fleet import exit_code, read_threshold, read_waves, roll
from edgevid.flash.inventory import DeviceEntry


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
def test_what_is_no_wave_is_refused(text):
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
    outcomes = roll(devices(7), act, waves=[1, 6], parallel=3, say=said.append)
    assert states(outcomes) == ["serving", "unchanged", *["serving"] * 5]
    assert [outcome.wave for outcome in outcomes] == [1, 2, 2, 2, 2, 2, 2]
    assert act.begun[0] == act.ended[0] == "d1"
    assert act.most == 3
    assert "wave 2 of 2: d2, d3, d4, d5, d6, d7" in said
    assert exit_code(outcomes) == 0


def test_beyond_the_threshold_nothing_is_begun_in_this_wave_neither():
    act = Acts(d2=GateRefused("no frames"), d3=DeviceFailed("gone", "unreachable"))
    outcomes = roll(devices(6), act, waves=[1, 4, 1], may_fail=1, parallel=1, say=str)
    assert states(outcomes) == ["serving", "refused", "failed", *["not begun"] * 3]
    assert (outcomes[1].reason, outcomes[2].kind) == ("no frames", "unreachable")
    assert act.begun == ["d1", "d2", "d3"]
    assert exit_code(outcomes) == 1


def test_within_the_threshold_it_goes_on():
    act = Acts(d1=DeviceFailed("gone", "unreachable"))
    outcomes = roll(devices(3), act, waves=[1, 2], may_fail=1, say=str)
    assert states(outcomes) == ["failed", "unchanged", "serving"]
    assert exit_code(outcomes) == 4


def test_a_bug_in_one_does_not_hang_the_others(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda bug: told.append(bug.exc_type))
    outcomes = roll(devices(2), Acts(d1=KeyError("x")), waves=[2], may_fail=2, say=str)
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
