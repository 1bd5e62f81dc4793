"""An accelerator that fails in the middle of a clip: the CPU goes on, and no answer is another."""

import json
import os
import random
import signal
import threading
import time

import numpy as np
import pytest

from edgevid import runtimes, targets
from edgevid.bundle import Bundle
from edgevid.errors import BadInput, CheckFailed, EngineFailed
from edgevid.proof.verdict import PROOF_TIMEOUT_S
from edgevid.runner import accelerator_supervisor as supervisor
from edgevid.runner import engine_failover as failover
from edgevid.runner import worker
from edgevid.runner.accelerator_supervisor import AcceleratorState, BackoffPolicy
from edgevid.runner.canary import Canaries, distinct
from edgevid.runner.engine_failover import EngineFailover
from edgevid.runner.engines import Choice, choices
from edgevid.runtimes import zero_state
from rigs.player import Player, furthest, noise
from rigs.processes import alive, children, descriptors, resident_mb, shared_memory, wait_for

NAME = "null-float32"
FAULTS = ("error", "hang", "freeze", "abort", "vanish", "nan", "wrong")
SOON = BackoffPolicy(first_s=0.2, proof_s=30)
LATER = BackoffPolicy(first_s=600, longest_s=600, proof_s=30)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Give a function that breaks the accelerator while the file exists that it gives."""

    def arm(kind, **more):
        trigger = tmp_path / f"broken-{kind}"
        fault = {"kind": kind, "when": str(trigger)}
        monkeypatch.setenv("EDGEVID_NULL", json.dumps({"on": "null", "faults": [fault], **more}))
        return trigger

    return arm


@pytest.fixture
def own_children():
    """Give a function that lists this process's children, but for those of longer-lived rigs."""
    others = set(children())
    return lambda: [pid for pid in children() if pid not in others]


@pytest.fixture
def sit():
    """Give a function that opens a failover on the stand-in accelerator; closed at the end."""
    opened = []

    def begin(bundle, artifact=NAME, wanted=None, **options):
        wanted = wanted or [Choice(artifact, "null", "null")]
        heard = []
        options = {"backoff": LATER, "report": heard.append, **options}
        opened.append(EngineFailover(bundle, wanted, **options))
        opened[-1].heard = heard
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


@pytest.fixture
def opened(null_bundle) -> Bundle:
    return Bundle.open(null_bundle)


def until(player, condition, timeout_s=20.0):
    """Step until something is so."""
    frames = noise(player.failover.bundle.contract, 8)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        player.step(frames[len(player.answers) % 8])
        time.sleep(0.005)


# --- the real artifact, in the middle of a clip ---------------------------------------------------


@pytest.fixture(scope="module", params=["window", "carry"])
def real(request):
    """A bundle of a trained model, and what its int8 artifact answers to a clip."""
    bundle = Bundle.open(
        request.getfixturevalue({"window": "real_bundle", "carry": "carry_bundle"}[request.param])
    )
    assert bundle.contract.temporal == request.param
    engine = runtimes.get("tflite").load(bundle.files("tflite-int8"), bundle.contract)
    frames, clean, state = noise(bundle.contract, 240), [], zero_state(bundle.contract)
    for frame in frames:
        answer, state = engine.step({"frame": frame}, state)
        clean.append(answer)
    assert len({int(answer["scores"].argmax()) for answer in clean}) > 1
    return bundle, frames, clean


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_in_the_middle_of_a_clip_changes_no_answer(real, broken, sit, kind):
    bundle, frames, clean = real
    trigger = broken(kind)
    player = Player(sit(bundle, "tflite-int8"), bundle.contract)
    player.play(frames[:101])
    assert player.failover.guarded
    assert not player.failover.degraded
    trigger.touch()
    player.play(frames[101:102])
    while player.failover.guarded and len(player.answers) < 200:  # the next canary finds it
        player.play(frames[len(player.answers) :][:1])
        time.sleep(0.005)
    assert not player.failover.guarded, "no canary found the fault"
    assert player.failover.choice == Choice("tflite-int8", "tflite", "cpu")
    assert player.failover.degraded
    player.play(frames[len(player.answers) :])
    tolerance = 1e-6
    assert furthest(player.answers, clean) <= tolerance
    told = player.failover.status()
    assert told["serving"]["runtime"] == "tflite"
    assert told["failovers"] == 1
    assert told["places"][0]["state"] == "failed"
    assert told["reason"] == told["places"][0]["reason"]
    (line,) = [line for line in player.failover.heard if "next retry" in line]
    assert "tflite-int8 in tflite on cpu serves; next retry in 600 s" in line


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["error", "wrong"])
def test_a_repaired_accelerator_is_taken_back(opened, broken, sit, kind):
    trigger = broken(kind)
    player = Player(sit(opened, backoff=SOON), opened.contract)
    until(player, lambda: len(player.answers) > 20)
    trigger.touch()
    until(player, lambda: not player.failover.guarded)
    until(player, lambda: player.failover.status()["places"][0]["failures"] >= 2)
    assert player.failover.degraded
    trigger.unlink()
    until(player, lambda: player.failover.guarded)
    assert not player.failover.degraded
    told = player.failover.status()
    assert (told["places"][0]["state"], told["reason"], told["alarm"]) == ("serving", None, None)
    assert player.failover.heard[-1] == "null-float32 in null on null serves"


