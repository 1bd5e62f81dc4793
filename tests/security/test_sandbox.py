"""What a child process that loads an untrusted model or bundle cannot do.

Every attempt is made by a real child, once in its sandbox and once without it: what the first is
denied, the second can do, so a test fails if its defence is removed.
"""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import edgevid
import edgevid_converters
from edgevid import bundle, registry
from edgevid.bench.job import Job
from edgevid.bench.measurement import engine_sandbox
from edgevid.bundle import Artifact
from edgevid.contract import Contract, Output, VectorInput
from edgevid.doctor import environment
from edgevid.errors import BadInput
from edgevid.isolation import seccomp
from edgevid.isolation.child_task import ChildOutcome, run_child
from edgevid.isolation.sandbox import LIMITS_ONLY, Sandbox, SandboxSupport, supported
from edgevid.proof import Golden, Trajectory, sandboxes
from edgevid.proof.verdict import prove_in_child
from edgevid_converters import child_process
from edgevid_converters.importers.contract_draft import write_draft
from rigs import confined_attempts
from rigs.command import call_edgevid
from rigs.plugin_package import write_package
from rigs.processes import write_in_child

pytestmark = pytest.mark.skipif(
    supported().landlock < 6 or not supported().seccomp,
    reason="this kernel has no Landlock of ABI 6, or no seccomp",
)
MODULE = "rigs.confined_attempts"
SECRET = "only the operator may read this"
NAMES = list(confined_attempts.attempts("/", "/", "/", "", 0))
OF_ROOT = ("raise its limits", "bpf")
"""What may be denied without a sandbox too, to users and in containers."""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home with a secret in it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text(SECRET)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.syspath_prepend(str(Path(confined_attempts.__file__).parents[1]))
    return home


@pytest.fixture
def child(home, tmp_path):
    """Return a function that runs one attempt in a child."""
    out = tmp_path / "out"
    out.mkdir()

    def run(do: str, sandbox: Sandbox | None = None, **task: object):
        sandbox = sandbox or Sandbox(write=(str(out),), memory_mb=500)
        whole = {"do": do, "timeout_s": 60, "out": str(out), **task}
        return run_child(MODULE, whole, 60, sandbox)

    return run


@pytest.fixture
def tried(child, home, tmp_path):
    """Return a function that makes all attempts in a sandbox; it returns outcomes by name."""

    def attempt(sandbox: Sandbox) -> dict[str, str]:
        (tmp_path / "outside").mkdir(exist_ok=True)
        (home / "secret").write_text(SECRET)
        name = f"edgevid-test-{os.getpid()}"
        with (
            socket.socket(socket.AF_UNIX) as listening,
            subprocess.Popen(["sleep", "100"], start_new_session=True) as other,
        ):
            listening.bind(f"\0{name}")
            listening.listen()
            try:
                paths = {"canary": str(home / "secret"), "outside": str(tmp_path / "outside")}
                outcome = child("try", sandbox, abstract=name, other=other.pid, **paths)
            finally:
                other.kill()
        found = outcome.result()
        assert found is not None, outcome
        return found

    return attempt


def test_everything_that_reaches_beyond_the_task_is_denied(tried, tmp_path, home):
    found = tried(Sandbox(write=(str(tmp_path / "out"),)))
    assert {name: found[name] for name in NAMES} == dict.fromkeys(NAMES, "denied")
    assert (home / "secret").read_text() == SECRET
    assert (home / "secret").stat().st_mode & 0o077 == 0o044  # as the test made it
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".scratch"]


def test_without_the_sandbox_none_of_it_is_denied(tried):
    found = tried(LIMITS_ONLY)
    possible = [name for name in NAMES if name not in OF_ROOT]
    assert [name for name in possible if found[name] == "denied"] == []
    assert SECRET in found["read a file in a home"]
    assert found["UDP"].startswith("succeeded") and found["fork"].startswith("succeeded")


