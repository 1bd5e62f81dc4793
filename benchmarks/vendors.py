"""Step latency as `edgevid bench` measures it, next to the vendors' tools on the same artifact.

    python benchmarks/vendors.py --pairs 12

A MobileNetV2 at 224x224 with random weights, so that a step takes some milliseconds, in float32 and
int8, TFLite and OpenVINO. In turn: a round of the scenario ``step``; `litert-benchmark` from
LiteRT's wheel, or OpenVINO's `benchmark_app` (``-api sync``, a fresh process each time); one thread
everywhere. Prints one JSON document: for each artifact both medians, the median ratio within the
pairs (ours to theirs) with its 95 % bootstrap interval, and the median over pairs of each tool's
minimum, which a busy machine affects less.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import median_interval

from edgevid import bundle, runtimes
from edgevid.bench.job import Job
from edgevid.bench.measurement import MODULE
from edgevid.bench.samples import unpack
from edgevid.bundle import Artifact, Bundle
from edgevid.contract import Contract, FrameInput, Output
from edgevid.isolation.json_rpc import JsonRpcProcess
from edgevid.isolation.sandbox import LIMITS_ONLY
from edgevid.proof import Golden, Trajectory
from edgevid.proof.replay import record_outputs
from edgevid.runtimes import catalog

HERE = Path(__file__).parent
SIDE, CLASSES = 224, 10
CONTRACT = Contract(
    task="classification",
    inputs=(FrameInput("frame", SIDE, SIDE),),
    rate_fps=10.0,
    outputs=(Output("scores", (1, CLASSES)),),
    labels=tuple("abcdefghij"),
)

LOWER = """
import sys
import keras, numpy as np, tensorflow as tf
import nncf, openvino

side, classes, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
keras.utils.set_random_seed(0)
net = keras.applications.MobileNetV2((side, side, 3), weights=None, classes=classes)
random = np.random.default_rng(0)
pictures = [random.integers(0, 256, (1, side, side, 3)).astype(np.uint8) for _ in range(20)]

