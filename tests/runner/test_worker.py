"""An engine in a process of its own: whatever becomes of it, the parent goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.errors import CheckFailed, EngineFailed
from edgevid.proof import Golden
from edgevid.runner import worker
from edgevid.runner.worker import WorkerEngine, deadline_s
from edgevid.runtimes import zero_state
from rigs.player import noise
from rigs.processes import alive, children, descriptors, shared_memory, wait_for

NAME = "null-float32"
GOLDEN_STEPS = 12  # six frames, with the recorded and with the carried memory


def fault(monkeypatch, **what) -> None:
    monkeypatch.setenv("EDGEVID_NULL", json.dumps({"on": "null", "faults": [what]}))


@pytest.fixture
def opened(null_bundle) -> Bundle:
    return Bundle.open(null_bundle)


@pytest.fixture
def start(opened):
    """Give a function that starts a worker and proves it; each is closed at the end."""
    started = []

    def begin(bundle=opened, ready_s=30.0):
        engine = WorkerEngine(bundle, NAME, "null", "null")
        started.append(engine)
        engine.prove(ready_s)
        return engine

    yield begin
    for engine in started:
        engine.close()


def step(engine, bundle, frame=None):
    frame = noise(bundle.contract, 1)[0] if frame is None else frame
    return engine.step({"frame": frame}, zero_state(bundle.contract))


def test_it_answers_as_the_engine_does_here(opened, start):
    here, there = runtimes.get("null").load(opened.files(NAME), opened.contract), start()
    assert (there.runtime, there.accelerator, there.precision) == ("null", "null", "float32")
    state, other = zero_state(opened.contract), zero_state(opened.contract)
    for frame in noise(opened.contract, 20):
        (answer, state), (same, other) = (
            here.step({"frame": frame}, state),
            there.step({"frame": frame}, other),
        )
        assert (answer["scores"] == same["scores"]).all()
        assert (state["level"] == other["level"]).all()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("hang", "did not respond within 1 s"),
        ("freeze", "did not respond within 1 s"),
        ("abort", "crashed with SIGABRT"),
        ("vanish", "crashed with SIGKILL"),
        ("error", "failed on schedule"),
    ],
)
def test_a_failed_step_is_told_in_time_and_in_words(opened, start, monkeypatch, kind, says):
    fault(monkeypatch, kind=kind, at=GOLDEN_STEPS + 3)
    engine = start()
    for _ in range(3):
        step(engine, opened)
    with pytest.raises(EngineFailed, match=f"null-float32 in null on null.*{says}") as told:
        step(engine, opened)
    assert "\n" not in str(told.value)
    if kind == "error":
        step(engine, opened)  # it raised on purpose, and lives
        return
    wait_for(lambda: not alive(engine.pid))
    with pytest.raises(EngineFailed, match="serves no longer"):
        step(engine, opened)


@pytest.mark.parametrize(
    ("kind", "at", "error", "says"),
    [
        ("wrong", 2, CheckFailed, r"scores of trajectory 0 \(recorded state\) is off by"),
        ("nan", 2, CheckFailed, "not numbers"),
        ("error", -1, EngineFailed, "failed on schedule"),
        ("abort", -1, EngineFailed, "crashed with SIGABRT"),
        ("hang", 2, EngineFailed, "did not respond within 1.5 s"),
        ("freeze", -1, EngineFailed, "did not respond within 1.5 s"),
    ],
)
def test_what_fails_its_proof_never_serves(start, monkeypatch, kind, at, error, says):
    fault(monkeypatch, kind=kind, at=at)
    with pytest.raises(error, match=says):
        start(ready_s=1.5 if kind in ("hang", "freeze") else 30)


def test_a_bundle_that_was_replaced_is_refused(opened, make_null_bundle, start):
    make_null_bundle("other.edgevid", latency_ms=1).replace(opened.path)
    with pytest.raises(EngineFailed, match="another bundle now"):
        start()


def test_an_artifact_that_is_not_there_to_load_is_told(opened, start):
    opened.path.unlink()
    with pytest.raises(EngineFailed, match="does not exist"):
        start()


def test_a_babbling_library_does_not_block_the_engine(opened, start, monkeypatch, tmp_path):
    (tmp_path / "noisy.py").write_text(
        "import os, sys, edgevid.runner.worker as w\n"
        "from edgevid.runtimes.null.cpu import NullEngine\n"
        "inner = NullEngine.step\n"
        "def step(*a):\n"
        "    for fd in (1, 2):\n"
        "        try: os.write(fd, b'babble ' * 1000 + b'\\n')\n"
        "        except BlockingIOError: pass\n"
        "    return inner(*a)\n"
        "NullEngine.step = step\n"
        "w.main(int(sys.argv[1]))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(worker, "MODULE", "noisy")
    engine = start()
    for _ in range(300):
        step(engine, opened)
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineFailed, match=r"SIGKILL \(babble") as told:
        step(engine, opened)
    assert len(str(told.value)) < 500


def test_only_the_parent_decides_what_ends(opened, start):
    engine = start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(engine.pid, number)
    step(engine, opened)


INTERRUPTED = """
import signal, sys
from pathlib import Path
from edgevid.bundle import Bundle
from edgevid.errors import EngineFailed
from edgevid.runner.worker import WorkerEngine
from edgevid.runtimes import zero_state
from rigs.player import noise

