"""The overhead of the sandbox in a conversion, in interleaved pairs.

    python benchmarks/sandbox.py [--pairs 20] [--json FILE]

The same small ONNX model is converted to OpenVINO in float32 and int8, calibrated on the same clip,
with and without the sandbox, alternately; the cache is off. Without it the children have only their
resource limits; no edgevid option does this, so the script patches the process that starts them,
in a subprocess of its own. For wall-clock and CPU seconds it prints the median ratio of the pairs
with its distribution-free 95 % interval (order statistics), and whether both runs gave the same
bundle. Wall-clock times need an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "sandbox.json"
SIZE, CLASSES, FRAMES = 64, 3, 24
MEDIAN_WITHIN, UPPER_WITHIN = 1.03, 1.06
CONTRACT = """\
task = "classification"
rate_fps = 8
labels = ["a", "b", "c"]

[[input]]
kind = "frame"
input = "images"

[[output]]
name = "scores"
output = "scores"
softmax = true
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--convert", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.convert:
        convert(*options.convert)
        return
    with tempfile.TemporaryDirectory(prefix="edgevid-sandbox-") as name:
        folder = Path(name)
        write_inputs(folder)
        timed(folder, "on")  # fills the caches of the disk and of Python
        pairs = []
        for number in range(options.pairs):
            order = ("on", "off") if number % 2 else ("off", "on")
            pairs.append({kind: timed(folder, kind) for kind in order})
            print(f"pair {number + 1}: {pairs[-1]}", file=sys.stderr, flush=True)
    found = summary(pairs)
    options.json.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def convert(sandbox: str, folder: str, out: str) -> None:
    """Convert in this process, with or without the sandbox of its children."""
    from edgevid.isolation import sandbox as module
    from edgevid_converters import convert as convert_model

    if sandbox == "off":

        def unconfined(self: Any) -> dict[str, Any]:
            return asdict(replace(self, confined=False))

        module.Sandbox.to_json = unconfined  # type: ignore[method-assign]
    convert_model(
        Path(folder, "model.onnx"),
        contract=Path(folder, "contract.toml"),
        calibrate=Path(folder, "clip.mp4"),
        formats=["openvino"],
        quantize=["float32", "int8"],
        out=Path(out),
        cache=False,
    )


def timed(folder: Path, sandbox: str) -> dict[str, Any]:
    """Convert once, in a process of its own: seconds, and the hash of the bundle."""
    from edgevid.files import sha256_of

    out = folder / f"{sandbox}.edgevid"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, __file__, "--convert", sandbox, str(folder), str(out)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall_s, 3), "cpu_s": round(cpu_s, 3), "sha256": sha256_of(out)}


def summary(pairs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The ratios of the pairs, and whether they are within the limits."""
    found: dict[str, Any] = {"pairs": len(pairs), "load": round(os.getloadavg()[1], 1)}
    found["same_bundle"] = len({run["sha256"] for pair in pairs for run in pair.values()}) == 1
    for what in ("wall_s", "cpu_s"):
        ratios = sorted(pair["on"][what] / pair["off"][what] for pair in pairs)
        median, (low, high) = statistics.median(ratios), interval(ratios)
        found[what] = {
            "without": statistics.median(pair["off"][what] for pair in pairs),
            "ratio": round(median, 4),
            "interval": [round(low, 4), round(high, 4)],
            "within": median <= MEDIAN_WITHIN and high <= UPPER_WITHIN,
        }
    return found


def interval(ordered: list[float]) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics (the sign test)."""
    from edgevid.bench.statistics import binomial_cdf

    count = len(ordered)
    ranks = [k for k in range(count // 2) if 2 * binomial_cdf(k, count, 0.5) <= 0.05]
    rank = ranks[-1] + 1 if ranks else 0
    return ordered[rank], ordered[count - 1 - rank]


def write_inputs(folder: Path) -> None:
    """Write the model, its contract and a clip."""
    import av
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights, given, channels = [], [], "images", 3
    for number, width in enumerate((16, 32, 32)):
        kernel = rng.normal(size=(width, channels, 3, 3)).astype(np.float32) / channels
        weights.append(numpy_helper.from_array(kernel, f"w{number}"))
        nodes.append(
            helper.make_node(
                "Conv", [given, f"w{number}"], [f"c{number}"], strides=[2, 2], pads=[1, 1, 1, 1]
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        given, channels = f"r{number}", width
    dense = rng.normal(size=(channels, CLASSES)).astype(np.float32)
    weights.append(numpy_helper.from_array(dense, "dense"))
    nodes.append(helper.make_node("GlobalAveragePool", [given], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "dense"], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CLASSES])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    (folder / "contract.toml").write_text(CONTRACT)
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = SIZE
        image = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        for number in range(FRAMES):
            moved = np.ascontiguousarray(np.roll(image, 3 * number, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, "rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