def test_flapping_ends_on_the_cpu_with_an_alarm(own_children, opened, monkeypatch, sit):
    """Each new process passes its proof, and fails soon after."""
    fault = {"kind": "error", "after_s": 0.3, "times": 1000}
    monkeypatch.setenv("EDGEVID_NULL", json.dumps({"on": "null", "faults": [fault]}))
    player = Player(sit(opened, backoff=BackoffPolicy(first_s=0.1)), opened.contract)
    until(player, lambda: player.failover.status()["alarm"])
    told = player.failover.status()
    assert (told["places"][0]["state"], told["failovers"]) == ("given up", 3)
    assert "null-float32 in null on null failed 3 times and is not retried" in told["alarm"]
    assert told["degraded"]
    assert "restart to try it again" in player.failover.heard[-1]
    time.sleep(1)
    player.failover.check()
    assert not player.failover.guarded
    assert not own_children()


def test_patience_grows_and_is_bounded():
    place, backoff = AcceleratorState(Choice("a", "b", "c")), BackoffPolicy()
    said = [place.fail("it broke", backoff, flap=False) for _ in range(9)]
    assert said == [f"next retry in {s} s" for s in (5, 10, 20, 40, 80, 160, 300, 300, 300)]
    place.serve()
    assert place.fail("again", backoff, flap=False) == "next retry in 300 s"
    place.serve()
    place.since_s -= 601  # it has served for long: forgotten
    assert place.fail("after long", backoff, flap=False) == "next retry in 5 s"
    for _ in range(2):
        assert "next retry" in place.fail("it flaps", backoff, flap=True)
    assert "not retried after 3 failures" in place.fail("it flaps", backoff, flap=True)


def test_old_flaps_are_forgotten():
    place, backoff = AcceleratorState(Choice("a", "b", "c")), BackoffPolicy()
    for _ in range(10):
        assert "next retry" in place.fail("now and then", backoff, flap=True)
        place.flaps = type(place.flaps)(when - 400 for when in place.flaps)


# --- the start ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "says"), [("wrong", "is off by"), ("nan", "not numbers"), ("abort", "SIGABRT")]
)
def test_an_accelerator_that_is_broken_at_start_is_not_used(opened, broken, sit, kind, says):
    broken(kind).touch()
    one = sit(opened)
    assert one.choice == Choice(NAME, "null", "cpu")
    assert (one.guarded, one.degraded) == (False, True)
    assert says in one.status()["reason"]
    assert says in one.status()["places"][0]["reason"]
    assert says in one.heard[-1]
    one.step({"frame": noise(opened.contract, 1)[0]}, zero_state(opened.contract))
    assert one.check(idle=True) is None


def test_a_live_service_does_not_wait_for_the_accelerator(opened, monkeypatch, sit):
    monkeypatch.setenv("EDGEVID_NULL", json.dumps({"on": "null", "latency_ms": 30}))
    player = Player(sit(opened, wait=False), opened.contract)
    assert player.failover.choice.accelerator == "cpu"
    assert player.failover.degraded
    assert player.failover.status()["places"][0]["state"] in ("standby", "proving")
    until(player, lambda: player.failover.guarded)
    assert player.failover.choice == Choice(NAME, "null", "null")


def test_without_accelerators_it_is_the_proven_engine_and_nothing_else(own_children, opened):
    wanted = choices(opened, targets.load("local"))
    threads = threading.active_count()
    one = EngineFailover(opened, wanted, report=print)
    assert (one.choice, one.guarded, one.degraded) == (wanted[0], False, False)
    one.step({"frame": noise(opened.contract, 1)[0]}, zero_state(opened.contract))
    assert one.check() is None
    assert not own_children()
    assert threading.active_count() == threads
    with pytest.raises(EngineFailed, match="it broke"):
        one.lost(EngineFailed("it broke"))
    one.close()


