"""The proof: an engine that lies, drifts, hangs or dies is found out, once, and outlived."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevid import bundle as bundles
from edgevid import proof, runtimes
from edgevid.bundle import Artifact, Bundle
from edgevid.contract import FrameInput
from edgevid.errors import BadBundle, BadInput, CheckFailed, EngineFailed
from edgevid.files import cache_folder
from edgevid.isolation import child_task
from edgevid.isolation.child_task import ChildOutcome
from edgevid.proof import Golden, RecordedOutputs, prove_in_child, replay, verdict
from edgevid.proof.golden import read_recorded, write_recorded
from edgevid.proof.replay import check_pixels, compare, record_outputs

NAME = "null-float32"


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    """Each test starts without verdicts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEVID_NULL", raising=False)


@pytest.fixture
def opened(null_bundle) -> Bundle:
    return Bundle.open(null_bundle)


@pytest.fixture
def golden(opened) -> Golden:
    return Golden.read(opened, NAME)


@pytest.fixture
def engine(opened):
    return runtimes.get("null").load(opened.files(NAME), opened.contract)


def fault(monkeypatch, kind: str, at: int = 2) -> None:
    monkeypatch.setenv("EDGEVID_NULL", json.dumps({"faults": [{"at": at, "kind": kind}]}))


class Altered:
    """An engine whose answers and next states go through a function, step by step."""

    runtime, accelerator, precision = "null", "cpu", "float32"

    def __init__(self, inner, alter) -> None:
        self._inner, self._alter = inner, alter

    def step(self, inputs, state):
        return self._alter(*self._inner.step(inputs, state))


# --- replay ---------------------------------------------------------------------------------------


def test_the_same_engine_agrees_exactly(opened, golden, engine):
    check, taken = replay(engine, golden, opened.contract)
    assert check.ok
    assert (check.max_abs, check.agreement, check.reason) == (0.0, 1.0, None)
    assert check.precision == "float32"
    assert taken[0].recorded.keys() == {"scores", "next_level"}
    assert taken[0].carried.keys() == {"scores"}


def test_a_wrong_answer_is_named(opened, golden, engine):
    def wrong(answer, after):
        return {"scores": answer["scores"] + np.float32([[0, 0.01, 0]])}, after

    check, _ = replay(Altered(engine, wrong), golden, opened.contract)
    assert not check.ok
    assert check.max_abs == pytest.approx(0.01, rel=1e-3)
    assert "scores of trajectory 0 (recorded state) is off by 0.01" in check.reason


def test_a_wrong_memory_is_named_even_if_the_answers_are_right(opened, golden, engine):
    good = record_outputs(engine, golden.trajectories[0])
    memory = good.recorded["next_level"] + np.float32(0.001)
    bad = RecordedOutputs({**good.recorded, "next_level": memory}, good.carried)
    check = compare([good], [bad], opened.contract, "float32", 1e-4)
    assert "next_level of trajectory 0 (recorded state) is off by 0.001" in check.reason


def test_drift_that_every_single_step_hides_is_found_by_carrying():
    """A little is lost at each step, within tolerance; carried on, it adds up."""
    wanted = {"scores": np.linspace(0, 1, 10, dtype=np.float32)[:, None, None]}
    drift = np.linspace(0, 1e-3, 10, dtype=np.float32)[:, None, None]
    drifted = {"scores": wanted["scores"] + drift}
    check = compare(
        [RecordedOutputs(wanted, wanted)],
        [RecordedOutputs(wanted, drifted)],
        _plain(),
        "float32",
        tolerance=1e-4,
    )
    assert not check.ok
    assert "(carried state)" in check.reason


def _plain():
    from edgevid.contract import Contract, Output

    frame = FrameInput("frame", 8, 8)
    return Contract("classification", (frame,), (Output("scores", (1, 3)),), ("a", "b", "c"), 10.0)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["recorded", "carried"])
