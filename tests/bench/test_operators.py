"""Where operators run: those that an accelerator leaves to the CPU make a result invalid."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgevid import runtimes
from edgevid.bench import operators
from edgevid.bench.job import Job
from edgevid.bench.result import UnknownProfile
from edgevid.bundle import Bundle
from edgevid.contract import Contract, FrameInput, Output
from edgevid.runtimes import Operator
from edgevid.runtimes.tflite.gpu import LiteRTGPU, placed
from edgevid.runtimes.tflite.profile import read
from rigs.vulkan import use_software_gpu

LEFT = ["STRIDED_SLICE", "STRIDED_SLICE", "CAST"]


def profiled(path, accelerator="null", runtime="null", artifact="null-float32"):
    return operators.profile(Bundle.open(path), Job(artifact, runtime, accelerator, "step"))


def test_what_an_accelerator_left_to_the_cpu_is_named(make_null_bundle):
    found = profiled(make_null_bundle(stay_on_cpu=LEFT))
    assert (found.accelerated, found.on_cpu) == (1, 3)
    assert operators.fallen_back(found, "null") == (
        "2 of 4 operators ran on the CPU and not on null: STRIDED_SLICE (2)"
    )


def test_one_that_took_everything_is_fine(make_null_bundle):
    assert operators.fallen_back(profiled(make_null_bundle()), "null") is None
    casts = profiled(make_null_bundle("casts.edgevid", stay_on_cpu=["CAST", "QUANTIZE"]))
    assert operators.fallen_back(casts, "null") is None


def test_the_cpu_is_no_fallback_where_it_was_asked_for(make_null_bundle):
    found = profiled(make_null_bundle(stay_on_cpu=LEFT), "cpu")
    assert found.on_cpu == 1
    assert operators.fallen_back(found, "cpu") is None


def test_what_cannot_be_known_of_an_accelerator_is_reported():
    reason = operators.fallen_back(UnknownProfile("the profiler crashed"), "gpu")
    assert reason == "which operators ran on gpu is not known: the profiler crashed"
    assert operators.fallen_back(UnknownProfile("the profiler crashed"), "cpu") is None


def test_a_profiler_that_crashes_is_survived(make_null_bundle, monkeypatch):
    monkeypatch.setattr(operators, "TIMEOUT_S", 20.0)
    monkeypatch.setenv("PYTHONINSPECT", "")
    path = make_null_bundle()
    job = Job("null-float32", "tflite", "cpu", "step")  # it has no tflite in it
    assert isinstance(operators.profile(Bundle.open(path), job), UnknownProfile)


def test_long_lists_are_cut():
    many = [Operator(f"{n}", f"KIND_{n:02d}", "cpu") for n in range(9)]
    reason = operators.fallen_back(operators.summary(many), "gpu")
    assert reason is not None
    assert reason.startswith("9 of 9 operators ran on the CPU and not on gpu: KIND_00 (1), ")
    assert reason.endswith(" and 4 other kinds")


def test_a_silent_fallback_is_an_invalid_result(edgevid, make_null_bundle, video):
    path = make_null_bundle(stay_on_cpu=LEFT)
    words = ("--scenario", "step", "--samples", 100, "--rounds", 2, "--json")
    where = ("--runtime", "null", "--accelerator", "null")
    done = edgevid("bench", path, "--source", video, *where, *words)
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert document["valid"] is False
    why = "2 of 4 operators ran on the CPU and not on null: STRIDED_SLICE (2)"
    assert f"null-float32 in null on null, step: {why}" in document["reasons"]
    assert document["results"][0]["operators"]["on_cpu"] == 3


# --- real profilers -------------------------------------------------------------------------------

CONTRACT = Contract(
    task="classification",
    inputs=(FrameInput("frame", 16, 16),),
    rate_fps=15.0,
    outputs=(Output("scores", (1, 3)),),
    labels=("one", "two", "three"),
)

LOWER = """
import sys
import numpy as np
import tensorflow as tf

random = np.random.default_rng(0)
KERNEL = tf.constant(random.normal(0, 0.1, (3, 3, 3, 8)).astype(np.float32))
HEAD = tf.constant(random.normal(0, 0.1, (128, 3)).astype(np.float32))

class Step(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((1, 16, 16, 3), tf.uint8, "frame")])
    def step(self, frame):
        seen = tf.nn.conv2d(tf.cast(frame, tf.float32) / 255.0, KERNEL, 1, "SAME")
        if sys.argv[2] == "slice":
            flat = tf.reshape(tf.nn.relu(seen)[:, 3] + seen[:, 5], (1, 128))
        else:
            flat = tf.reshape(tf.nn.relu(tf.nn.avg_pool2d(seen, 4, 4, "VALID")), (1, 128))
        return {"scores": tf.nn.softmax(tf.matmul(flat, HEAD))}