@pytest.mark.parametrize("part", ["landlock", "seccomp"])
def test_each_part_denies_what_the_other_cannot(tried, tmp_path, monkeypatch, part):
    """Landlock covers files, seccomp most of the rest; each works without the other."""
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    other = {"landlock": "seccomp.available", "seccomp": "landlock.version"}[part]
    (lacking / "sitecustomize.py").write_text(
        f"from edgevid.isolation import landlock, seccomp\n{other} = lambda: 0\n"
    )
    monkeypatch.syspath_prepend(str(lacking))
    found = tried(Sandbox(write=(str(tmp_path / "out"),)))
    denied = {name for name in NAMES if found[name] == "denied"}
    if part == "landlock":
        assert {"read a file in a home", "write outside", "list a home"} <= denied
        assert not {"UDP", "io_uring", "fork"} & denied
    else:
        assert {"UDP", "TCP", "fork", "run a program", "io_uring", "link into the output"} <= denied
        assert not {"read a file in a home", "write outside"} & denied


def test_it_has_its_own_home_and_limits(child, tmp_path, home):
    found = child("look").result()
    scratch = str(tmp_path / "out" / ".scratch")
    assert [found[name] for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")] == [scratch] * 3
    assert found["temporary"].startswith(scratch)
    cores = os.cpu_count() or 1
    assert found["limits"] == {
        "CORE": 0,
        "DATA": 500 << 20,
        "FSIZE": 500 << 20,
        "NOFILE": 1024,
        "CPU": 120 * cores + 1,
    }


def test_memory_files_and_time_are_bounded(child, tmp_path):
    outcome = child("fill", megabytes=600)
    assert outcome.out_of_memory
    assert outcome.describe(60) == "failed with exit code 1 (MemoryError)"
    assert child("fill", megabytes=300).result() == {"filled": str(300 << 20)}
    outcome = child("write", Sandbox(write=(str(tmp_path / "out"),), memory_mb=200), megabytes=201)
    assert outcome.result() is None
    spinning = Sandbox(write=(str(tmp_path / "out"),), cpu_s=1)
    assert child("spin", spinning).returncode == -24  # SIGXCPU


def test_what_a_child_writes_does_not_fill_its_parents_memory(child):
    outcome = child("babble", megabytes=100)
    assert len(outcome.stderr) <= 16 << 20
    assert outcome.describe(60) == "failed with exit code 3 (last words)"


def test_an_answer_that_is_nested_deeply_is_none():
    assert ChildOutcome(0, b'{"a":' + b"[" * 100_000, b"").result() is None


def test_an_inner_limit_is_not_raised_by_an_outer_one():
    code = (
        "import resource; from edgevid.isolation.sandbox import Sandbox;"
        "[Sandbox(memory_mb=mb, confined=False).enter() for mb in (900, 4000)];"
        "print(resource.getrlimit(resource.RLIMIT_DATA)[1] >> 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "900"


def test_a_process_with_threads_cannot_enter():
    code = (
        "import threading, time; from edgevid.isolation.sandbox import Sandbox;"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); Sandbox().enter()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode and "threads before its sandbox" in done.stderr


def test_system_calls_of_another_architecture_kill():
    """x32's numbers have a bit set that the filter would not find in its list."""
    here = seccomp.architecture()
    if here is None or not here.x32:
        pytest.skip("only x86-64 has x32")
    code = (
        "import ctypes; from edgevid.isolation.sandbox import Sandbox; Sandbox().enter();"
        "ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -31  # SIGSYS


def test_the_numbers_of_system_calls_are_those_of_the_kernel_headers():
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.is_file():
        pytest.skip("install linux-libc-dev")
    lines = [line.split() for line in header.read_text().splitlines() if "__NR_" in line]
    known = {one[1].removeprefix("__NR_"): int(one[2]) for one in lines if len(one) == 3}
    assert_known(known, seccomp.X86_64)


def test_the_numbers_of_64_bit_arm_are_those_that_new_architectures_share():
    header = Path("/usr/include/asm-generic/unistd.h")
    if not header.is_file():
        pytest.skip("install linux-libc-dev")
    lines = [line.split() for line in header.read_text().splitlines() if "#define __NR" in line]
    known = {one[1].partition("_")[2].partition("_")[2].partition("_")[2]: one[2] for one in lines}
    numbers = {name: int(text) for name, text in known.items() if text.isdecimal()}
    assert numbers["openat"] == 56
    assert_known(numbers, seccomp.ARM64)


def assert_known(known: dict[str, int], here: seccomp.Architecture) -> None:
    """Check every number that the headers have, and that none of theirs is left out."""
    tables = seccomp.CALLS.values()
    ours = {name: numbers[here.column] for calls in tables for name, numbers in calls.items()}
    assert {n: v for n, v in ours.items() if v != seccomp.NO and known.get(n, v) != v} == {}
    left_out = {n for n, v in ours.items() if v == seccomp.NO} & known.keys()
    assert left_out - ON_32_BITS == set()


ON_32_BITS = {"clock_settime64", "clock_adjtime64", "utimensat_time64"}
"""Numbers that the shared header has, but 64-bit architectures do not use."""


def test_services_may_confine_their_children():
    """Without these calls in its list systemd would kill the proof of a model."""
    root = Path(edgevid.__file__).parents[1]
    agent = root / "edgevid/flash/agent/service_systemd.py"
    for unit in (agent.read_text(), (root / "docs/examples/edgevid.service").read_text()):
        assert "SystemCallErrorNumber=EPERM" in unit
        assert "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp" in unit


@pytest.mark.parametrize("here", [seccomp.X86_64, seccomp.ARM64, seccomp.ARM])
def test_every_architecture_has_a_filter_that_fits(here):
    for programs in (False, True):
        found = seccomp.program(here, 1, programs=programs)
        assert len(found) < 4096
        assert found[-1] == (seccomp.RETURN, 0, 0, seccomp.ALLOW)
        for at, (_, if_true, if_false, _) in enumerate(found[:-1]):
            assert at + 1 + max(if_true, if_false) < len(found)


# ---------------------------------------------------------------- the real children


IMPORTER = """
import json, os, socket
from pathlib import Path
from edgevid.doctor import environment
from edgevid.errors import BadInput
from edgevid_converters.importers.imported import Importer

def _try(work):
    try:
        return f"succeeded: {work()}"
    except OSError as error:
        return "denied"

def open_model(path):
    aims = json.loads(path.read_text())
    raise BadInput(json.dumps({
        "read": _try(lambda: Path(aims["canary"]).read_text()),
        "write": _try(lambda: Path(aims["outside"]).write_text("x")),
        "connect": _try(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    }))

def matches(path):
    return path.suffix == ".curious"

IMPORTER = Importer("curious", ".curious", ("tflite",), matches, open_model)
"""


@pytest.fixture
def curious(tmp_path, home, monkeypatch):
    """A model whose importer tries to read other files; its package is installed for this test."""
    package = tmp_path / "package"
    groups = {"edgevid.importer": {"curious": "edgevid_curious:IMPORTER"}}
    for folder in write_package(package, groups):
        monkeypatch.syspath_prepend(folder)
    (package / "edgevid_curious.py").write_text(IMPORTER)
    registry.forget_entry_points()
    model = tmp_path / "model.curious"
    model.write_text(
        json.dumps({"canary": str(home / "secret"), "outside": str(tmp_path / "written")})
    )
    yield model
    monkeypatch.undo()
    registry.forget_entry_points()


@pytest.mark.parametrize("server", [False, True], ids=["fresh", "forked"])
def test_a_model_that_is_imported_reads_nothing_else(curious, tmp_path, monkeypatch, server):
    if server:
        monkeypatch.setattr(child_process, "PRELOADED", ("json",))
        monkeypatch.setattr(child_process, "needs_tensorflow", lambda task: True)
    with child_process.served(), pytest.raises(BadInput) as caught:
        write_draft(curious)
    found = json.loads(str(caught.value))
    assert found == {"read": "denied", "write": "denied", "connect": "denied"}
    assert not (tmp_path / "written").exists()


def test_what_a_trusted_model_executes_is_confined(made_once, tmp_path):
    """TensorFlow runs a SavedModel's initializers when it loads it; this one's writes a file."""
    for module in ("tensorflow", "tf_keras"):
        pytest.importorskip(module)
    models = made_once("executed-models", lambda at: write_in_child("rigs.hostile_models", at))
    model = models / "writes_at_start"
    saved = (model / "saved_model.pb").read_bytes()
    (name,) = set(re.findall(rb"/[!-~]*/marks-of-[!-~]*/writes_at_start", saved))
    mark = Path(os.fsdecode(name))
    mark.unlink(missing_ok=True)
    done = call_edgevid("convert", "--init", "--trust-model", model, "-o", tmp_path / "x.toml")
    assert not mark.exists(), done.stderr
    assert len(done.stderr.strip().splitlines()) <= 1
    loading = f"import tensorflow as tf; tf.saved_model.load({str(model)!r})"
    subprocess.run([sys.executable, "-c", loading], check=True, stderr=subprocess.DEVNULL)
    assert mark.exists()  # it would have written it, without the sandbox
    mark.unlink()


def test_a_file_that_a_model_names_beside_itself_is_readable_only_below_it(tmp_path):
    """ONNX keeps weights in other files; those outside the model's folder are not opened."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_text(SECRET)
    (folder / "weights.data").write_bytes(b"1")
    (folder / "away").symlink_to(tmp_path / "secret")
    names = [b"weights.data", b"../secret", b"away", str(tmp_path / "secret").encode()]
    entries = [b"\x0a\x08location\x12" + bytes([len(name)]) + name for name in names]
    (folder / "model.onnx").write_bytes(b"".join(entries))
    importer = registry.load("importer", "onnx")
    assert importer.companions(folder / "model.onnx") == (folder / "weights.data",)


def test_a_small_model_that_takes_gigabytes_fails_its_proof(tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert")
    from rigs.greedy_model import greedy_model

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = greedy_bundle(tmp_path / "greedy.edgevid", greedy_model())
    assert path.stat().st_size < 10_000
    verdict = prove_in_child(path, "tflite-float32", "tflite")
    assert not verdict.ok and "\n" not in str(verdict.reason)
    assert "needs more than the 1024 MB of memory that a model of its size gets" in verdict.reason
    modest = greedy_bundle(tmp_path / "modest.edgevid", greedy_model(100))
    assert prove_in_child(modest, "tflite-float32", "tflite").ok


def greedy_bundle(path: Path, model: bytes) -> Path:
    import numpy as np

    contract = Contract(
        task="raw",
        inputs=(VectorInput("x", (1, 1)),),
        rate_fps=1.0,
        outputs=(Output("scores", (1, 1)),),
        labels=(),
    )
    side = 100
    inputs = np.linspace(0, 1, 4, dtype=np.float32).reshape(4, 1, 1)
    golden = Golden((Trajectory({"x": inputs}, {"scores": inputs * side * side}, {}),))
    artifact = Artifact(name="tflite-float32", format="tflite", quantize="float32")
    bundle.write(path, contract, [(artifact, {"tflite": model})], golden.to_members(), {})
    return path


def test_a_proof_reads_its_bundle_and_nothing_else(null_bundle):
    opened = bundle.Bundle.open(null_bundle)
    found = sandboxes.sandbox_for(opened, "null-float32", "null")
    assert found.confined and found.read == (str(null_bundle.resolve()),)
    assert not found.write and not found.programs
    assert found.memory_mb is not None and found.memory_mb <= 1100
    assert not sandboxes.sandbox_for(opened, "null-float32", "openvino", "npu").confined


def test_a_measured_engine_reads_its_bundle_and_the_video(null_bundle, video):
    opened = bundle.Bundle.open(null_bundle)
    found = engine_sandbox(opened, Job("null-float32", "null", "cpu", "step"), video)
    assert found.confined and not found.write
    assert found.read[:2] == (str(null_bundle.resolve()), str(video.resolve()))
    assert found.programs == (sys.executable,)  # to prove it, where no verdict can be kept
    assert not engine_sandbox(opened, Job("null-float32", "null", "null", "step"), video).confined


@pytest.mark.parametrize(
    ("support", "state", "said"),
    [
        (SandboxSupport(7, seccomp=True), "ok", "Landlock 7, seccomp"),
        (SandboxSupport(0, seccomp=True), "warn", "no Landlock, seccomp"),
        (SandboxSupport(4, seccomp=False), "warn", "Landlock 4, no seccomp"),
    ],
)
def test_the_doctor_says_what_the_kernel_offers(support, state, said):
    check = environment.sandbox(support)
    assert (check.state, check.found, bool(check.do)) == (state, said, state == "warn")


# ---------------------------------------------------------------- none is forgotten


STARTERS = {
    # Processes of this kind are started only by edgevid.isolation and the fork server, and these
    # take a `Sandbox` that has no default.
    "edgevid/isolation/child_task.py",
    "edgevid/isolation/json_rpc.py",
    "edgevid/isolation/worker.py",
    "edgevid_converters/fork_server.py",
    # None of these loads a model.
    "edgevid/data/pool.py",  # decodes the operator's own clips
    "edgevid/demo/__init__.py",  # runs edgevid's own commands
    "edgevid/media/picamera.py",  # the camera's program
    "edgevid/remote/ssh.py",  # OpenSSH
    "edgevid/system/kernel.py",  # vcgencmd
    "edgevid/testing/converter.py",  # conformance suites, for developers of plug-ins
    "edgevid/testing/runtime.py",
    "edgevid/testing/task.py",
    "edgevid_converters/lowering/edgetpu.py",  # edgetpu_compiler, on what edgevid has made
}
UNCONFINED = {
    "edgevid/bench/measurement.py",  # with an accelerator, whose worker is the process with a model
    "edgevid/doctor/software.py",  # imports libraries
    "edgevid/media/picamera.py",
    "edgevid_converters/fork_server.py",  # its children have sandboxes of their own
}
WAYS = {"Popen", "run_child", "check_output", "fork", "posix_spawn", "ProcessPoolExecutor"}


def sources():
    for package in (edgevid, edgevid_converters):
        root = Path(package.__file__).parent
        for file in sorted(root.rglob("*.py")):
            name = f"{root.name}/{file.relative_to(root)}"
            if not name.startswith("edgevid/flash/"):  # the device's own programs
                yield name, ast.parse(file.read_text(encoding="utf-8"))


def called(tree: ast.AST) -> set[str]:
    """Names of the functions that a module calls to start processes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = name.rpartition(".")[2]
            if last in WAYS - {"run_child"} or name in ("subprocess.run", "os.system"):
                found.add(last)
    return found


def test_no_process_is_started_in_another_way():
    """A new one has to go through `edgevid.isolation`, which requires a sandbox."""
    assert {name for name, tree in sources() if called(tree)} == STARTERS


def test_only_children_without_a_strangers_model_are_unconfined():
    found = set()
    for name, tree in sources():
        loaded = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
        if "LIMITS_ONLY" in loaded and name != "edgevid/isolation/sandbox.py":
            found.add(name)
    assert found == UNCONFINED


def test_a_child_cannot_be_started_without_a_sandbox():
    with pytest.raises(TypeError, match="sandbox"):
        run_child(MODULE, {}, 1.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        child_process.ask("reading", {"do": "tensors"})  # type: ignore[call-arg]
