"""What tests of every room share: small real videos, and models made here."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from edgevid import registry
from edgevid.contract import Contract
from rigs.bundles import CONTRACT, write_null
from rigs.command import call_edgevid
from rigs.plugin_package import write_package
from rigs.videos import moving_images, write_video

ROOT = Path(__file__).parent.parent
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background job of a shell ignores Ctrl-C, and so would the programs that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A package of its own, whose tests run in an environment of its own: see tests/plugins.
collect_ignore = ["toy_plugins"]

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory):
    """No test reads or leaves anything in the user's own folders."""
    base = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(base / "config"))
        patch.setenv("XDG_STATE_HOME", str(base / "state"))
        yield


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> Path:
    """A whole file of 40 frames, 96x64, 16 frames/s."""
    path = tmp_path_factory.mktemp("video") / "whole.mp4"
    return write_video(path, moving_images(40, 64, 96), faststart=True)


@pytest.fixture(scope="session")
def truncated_video(video, tmp_path_factory) -> Path:
    """The same file, broken off after three quarters."""
    path = tmp_path_factory.mktemp("truncated") / "truncated.mp4"
    content = video.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    return path


@pytest.fixture(scope="session")
def contract() -> Contract:
    """A small classifier with a carried memory."""
    return CONTRACT


@pytest.fixture
def make_null_bundle(contract, tmp_path) -> Callable[..., Path]:
    """Give a function that writes a bundle of the built-in arithmetic step."""

    def make(name: str = "null.edgevid", **behaviour) -> Path:
        return write_null(tmp_path / name, contract, **behaviour)

    return make


@pytest.fixture
def null_bundle(make_null_bundle) -> Path:
    """A bundle that needs no library to run."""
    return make_null_bundle()


@pytest.fixture
def stand_ins(tmp_path, monkeypatch) -> None:
    """The sinks and the event stages of `rigs.stand_ins`, as if their package was installed."""
    for folder in write_package(tmp_path / "package"):
        monkeypatch.syspath_prepend(folder)
    registry.forget_entry_points()
    yield
    monkeypatch.undo()
    registry.forget_entry_points()


@pytest.fixture
def edgevid() -> Callable[..., subprocess.CompletedProcess]:
    """Give a function that runs the command line in a process of its own."""
    return call_edgevid


@pytest.fixture
def home(tmp_path, monkeypatch, own_target) -> Path:
    """A person's own folders, which hold the target of a test file; gives those of edgevid."""
    name, text = own_target
    config = tmp_path / "config" / "edgevid"
    (config / "targets").mkdir(parents=True)
    (config / "targets" / f"{name}.toml").write_text(text)
    for folder in ("CONFIG", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{folder}_HOME", str(tmp_path / folder.lower()))
    return config


def _done(*words: object) -> None:
    done = call_edgevid(*words)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Give a function that gives a file or folder, made by the first process to ask."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def give(name: str, make: Callable[[Path], None]) -> Path:
        path = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                part = shared / "making" / name
                part.parent.mkdir(exist_ok=True)
                make(part)
                part.rename(path)
        return path

    return give


@pytest.fixture
def plugin_package(tmp_path, monkeypatch) -> Callable[..., None]:
    """Give a function that installs a package with entry points, as long as the test runs."""
    monkeypatch.syspath_prepend(tmp_path)
    registry.forget_entry_points()
    installed: list[str] = []

    def install(name, points, source="PLUGIN = 42\n"):
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        text = "".join(f"[edgevid.{kind}]\n{line}\n" for kind, line in points)
        (info / "entry_points.txt").write_text(text)
        (tmp_path / f"{name}.py").write_text(source)
        installed.append(name)
        registry.forget_entry_points()

    yield install
    for name in installed:
        sys.modules.pop(name, None)
    registry.forget_entry_points()


@pytest.fixture(scope="session")
def known_graphs(made_once) -> Path:
    """Steps whose outputs are known, in a folder; see `rigs.graphs`."""

    def make(folder: Path) -> None:
        path = os.pathsep.join([str(ROOT / "tests"), *sys.path])
        command = [sys.executable, "-m", "rigs.graphs", str(folder)]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return made_once("graphs", make)


@pytest.fixture(scope="session")
def real_data(made_once) -> Path:
    """Clips of three classes that are learned at once, so that tests of what follows are steady."""

    def make(data: Path) -> None:
        rng = np.random.default_rng(0)
        for place, label in enumerate(("red", "green", "blue")):
            for number in range(12):
                noisy = rng.integers(0, 90, (8, 32, 32, 3))
                noisy[..., place] += 150
                write_video(data / label / f"{number:02d}.mp4", noisy.astype(np.uint8))

    return made_once("data", make)


SHAPE = ("--frames", 4, "--image-size", 32, "--epochs", 6, "--batch", 8)


@pytest.fixture(scope="session")
def real_run(real_data, made_once) -> Path:
    """A CNN with two LSTM layers, trained on them."""
    return made_once("run", lambda run: _done("train", real_data, "--out", run, *SHAPE))


@pytest.fixture(scope="session")
def real_bundle(real_run, made_once) -> Path:
    """Its bundle, both formats, float32 and int8."""
    return made_once("real.edgevid", lambda bundle: _done("convert", real_run, "-o", bundle))


@pytest.fixture(scope="session")
def carry_run(real_data, made_once) -> Path:
    """A model of the same kind whose memory is carried: the LSTM's own."""
    words = (*SHAPE, "--temporal", "carry")
    return made_once("carry", lambda run: _done("train", real_data, "--out", run, *words))


@pytest.fixture(scope="session")
def carry_bundle(carry_run, made_once) -> Path:
    """Its bundle, in TFLite only."""
    words = (carry_run, "-f", "tflite")
    return made_once("carry.edgevid", lambda bundle: _done("convert", *words, "-o", bundle))


# ------------------------------------------------------------------ several processes


@cache
def _group(file: str) -> str:
    """The tests that run in one process: those of a file, or of all files with one marker.

    xdist distributes tests by their names, in a process that has not collected them: so the marker
    is read from the file's text.
    """
    marker = re.search(r"pytest\.mark\.one_process\(\"(\w+)\"\)", (ROOT / file).read_text())
    return marker[1] if marker else file


def _turn(item: pytest.Item) -> int:
    """The longest files start first, so that others run beside their last tests."""
    marker = item.get_closest_marker("starts")
    return marker.args[0] if marker else 9


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items) -> None:
    items.sort(key=_turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Distribute groups of tests, each to one process.

    xdist's own groups use a private attribute of a test, which newer versions of pytest lack.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid.partition("::")[0])

    return ByGroup(config, log)


CRASHED = 3


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem) -> None:
    """Stop: xdist would wait for ever for what the crashed process had yet to run."""
    pytest.exit(f"a process of the tests crashed while it ran {crashitem}", returncode=CRASHED)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus) -> None:
    if exitstatus == CRASHED:  # a second run of what has failed would leave out what never ran
        session.config.cache.set("cache/lastfailed", {})