bundle = Bundle.open(Path(sys.argv[1]))
engine = WorkerEngine(bundle, "null-float32", "null", "null")
engine.prove(30)
frame, state = noise(bundle.contract, 1)[0], zero_state(bundle.contract)
engine.step({"frame": frame}, state)

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.02)
try:
    engine.step({"frame": frame}, state)
except KeyboardInterrupt:
    print("interrupted")
try:
    engine.step({"frame": frame}, state)
except EngineFailed as error:
    print(error)
engine.close()
"""


def test_an_interrupted_step_never_answers_for_the_next(null_bundle):
    """In a process of its own: an interrupt belongs to the whole process."""
    late = json.dumps({"on": "null", "latency_ms": 200})
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, null_bundle],
        env={**os.environ, "EDGEVID_NULL": late, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    interrupted, refused = done.stdout.splitlines()
    assert interrupted == "interrupted", done.stderr
    assert "serves no longer" in refused


def test_another_shape_is_an_error_and_nothing_else(opened, start):
    engine = start()
    with pytest.raises(EngineFailed, match="null-float32 in null on null"):
        engine.step({"frame": noise(opened.contract, 1)[0][:, :3]}, zero_state(opened.contract))
    step(engine, opened)


def test_nothing_is_left_behind(opened, start, monkeypatch):
    start().close()
    before = (descriptors(), children(), shared_memory())
    for kind in ("abort", "hang", "vanish"):
        fault(monkeypatch, kind=kind, at=GOLDEN_STEPS)
        engine = start()
        with pytest.raises(EngineFailed):
            step(engine, opened)
        engine.close()
        engine.close()
    with pytest.raises(EngineFailed, match="cannot be started"), pytest.MonkeyPatch.context() as p:
        p.setattr("edgevid.isolation.worker.python_module", lambda *_: ["/no/such/python"])
        start()
    assert (descriptors(), children(), shared_memory()) == before


def test_a_worker_that_cannot_even_begin_is_described(start, monkeypatch):
    monkeypatch.setattr(worker, "MODULE", "edgevid.no_such_module")
    with pytest.raises(EngineFailed, match=r"exit code 1 \(.*No module named"):
        start()


PARENT = """
import sys, time
from pathlib import Path
from edgevid.bundle import Bundle
from edgevid.runner.worker import WorkerEngine
from edgevid.runtimes import zero_state
from edgevid.proof import Golden
bundle = Bundle.open(Path(sys.argv[1]))
engine = WorkerEngine(bundle, "null-float32", "null", "null")
print(engine.pid, flush=True)
if sys.argv[2] == "proving":
    engine.prove(60)
engine.prove(60)
engine.process.set_deadline(60)
print("ready", flush=True)
while True:
    engine.step(Golden.read(bundle).trajectories[0].inputs_at(0), zero_state(bundle.contract))
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("doing", "what"),
    [
        ("stepping", {}),
        ("hanging", {"kind": "hang", "at": GOLDEN_STEPS}),
        ("hanging in native code", {"kind": "freeze", "at": GOLDEN_STEPS}),
        ("proving", {"kind": "freeze", "at": 2}),
    ],
)
def test_no_worker_outlives_a_killed_parent(opened, monkeypatch, doing, what):
    if what:
        fault(monkeypatch, **what)
    before = shared_memory()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, opened.path, doing], stdout=subprocess.PIPE, text=True
    )
    try:
        pid = int(parent.stdout.readline())
        if doing != "proving":
            assert parent.stdout.readline() == "ready\n"
        time.sleep(0.5)  # until it hangs
        assert alive(pid)
        parent.kill()
        parent.wait()
        wait_for(lambda: not alive(pid), 5)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert shared_memory() == before


def test_a_child_whose_parent_died_before_it_looked_ends_itself():
    code = "from edgevid.isolation.process import die_with_parent as d; d(1 << 30); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


def test_the_deadline_follows_the_slowest_step():
    assert deadline_s(0.001) == 1.0
    assert deadline_s(0.12) == 1.2
    assert deadline_s(0.4) == 1.5
    assert deadline_s(2.0) == 6.0


def test_the_child_is_light():
    code = (
        "import sys, edgevid.runner.worker; print([m for m in ('numpy', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_it_is_proven_against_the_artifacts_own_answers(real_bundle, monkeypatch):
    """A real artifact, in the stand-in's process: its own tolerance counts."""
    bundle = Bundle.open(real_bundle)
    engine = WorkerEngine(bundle, "tflite-int8", "null", "null")
    try:
        engine.prove()
        assert engine.precision == "int8"
        one = Golden.read(bundle, "tflite-int8").trajectories[0]
        answer, _ = engine.step(one.inputs_at(0), zero_state(bundle.contract))
        assert answer["scores"].shape == (1, 3)
    finally:
        engine.close()
    assert not Path(f"/proc/{engine.pid}").exists()