frame = keras.Input((side, side, 3), batch_size=1, dtype="uint8", name="frame")
seen = keras.ops.cast(frame, "float32") / 127.5 - 1.0
model = keras.Model(frame, {"scores": net(seen)})
archive = keras.export.ExportArchive()
archive.track(model)
spec = tf.TensorSpec((1, side, side, 3), tf.uint8, "frame")
archive.add_endpoint("step", lambda frame: model(frame, training=False), [spec])
archive.write_out(f"{folder}/saved")
for name in ("float32", "int8"):
    converter = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/saved", ["step"])
    if name == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ({"frame": one} for one in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    open(f"{folder}/tflite-{name}.tflite", "wb").write(converter.convert())
read = openvino.Core().read_model(f"{folder}/tflite-float32.tflite")
read.input().tensor.set_names({"frame"})
read.output().tensor.set_names({"scores"})
openvino.save_model(read, f"{folder}/openvino-float32.xml", compress_to_fp16=False)
quantised = nncf.quantize(read, nncf.Dataset(pictures), subset_size=20)
openvino.save_model(quantised, f"{folder}/openvino-int8.xml", compress_to_fp16=False)
"""


def build(folder: Path) -> Bundle:
    """A bundle of all four artifacts; their files stay in ``folder`` for the vendors' tools."""
    words = [sys.executable, "-c", LOWER, str(SIDE), str(CLASSES), str(folder)]
    subprocess.run(words, check=True, stdout=sys.stderr)
    import numpy as np

    artifacts = []
    for name in ("tflite-float32", "tflite-int8", "openvino-float32", "openvino-int8"):
        files = {f.suffix[1:]: f.read_bytes() for f in folder.glob(f"{name}.*")}
        runtime, _, quantize = name.partition("-")
        artifacts.append((Artifact(name, runtime, quantize), files))
    # Random weights have no meaningful int8 accuracy, so each artifact is its own reference.
    frames = np.random.default_rng(1).integers(0, 256, (6, 1, SIDE, SIDE, 3)).astype(np.uint8)
    engines = {
        artifact.name: runtimes.get(catalog.made_for(artifact.format)[0]).load(files, CONTRACT)
        for artifact, files in artifacts
    }
    first = engines["tflite-float32"]
    answers = np.stack([first.step({"frame": frame}, {})[0]["scores"] for frame in frames])
    one = Trajectory({"frame": frames}, {"scores": answers}, {})
    given = {name: (record_outputs(engine, one),) for name, engine in engines.items()}
    golden = Golden((one,), given)
    return bundle.write(folder / "vendors.edgevid", CONTRACT, artifacts, golden.to_members(), {})


def litert(model: Path, seconds: float, step_s: float) -> tuple[float, float]:
    """Median and minimum step time in milliseconds as LiteRT's benchmark reports them."""
    runs = max(20, round(seconds / step_s))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "said.json")
        words = ["--model", model, "--num_runs", runs, "--warmup_runs", max(10, runs // 5)]
        tool = [sys.executable, "-m", "ai_edge_litert.tools.benchmark_litert_model"]
        output_of([*tool, *words, "--num_threads", 1, "--result_json", out])
        said = json.loads(out.read_bytes())["latency"]
        return float(said["median_ms"]), float(said["min_ms"])


def openvino(model: Path, seconds: float, step_s: float) -> tuple[float, float]:
    """Median and minimum step time in milliseconds as benchmark_app reports them."""
    words = ["-m", model, "-d", "CPU", "-hint", "none", "-api", "sync", "-nireq", 1]
    words += ["-nstreams", 1, "-nthreads", 1, "-infer_precision", "f32", "-t", round(seconds)]
    said = output_of([Path(sys.executable).with_name("benchmark_app"), *words])
    median, least = (re.search(rf"{word}:\s+([\d.]+) ms", said) for word in ("Median", "Min"))
    assert median is not None and least is not None, said
    return float(median[1]), float(least[1])


def output_of(words: list[object]) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return done.stdout


def compare(opened: Bundle, name: str, folder: Path, pairs: int, seconds: float) -> dict:
    runtime = name.partition("-")[0]
    tool, model = (
        (litert, folder / f"{name}.tflite")
        if runtime == "tflite"
        else (openvino, folder / f"{name}.xml")
    )
    job = Job(name, runtime, "cpu", "step")
    ours, theirs = [], []
    with JsonRpcProcess(MODULE, "measuring", LIMITS_ONLY) as process:
        request = {"bundle": str(opened.path), "video": "none", "job": job.to_json()}
        process.call({"do": "open", **request}, 120)

        def measure() -> tuple[float, float]:
            request = {"do": "round", "job": job.to_json(), "seconds": seconds, "samples": 20}
            found = unpack(process.call(request, 300)["samples"]["step"])
            return 1000 * statistics.median(found), 1000 * min(found)

        step_s = measure()[0] / 1000
        for number in range(pairs):
            for mine in (number % 2 == 0, number % 2 == 1):
                if mine:
                    ours.append(measure())
                else:
                    theirs.append(tool(model, seconds, step_s))
    ratios = [mine[0] / other[0] for mine, other in zip(ours, theirs, strict=True)]
    return {
        "artifact": name,
        "tool": tool.__name__,
        "pairs": pairs,
        "ours_p50_ms": round(statistics.median(one[0] for one in ours), 3),
        "theirs_p50_ms": round(statistics.median(one[0] for one in theirs), 3),
        "ours_least_ms": round(statistics.median(one[1] for one in ours), 3),
        "theirs_least_ms": round(statistics.median(one[1] for one in theirs), 3),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_95": [round(bound, 4) for bound in median_interval(ratios)],
        "ratios": [round(one, 4) for one in ratios],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        opened = build(folder)
        results = [
            compare(opened, artifact.name, folder, options.pairs, options.seconds)
            for artifact in opened.artifacts
        ]
    print(json.dumps({"results": results}, indent=2))


if __name__ == "__main__":
    main()