def test_a_cpu_engine_that_fails_is_replaced_by_the_next(real_bundle, sit):
    bundle = Bundle.open(real_bundle)
    wanted = choices(bundle, targets.load("local"), accelerator="cpu")
    one = sit(bundle, wanted=wanted)
    assert one.choice == wanted[0]
    one.lost(EngineFailed("it broke"))
    assert one.choice == wanted[1]
    assert "it broke" in one.heard[-1]


def test_where_nothing_serves_the_reason_is_raised(own_children, opened, monkeypatch):
    fault = {"faults": [{"kind": "wrong", "at": 0}]}
    monkeypatch.setenv("EDGEVID_NULL", json.dumps(fault))  # on the CPU too
    with pytest.raises(CheckFailed, match="did not pass its proof"):
        EngineFailover(opened, [Choice(NAME, "null", "null")], report=print, backoff=LATER)
    assert not own_children()


def test_an_accelerator_alone_serves_where_the_cpu_cannot(opened, monkeypatch, sit):
    fault = {"on": "cpu", "faults": [{"kind": "wrong", "at": 0}]}
    monkeypatch.setenv("EDGEVID_NULL", json.dumps(fault))
    one = sit(opened, wait=False)  # and is waited for
    assert one.guarded
    with pytest.raises(EngineFailed, match="it broke"):
        one.lost(EngineFailed("it broke"))


def test_an_accelerator_that_is_not_there_is_refused_with_the_reason(opened, real_bundle):
    bundle = Bundle.open(real_bundle)
    with pytest.raises(BadInput, match=r"openvino-int8 in openvino on npu.*/dev/accel/accel0"):
        choices(bundle, targets.load("local"), accelerator="npu")
    with pytest.raises(BadInput, match="did you mean npu"):
        choices(bundle, targets.load("local"), accelerator="npi")


def test_the_stand_in_is_only_taken_where_it_is_asked_for(opened, real_bundle):
    bundle, local = Bundle.open(real_bundle), targets.load("local")
    for found in (choices(bundle, local), choices(opened, local)):
        assert not [choice for choice in found if choice.accelerator == "null"]
    asked = choices(bundle, local, runtime="null", accelerator="null", artifact="tflite-int8")
    assert asked == [Choice("tflite-int8", "null", "null")]


def test_the_better_place_is_taken_when_it_is_proven(own_children, opened, monkeypatch, sit):
    """Two accelerators: the second serves while the first is broken, then hands over."""
    first, second = Choice(NAME, "null", "null"), Choice(NAME, "null", "other")

    class Renamed(worker.WorkerEngine):
        def __init__(self, bundle, artifact, runtime, accelerator, **options) -> None:
            super().__init__(bundle, artifact, runtime, "null", **options)

    monkeypatch.setattr(worker, "WorkerEngine", Renamed)
    monkeypatch.setattr(runtimes.Runtime, "why_not", lambda _, name: broken.get(name))
    broken = {"null": "it is unplugged"}
    player = Player(sit(opened, wanted=[first, second], backoff=SOON), opened.contract)
    assert player.failover.choice == second
    assert not player.failover.degraded
    until(player, lambda: len(player.answers) > 10)
    broken.clear()
    until(player, lambda: player.failover.choice == first)
    assert [place["state"] for place in player.failover.status()["places"]] == [
        "serving",
        "standby",
        "standby",
    ]
    wait_for(lambda: len(own_children()) == 1)


# --- canaries -------------------------------------------------------------------------------------


def test_a_canary_is_due_after_steps_after_a_time_and_when_idle(opened, sit, monkeypatch):
    monkeypatch.setattr(failover, "CHECK_S", 3600.0)
    one = sit(opened)
    frame, state = noise(opened.contract, 1)[0], zero_state(opened.contract)
    assert one.check(idle=True) is None  # nothing to confirm
    for _ in range(failover.CHECK_STEPS):
        assert one.check() is None
        one.step({"frame": frame}, state)
    assert one.check() is True
    one.step({"frame": frame}, state)
    assert one.check() is None
    assert one.check(idle=True) is True
    monkeypatch.setattr(failover, "CHECK_S", 0.0)
    one.step({"frame": frame}, state)
    assert one.check() is True


def test_a_worker_that_dies_of_its_canary_unconfirms_what_it_stepped(opened, broken, sit):
    trigger = broken("vanish")
    one = sit(opened)
    one.step({"frame": noise(opened.contract, 1)[0]}, zero_state(opened.contract))
    trigger.touch()
    assert one.check(idle=True) is False
    assert not one.guarded