def test_what_is_no_number_fails_whatever_the_tolerance(poison, where):
    good = {"scores": np.full((4, 1, 3), 0.3, np.float32)}
    bad = {"scores": good["scores"].copy()}
    bad["scores"][2, 0, 1] = poison
    given = RecordedOutputs(bad, good) if where == "recorded" else RecordedOutputs(good, bad)
    check = compare(
        [RecordedOutputs(good, good)], [given], _plain(), "float32", tolerance=float("inf")
    )
    assert not check.ok
    assert np.isnan(check.max_abs)
    assert "not numbers" in check.reason


def test_another_shape_or_a_missing_tensor_fails():
    good = {"scores": np.zeros((4, 1, 3), np.float32)}
    for bad in ({}, {"scores": good["scores"][:, :, :2]}):
        check = compare(
            [RecordedOutputs(good, good)], [RecordedOutputs(bad, bad)], _plain(), "int8", 1.0
        )
        assert not check.ok


def test_a_confused_engine_of_an_unsure_model_is_found():
    """Its scores are all near each other, so no absolute tolerance tells them apart."""
    rng = np.random.default_rng(0)
    good = {"scores": (1 / 3 + rng.normal(0, 0.02, (12, 1, 3))).astype(np.float32)}
    for confused in (np.roll(good["scores"], 1, axis=-1), np.full_like(good["scores"], 1 / 3)):
        given = [RecordedOutputs({"scores": confused}, {"scores": confused})]
        check = compare([RecordedOutputs(good, good)], given, _plain(), "int8", 0.25)
        assert not check.ok
        assert "little to do with" in check.reason
    noisy = {"scores": good["scores"] + rng.normal(0, 0.005, (12, 1, 3)).astype(np.float32)}
    assert compare(
        [RecordedOutputs(good, good)], [RecordedOutputs(noisy, noisy)], _plain(), "int8", 0.25
    ).ok


def test_agreement_leaves_warming_up_out():
    good = np.zeros((6, 1, 3), np.float32)
    good[:, 0, 1] = 1
    other = good.copy()
    other[:3] = np.roll(good[:3], 1, axis=-1)
    taken = [RecordedOutputs({}, {"scores": good})], [RecordedOutputs({}, {"scores": other})]
    window = replace(_plain(), temporal="window", frames=4)
    assert compare(*taken, window, "float32", 9.0).agreement == 1.0
    assert compare(*taken, _plain(), "float32", 9.0).agreement == 0.5


def test_a_precision_that_is_not_listed_gets_the_strictest_tolerance(opened, golden, engine):
    unlisted = Altered(engine, lambda answer, after: (answer, after))
    unlisted.precision = "fp4"
    check, _ = replay(unlisted, golden, opened.contract, tolerances={"int8": 0.2, "bf16": 0.01})
    assert check.tolerance == 0.01


# --- what is stored -------------------------------------------------------------------------------


def test_the_golden_trajectory_survives_the_bundle(opened, golden, engine, tmp_path):
    references = {NAME: (record_outputs(engine, golden.trajectories[0]),)}
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    stored = replace(golden, references=references, clip=b"clip", pixels=pixels)
    members = stored.to_members()
    assert members == stored.to_members()
    path = tmp_path / "again.edgevid"
    bundles.write(path, opened.contract, [(opened.artifacts[0], {"json": b"{}"})], members, {})
    again = Golden.read(Bundle.open(path), NAME)
    assert again.to_members() == members
    assert again.references.keys() == {NAME}
    assert not Golden.read(Bundle.open(path)).references


def test_what_was_taken_survives_its_file(opened, golden, engine, tmp_path):
    taken = (record_outputs(engine, golden.trajectories[0]),) * 2
    write_recorded(tmp_path / "taken.npz", taken)
    again = read_recorded(tmp_path / "taken.npz")
    assert len(again) == 2
    for one in again:
        assert one.arrays().keys() == taken[0].arrays().keys()
        for name, values in one.arrays().items():
            np.testing.assert_array_equal(values, taken[0].arrays()[name])