model = Step()
converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [model.step.get_concrete_function()], model
)
open(sys.argv[1], "wb").write(converter.convert())
"""


def lowered(folder: Path, kind: str) -> dict[str, bytes]:
    path = folder / f"{kind}.tflite"
    subprocess.run([sys.executable, "-c", LOWER, path, kind], check=True, capture_output=True)
    return {"tflite": path.read_bytes()}


@pytest.fixture(scope="module")
def lowered_slice(tmp_path_factory):
    return lowered(tmp_path_factory.mktemp("slice"), "slice")


@pytest.fixture(scope="module")
def lowered_plain(tmp_path_factory):
    return lowered(tmp_path_factory.mktemp("plain"), "plain")


FRAMES = [None] * 20  # LiteRT's own are profiled on zeros


def test_litert_says_what_ran(lowered_slice):
    found = runtimes.get("tflite").profile(lowered_slice, CONTRACT, FRAMES)
    kinds = [one.kind for one in found]
    assert kinds.count("STRIDED_SLICE") == 2
    assert any("Convolution" in kind for kind in kinds)  # a name of XNNPACK's
    assert {one.place for one in found} == {"cpu"}
    assert all(one.mean_ms is not None and one.mean_ms >= 0 for one in found)


def test_openvino_says_what_ran(lowered_plain, tmp_path):
    openvino = pytest.importorskip("openvino")
    (tmp_path / "m.tflite").write_bytes(lowered_plain["tflite"])
    model = openvino.Core().read_model(tmp_path / "m.tflite")
    model.input().tensor.set_names({"frame"})
    model.output().tensor.set_names({"scores"})
    openvino.save_model(model, tmp_path / "m.xml", compress_to_fp16=False)
    files = {end: (tmp_path / f"m.{end}").read_bytes() for end in ("xml", "bin")}
    frames = [{"frame": np.zeros((1, 16, 16, 3), np.uint8)}] * 5
    found = runtimes.get("openvino").profile(files, CONTRACT, frames)
    assert any("Conv" in one.kind for one in found)
    assert {one.place for one in found} == {"cpu"}
    assert sum(one.mean_ms or 0 for one in found) > 0


def test_a_gpu_that_splits_a_graph_says_so(monkeypatch, lowered_slice):
    """LiteRT answers rightly and without a word: what it can't slice runs on the CPU."""
    use_software_gpu(monkeypatch)
    found = LiteRTGPU().profile(lowered_slice, CONTRACT, FRAMES)
    reason = operators.fallen_back(operators.summary(found), "gpu")
    assert reason is not None
    assert "ran on the CPU and not on gpu: STRIDED_SLICE (2)" in reason
    assert {one.place for one in found} == {"cpu", "gpu"}


def test_a_gpu_that_takes_the_whole_graph_is_fine(monkeypatch, lowered_plain):
    use_software_gpu(monkeypatch)
    found = LiteRTGPU().profile(lowered_plain, CONTRACT, FRAMES)
    assert {one.place for one in found} == {"gpu"}
    assert operators.fallen_back(operators.summary(found), "gpu") is None


def test_what_the_gpu_says_is_understood():
    reason = (
        "ERROR: Following operations are not supported by GPU delegate:\n"
        "SPLIT: no.\n"
        "2 operations will run on the GPU, and the remaining 3 operations will run on the CPU.\n"
    )
    found = placed(["SPLIT", "CONV_2D", "ADD", "SPLIT", "MUL"], reason)
    assert sorted(one.place for one in found) == ["cpu"] * 3 + ["gpu"] * 2
    left = sorted(one.kind for one in found if one.place == "cpu")
    assert left == ["SPLIT", "SPLIT", "operators between them"]
    (odd,) = placed(["ADD"], "something else")  # it says that it did not take all, not which
    assert odd.place == "cpu"
    assert [one.place for one in placed(["ADD", "MUL"], "")] == ["gpu", "gpu"]


def test_what_the_profiler_says_is_understood():
    reason = """
===== Run Order =====
      [node type]    [start]    [first]   [avg ms]        [%]     [cdf%]   [mem KB] [times called] [Name]
 Delegate/Convolution (NHWC, QC8) IGEMM   0.000   0.025   0.012   4.4%  54.4%   0.000   10   [Delegate]:1
                            CAST   0.000   0.032   0.008   3.1%  49.0%   0.000   5   [Builtin]:1

===== Top by Computation Time =====
                            CAST   0.000   0.032   0.008   3.1%  49.0%   0.000   5   [Builtin]:1
"""  # noqa: E501
    found = read(reason, 5)
    assert [(one.kind, one.name) for one in found] == [
        ("Convolution (NHWC, QC8) IGEMM", "[Delegate]:1"),
        ("CAST", "[Builtin]:1"),
    ]
    assert [one.mean_ms for one in found] == pytest.approx([0.024, 0.008])