def test_what_is_no_number_is_never_given(opened, broken, sit):
    trigger = broken("nan")
    one = sit(opened)
    trigger.touch()
    with pytest.raises(EngineFailed, match="values that are not numbers"):
        one.step({"frame": noise(opened.contract, 1)[0]}, zero_state(opened.contract))


def test_canaries_are_decided_and_far_apart():
    answers = np.float32([[0.3, 0.3, 0.4], [1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [1, 0, 0]])
    recorded = [{"scores": answers[:, None]}, {"scores": np.float32([[[0, 0, 1]]])}]
    picked = distinct(recorded, ["scores"], 3)
    assert picked[0] == (0, 1)
    assert set(picked) == {(0, 1), (0, 3), (1, 0)}
    assert len(distinct([{"scores": answers[[1, 4], None]}], ["scores"])) == 1


class Altered:
    """An engine that goes wrong by a little once it was trusted."""

    def __init__(self, inner, precision="float32") -> None:
        self.inner, self.precision, self.alter = inner, precision, lambda *given: given

    def step(self, inputs, state):
        return self.alter(*self.inner.step(inputs, state))


def test_canaries_find_a_small_lie_in_answer_and_memory(opened):
    inner = runtimes.get("null").load(opened.files(NAME), opened.contract)
    engine = Altered(inner)
    canaries = Canaries(engine, opened, NAME)
    assert [canaries.check(engine) for _ in range(8)] == [None] * 8
    engine.alter = lambda answer, after: ({"scores": answer["scores"] + np.float32(0.01)}, after)
    assert "scores is off by 0.01" in canaries.check(engine)
    engine.alter = lambda answer, after: (answer, {"level": after["level"] + np.float32(0.01)})
    assert "next_level is off by 0.01" in canaries.check(engine)
    with pytest.raises(CheckFailed, match="next_level of golden step"):
        Canaries(engine, opened, NAME)


# --- what is left behind --------------------------------------------------------------------------


def test_closing_leaves_nothing_behind(opened, sit, monkeypatch):
    sit(opened).close()
    before = (descriptors(), children(), shared_memory(), threading.active_count())
    for wait in (True, False):
        sit(opened, wait=wait).close()
    monkeypatch.setenv(
        "EDGEVID_NULL", json.dumps({"on": "null", "faults": [{"kind": "freeze", "at": -1}]})
    )
    proving = sit(opened, wait=False)
    wait_for(children)
    began = time.monotonic()
    proving.close()
    assert time.monotonic() - began < PROOF_TIMEOUT_S / 2, "waited for the proof's time limit"
    assert (descriptors(), children(), shared_memory(), threading.active_count()) == before


@pytest.mark.soak
def test_two_hundred_faults_leave_nothing_behind(opened, monkeypatch, sit, tmp_path):
    """Random faults in a row, in service and in the proof, each followed by a repair."""
    chance = random.Random(0)
    triggers = {kind: tmp_path / kind for kind in FAULTS}
    faults = [{"kind": kind, "when": str(file)} for kind, file in triggers.items()]
    monkeypatch.setenv("EDGEVID_NULL", json.dumps({"on": "null", "faults": faults}))
    monkeypatch.setattr(supervisor, "CheckFailed", ())  # nothing is given up by its proofs
    patient = BackoffPolicy(first_s=0.05, longest_s=0.05, flaps=1 << 30, proof_s=2)
    player = Player(sit(opened, backoff=patient), opened.contract)

    def once():
        kind = chance.choice(FAULTS)
        until(player, lambda: player.failover.guarded, 60)
        if chance.random() < 0.2:
            os.killpg(player.failover.engine.pid, signal.SIGKILL)
        else:
            triggers[kind].touch()
        until(player, lambda: not player.failover.guarded, 60)
        if chance.random() < 0.3:  # and the next proof meets it as well
            time.sleep(0.3)
        triggers[kind].unlink(missing_ok=True)
        until(player, lambda: player.failover.guarded, 60)
        player.answers.clear()

    for _ in range(20):
        once()
    before = (descriptors(), len(children()), shared_memory(), threading.active_count())
    memory = resident_mb()
    for _ in range(200):
        once()
    after = (descriptors(), len(children()), shared_memory(), threading.active_count())
    assert after == before
    assert resident_mb() - memory < 2
    (left,) = children()
    player.failover.close()
    assert not alive(left)