CLIP = """
import sys
from edgevid.contract import FrameInput
from edgevid_converters.calibration.golden_clip import golden_clip
sys.stdout.buffer.write(golden_clip(FrameInput("frame", 24, 32, "letterbox"), 10.0)[0])
"""


def _clip_elsewhere(environment: dict[str, str]) -> bytes:
    """The golden clip of a process whose memory holds something else at first."""
    command = [sys.executable, "-c", CLIP]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE)
    return done.stdout


def test_decoding_and_geometry_are_proven():
    from edgevid_converters.calibration.golden_clip import golden_clip

    frame = FrameInput("frame", 24, 32, "letterbox")
    clip, pixels = golden_clip(frame, 10.0)
    contract = replace(_plain(), inputs=(frame,))
    assert _clip_elsewhere({"MALLOC_PERTURB_": "37"}) == clip
    assert _clip_elsewhere({"MALLOC_PERTURB_": "99"}) == clip
    golden = Golden((), clip=clip, pixels=pixels)
    assert check_pixels(golden, contract) is None
    assert check_pixels(Golden(()), contract) is None
    assert "off by" in check_pixels(golden, replace(contract, inputs=(replace(frame, fit="crop"),)))
    assert "frames, not" in check_pixels(replace(golden, pixels=pixels[:-1]), contract)
    assert "cannot be decoded" in check_pixels(replace(golden, clip=clip[:200]), contract)
    swapped = replace(golden, pixels=pixels[..., ::-1])  # BGR
    assert "off by" in check_pixels(swapped, contract)


# --- in a child process ---------------------------------------------------------------------------


def test_a_good_engine_passes(opened):
    result = prove_in_child(opened, NAME, "null")
    assert result.ok
    assert result.to_json() == {
        "artifact": NAME,
        "runtime": "null",
        "accelerator": "cpu",
        "ok": True,
        "precision": "float32",
        "max_abs": 0.0,
        "tolerance": 1e-4,
        "agreement": 1.0,
    }


@pytest.mark.parametrize(
    ("kind", "at", "said"),
    [
        ("abort", 2, "crashed with SIGABRT"),
        ("abort", -1, "crashed with SIGABRT"),
        ("error", 2, "failed on schedule"),
        ("error", -1, "failed on schedule"),
        ("nan", 2, "not numbers"),
        ("wrong", 2, "is off by"),
        ("hang", 2, "gave no answer in 1.5 s"),
        ("hang", -1, "gave no answer in 1.5 s"),
    ],
)
def test_a_bad_engine_is_outlived_and_described(opened, monkeypatch, kind, at, said):
    fault(monkeypatch, kind, at)
    started = time.monotonic()
    result = prove_in_child(opened, NAME, "null", timeout_s=1.5 if kind == "hang" else 60)
    assert not result.ok
    assert said in result.reason
    assert "\n" not in result.reason
    if kind == "hang":  # another time it may not be
        assert time.monotonic() - started < 10
        assert not list(cache_folder().rglob("*.json"))
        return
    with pytest.raises(CheckFailed, match=r"did not pass its proof.*edgevid verify"):
        proof.require(opened, NAME, "null")  # remembered: nothing hangs again


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (ChildOutcome(0, b"babble", b""), "without a readable answer"),
        (ChildOutcome(0, b"[1, 2]", b""), "without a readable answer"),
        (ChildOutcome(0, b'{"ok": true}', b""), "without a readable answer"),
        (ChildOutcome(0, b"", b"some\nlast words\n\n"), r"\(last words\)"),
        (ChildOutcome(3, b"", b"\xff"), "exit code 3"),
        (ChildOutcome(-11, b"", b""), "crashed with SIGSEGV"),
        (ChildOutcome(-99, b"", b""), "crashed with signal 99"),
    ],
)
def test_whatever_a_child_leaves_becomes_a_verdict(opened, monkeypatch, outcome, said):
    monkeypatch.setattr(verdict, "run_child", lambda *a: outcome)
    result = prove_in_child(opened, NAME, "null")
    assert not result.ok
    assert re.search(said, result.reason)


