"""What tests of every room share: small real videos, and models made here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgevid.contract import Contract
from rigs.bundles import CONTRACT, write_null
from rigs.command import call_edgevid
from rigs.films import pictures, write_video

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


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
    return write_video(path, pictures(40, 64, 96), faststart=True)


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
def edgevid() -> Callable[..., subprocess.CompletedProcess]:
    """Give a function that runs the command line in a process of its own."""
    return call_edgevid


def _done(*words: object) -> None:
    done = call_edgevid(*words)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def real_data(tmp_path_factory) -> Path:
    """Clips of three classes that are learned at once, so that tests of what follows are steady."""
    data = tmp_path_factory.mktemp("real") / "data"
    rng = np.random.default_rng(0)
    for place, label in enumerate(("red", "green", "blue")):
        for number in range(12):
            noisy = rng.integers(0, 90, (8, 32, 32, 3))
            noisy[..., place] += 150
            write_video(data / label / f"{number:02d}.mp4", noisy.astype(np.uint8))
    return data


@pytest.fixture(scope="session")
def real_run(real_data) -> Path:
    """A CNN with two LSTM layers, trained on them."""
    run = real_data.parent / "run"
    shape = ("--frames", 4, "--image-size", 32, "--epochs", 6, "--batch", 8)
    _done("train", real_data, "--out", run, *shape)
    return run


@pytest.fixture(scope="session")
def real_bundle(real_run) -> Path:
    """Its bundle, both formats, float32 and int8."""
    bundle = real_run.parent / "real.edgevid"
    _done("convert", real_run, "-o", bundle)
    return bundle


@pytest.fixture(scope="session")
def carry_bundle(real_data) -> Path:
    """A bundle of the same kind whose memory is carried: the LSTM's own."""
    run, bundle = real_data.parent / "carry", real_data.parent / "carry.edgevid"
    shape = ("--frames", 4, "--image-size", 32, "--epochs", 6, "--batch", 8)
    _done("train", real_data, "--out", run, "--temporal", "carry", *shape)
    _done("convert", run, "-o", bundle, "-f", "tflite")
    return bundle
