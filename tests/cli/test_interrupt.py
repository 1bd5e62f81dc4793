"""An interrupt at any moment leaves the old result or the new one, and nothing else."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgevid.bundle import Bundle


def start(*words, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "edgevid", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_the_old_answers(
    make_null_bundle, video, tmp_path, signal_number
):
    bundle = make_null_bundle(latency_ms=50)
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "answers.jsonl"
    out.write_text("old\n")
    child = start("run", bundle, video, "--output", out, "--json")
    deadline = time.monotonic() + 30
    while len(list(folder.iterdir())) < 2:  # the part is there: it is answering
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    child.send_signal(signal_number)
    _, said = child.communicate(timeout=20)
    assert child.returncode == 130
    assert said.strip().splitlines()[-1].startswith("edgevid: interrupted")
    assert out.read_text() == "old\n"
    assert list(folder.iterdir()) == [out]


def test_an_interrupt_of_the_proof_kills_its_child(make_null_bundle, video, tmp_path):
    bundle = make_null_bundle(faults=[{"at": 1, "kind": "hang"}])
    child = start("run", bundle, video, "--json")
    deadline = time.monotonic() + 30
    while not (children := _children(child.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)
    assert child.returncode == 130
    _wait_until_gone(children)


def test_an_interrupt_of_many_workers_ends_them_all_and_can_be_gone_on_from(tmp_path, edgevid):
    out = tmp_path / "data"
    words = ("dataset", "synth", "motion", "--out", out, "--train", 60, "--val", 1, "--test", 1)
    child = start(*words, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.mp4"))) < 40:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = _children(child.pid)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, said = child.communicate(timeout=20)
    assert child.returncode == 130
    assert "Traceback" not in said
    assert workers or len(os.sched_getaffinity(0)) == 1  # where one process makes them alone
    _wait_until_gone(workers)
    assert not out.exists()
    assert edgevid(*words).returncode == 0
    assert len(list(out.rglob("*.mp4"))) == 9 * 62


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a child outlived its parent"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.soak
def test_killed_at_any_moment_a_run_leaves_old_or_new(make_null_bundle, video, tmp_path):
    bundle = make_null_bundle(latency_ms=5)
    out = tmp_path / "out" / "answers.jsonl"
    out.parent.mkdir()
    rng = random.Random(0)
    whole = 0
    for turn in range(60):
        out.write_text("old\n")
        child = start("run", bundle, video, "--output", out, "--json")
        time.sleep(rng.uniform(0, 1.5))
        child.send_signal(rng.choice([signal.SIGINT, signal.SIGKILL, signal.SIGTERM]))
        child.communicate(timeout=20)
        lines = out.read_text().splitlines()
        assert lines == ["old"] or len(lines) == 40, f"turn {turn}: {len(lines)} lines"
        whole += len(lines) == 40
    print(f"{whole} of 60 had finished")


@pytest.mark.soak
def test_killed_at_any_moment_a_conversion_leaves_old_or_new(real_run, real_bundle, tmp_path):
    out = tmp_path / "out" / "model.edgevid"
    out.parent.mkdir()
    rng = random.Random(0)
    old = real_bundle.read_bytes()
    for _ in range(12):
        out.write_bytes(old)
        child = start("convert", real_run, "-o", out, "-f", "tflite", "--quantize", "int8")
        time.sleep(rng.uniform(0, 40))
        child.send_signal(rng.choice([signal.SIGINT, signal.SIGKILL, signal.SIGTERM]))
        child.communicate(timeout=60)
        Bundle.open(out).check()