def test_what_a_library_prints_does_not_spoil_the_answer(opened, tmp_path, monkeypatch):
    (tmp_path / "noisy.py").write_text(
        "import os, edgevid.proof.__main__ as main\n"
        "inner = main.replay_artifact\n"
        "def noisy(*a):\n    os.write(1, b'noise'); print('more'); return inner(*a)\n"
        "main.replay_artifact = noisy\nmain._main()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    inner = child_task.run_child
    monkeypatch.setattr(verdict, "run_child", lambda module, *a: inner("noisy", *a))
    assert prove_in_child(opened, NAME, "null").ok


def test_a_damaged_member_is_bad_input_and_not_a_verdict(opened):
    content = opened.path.read_bytes()
    frames = opened.member("golden/0/input_frame.npy")
    where = content.index(frames) + len(frames) - 1
    damaged = bytearray(content)
    damaged[where] ^= 1
    opened.path.write_bytes(damaged)
    with pytest.raises(BadBundle, match=r"golden/0/input_frame\.npy is damaged"):
        prove_in_child(opened, NAME, "null")


def test_unknown_names_are_bad_input(opened):
    with pytest.raises(BadInput, match="did you mean null-float32"):
        prove_in_child(opened, "null-float33", "null")
    with pytest.raises(BadInput, match="did you mean tflite"):
        prove_in_child(opened, NAME, "tflit")
    with pytest.raises(BadInput, match="no accelerator"):
        prove_in_child(opened, NAME, "null", "edgetpu")


PARENT = """
import sys
from pathlib import Path
from edgevid.proof import prove_in_child
prove_in_child(Path(sys.argv[1]), "null-float32", "null")
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_child_outlives_its_parent(opened, monkeypatch, how):
    fault(monkeypatch, "hang")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(opened.path)], stderr=subprocess.DEVNULL
    )
    try:
        process = wait_for(lambda: children_of(parent.pid))
        wait_for(lambda: b"edgevid.proof" in Path(f"/proc/{process[0]}/cmdline").read_bytes())
        time.sleep(0.5)  # until it hangs in its engine
        parent.send_signal(how)
        parent.wait(10)
        wait_for(lambda: not alive(process[0]))
    finally:
        parent.kill()
        parent.wait()
    assert not list(cache_folder().rglob("*.json"))


def wait_for(condition, timeout_s: float = 10.0):
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in listed.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_child_is_light():
    code = (
        "import sys, edgevid.proof.__main__, edgevid.runtimes.null.cpu; "
        "print([m for m in ('av', 'cv2', 'keras', 'numpy', 'openvino', 'tensorflow')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# --- remembered verdicts --------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The proofs that really ran."""
    ran: list[str] = []
    inner = child_task.run_child

    def counting(module, task, timeout_s):
        ran.append(task["artifact"])
        return inner(module, task, timeout_s)

    monkeypatch.setattr(verdict, "run_child", counting)
    return ran


def test_a_verdict_is_remembered_good_or_bad(opened, counted, monkeypatch):
    assert prove_in_child(opened, NAME, "null") == prove_in_child(opened, NAME, "null")
    assert len(counted) == 1
    fault(monkeypatch, "error")
    assert not prove_in_child(opened, NAME, "null").ok
    assert not prove_in_child(opened, NAME, "null").ok
    assert len(counted) == 2
    assert not prove_in_child(opened, NAME, "null", refresh=True).ok
    assert len(counted) == 3


def test_recalling_reads_only_the_manifest(opened, monkeypatch):
    assert prove_in_child(opened, NAME, "null").ok

    def forbidden(*a):
        raise AssertionError

    monkeypatch.setattr(Bundle, "member", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    assert prove_in_child(opened.path, NAME, "null").ok


def test_another_bundle_version_or_machine_is_proven_again(
    make_null_bundle, opened, counted, monkeypatch
):
    prove_in_child(opened, NAME, "null")
    prove_in_child(make_null_bundle("other.edgevid", latency_ms=1), NAME, "null")
    assert len(counted) == 2
    with monkeypatch.context() as patch:
        patch.setattr(runtimes.Runtime, "version", lambda self: "null 99")
        prove_in_child(opened, NAME, "null")
        assert len(counted) == 3
    with monkeypatch.context() as patch:
        patch.setattr(verdict, "_processor_key", lambda: "another")
        prove_in_child(opened, NAME, "null")
        assert len(counted) == 4
    prove_in_child(opened, NAME, "null")
    assert len(counted) == 4


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"verdict": {"ok": true}}', b"\xff"])
def test_a_spoilt_memory_is_no_verdict(opened, counted, content):
    prove_in_child(opened, NAME, "null")
    (kept,) = (cache_folder() / "verdicts").iterdir()
    kept.write_bytes(content)
    assert prove_in_child(opened, NAME, "null").ok
    assert len(counted) == 2


def test_a_verdict_of_something_else_does_not_count(opened, counted):
    prove_in_child(opened, NAME, "null")
    (kept,) = (cache_folder() / "verdicts").iterdir()
    data = json.loads(kept.read_text())
    data["identity"]["bundle"] = "another"
    kept.write_text(json.dumps(data))
    prove_in_child(opened, NAME, "null")
    assert len(counted) == 2


def test_a_home_that_cannot_be_written_costs_a_proof_and_nothing_else(
    opened, counted, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert prove_in_child(opened, NAME, "null").ok
    assert prove_in_child(opened, NAME, "null").ok
    assert len(counted) == 2


# --- a whole bundle -------------------------------------------------------------------------------


def test_verify_proves_every_artifact_anew(opened, counted):
    for _ in range(2):
        told = proof.verify(opened.path, runtime="null")
        assert told["ok"]
        assert [check["artifact"] for check in told["checks"]] == [NAME]
        assert told["skipped"] == []
    assert len(counted) == 2


def test_verify_says_no_and_why(opened, monkeypatch):
    fault(monkeypatch, "nan")
    told = proof.verify(opened.path, runtime="null")
    assert not told["ok"]
    (check,) = told["checks"]
    assert check["max_abs"] is None
    assert "not numbers" in check["reason"]
    json.dumps(told, allow_nan=False)


def test_verify_checks_every_byte(opened):
    content = bytearray(opened.path.read_bytes())
    content[10] ^= 1  # in the first local header
    opened.path.write_bytes(content)
    with pytest.raises(BadBundle, match="headers"):
        proof.verify(opened.path, runtime="null")


def test_verify_of_nothing_is_bad_input(opened):
    with pytest.raises(BadInput, match="nothing here executes null-float32"):
        proof.verify(opened.path)
    with pytest.raises(BadInput, match="nothing here executes"):
        proof.verify(opened.path, runtime="tflite")


def test_own_answers_are_compared_by_the_bundles_own_tolerance(opened, golden, engine, tmp_path):
    """A reference that is off by more than the artifact's own tolerance is refused."""
    taken = record_outputs(engine, golden.trajectories[0])
    moved = {name: values + np.float32(0.01) for name, values in taken.recorded.items()}
    stored = replace(golden, references={NAME: (RecordedOutputs(moved, taken.carried),)})
    for tolerance, ok in ((0.02, True), (0.005, False)):
        artifact = Artifact(NAME, "null", "float32", tolerance={"float32": tolerance})
        path = tmp_path / f"{tolerance}.edgevid"
        files = opened.files(NAME)
        bundles.write(path, opened.contract, [(artifact, files)], stored.to_members(), {})
        result = prove_in_child(path, NAME, "null")
        assert (result.ok, result.tolerance) == (ok, tolerance)


def test_an_engine_that_raises_mid_replay_is_not_hidden(opened, golden, engine):
    def failing(answer, after):
        raise EngineFailed("broken")

    with pytest.raises(EngineFailed):
        replay(Altered(engine, failing), golden, opened.contract)


def test_the_cache_is_the_users(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/.cache/edgevid")
    assert os.environ["XDG_CACHE_HOME"] == ""
