"""The time and memory of `edgevid convert` beside the bare converters, in interleaved runs.

    python benchmarks/conversion_time.py [--only NAME,...] [--rounds 1] [--json FILE]

Both make the same four artifacts of one model: ``.tflite`` and IR, in float32 and int8, calibrated
on the same frames of real footage. The bare converters (TFLiteConverter twice,
``openvino.convert_model``, NNCF) do it in one process, and check nothing. edgevid proves every
artifact, repairs int8 if it has to, and draws the page; its cache is off.

For each model: wall-clock and CPU seconds of each run, the peak of the sum of PSS over the process
tree (sampled from ``/proc/*/smaps_rollup``), and whether edgevid took at most 10 s plus twice (with
a repair: four times) the bare time, and 1.3 times the memory. Wall-clock times need an idle
machine; on a busy one CPU seconds stand in. A run that FILE already has is not repeated, so that an
interrupted benchmark resumes. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevid.contract import FrameInput
from edgevid.media.video import read_clip
from edgevid_converters.calibration.trajectories import (
    CALIBRATION_STEPS,
    CALIBRATION_VALUES,
    LEAST_CALIBRATION_STEPS,
)

sys.path.insert(0, str(Path(__file__).parent))
from footage import clip
from matrix.catalog import MODELS, Model

NAMES = ("MobileNetV3Small", "EfficientNetV2B0", "centernet")
FIXED_S, TIMES, TIMES_WITH_REPAIR, MEMORY_TIMES = 10.0, 2.0, 4.0, 1.3
RATE_FPS = 25.0
SAMPLE_S = 0.3
RESULTS = Path(__file__).parent / "results" / "conversion-time.json"


def main() -> None:
    options = _options()
    if options.bare:
        bare(options.bare[0], *map(Path, options.bare[1:]))
        return
    found = json.loads(options.json.read_text()) if options.json.exists() else {"models": {}}
    for number in range(options.rounds):
        for name in options.only.split(",") if options.only else NAMES:
            runs = found["models"].setdefault(name, {"runs": []})["runs"]
            if len(runs) <= number:
                print(f"{name}, round {number + 1}", file=sys.stderr, flush=True)
                runs.append(measure(MODELS[name], options.work, bare_first=bool(number % 2)))
                found["models"][name] |= summary(runs)
                options.json.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def measure(model: Model, work: Path, *, bare_first: bool) -> dict[str, Any]:
    """Run both, one after the other, each in processes of its own."""
    work.mkdir(parents=True, exist_ok=True)
    path = model.make(work)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs = [
            ("edgevid", lambda: _edgevid(model, path, folder)),
            ("bare", lambda: _bare(model, path, folder)),
        ]
        load = os.getloadavg()[0]
        found = {name: run() for name, run in (reversed(runs) if bare_first else runs)}
    return {"load_before": round(load, 1), **found}


def _edgevid(model: Model, path: Path, folder: Path) -> dict[str, Any]:
    contract = folder / "contract.toml"
    contract.write_text(model.contract_toml().replace("rate_fps = 5\n", f"rate_fps = {RATE_FPS}\n"))
    command = [
        *(sys.executable, "-m", "edgevid", "convert", str(path), "--json", "--no-cache"),
        *("--contract", str(contract), "--calibrate", str(clip("bikes"))),
        *("-o", str(folder / "x.edgevid")),
    ]
    figures, stdout = _timed(command)
    document = json.loads(stdout)
    refused = document.get("refused", {})
    tried = any("repairs is within" in text for text in refused.values())
    return figures | {
        "repaired": bool(document.get("repairs")) or tried,
        "artifacts": [one["name"] for one in document.get("artifacts", [])],
        "refused": refused or document.get("error"),
    }


def _bare(model: Model, path: Path, folder: Path) -> dict[str, Any]:
    assert model.pixels is not None
    frame = FrameInput("frame", model.pixels.height, model.pixels.width)
    images = read_clip(clip("bikes"), frame, RATE_FPS)
    most = max(LEAST_CALIBRATION_STEPS, CALIBRATION_VALUES // images[0].size)
    count = min(len(images), CALIBRATION_STEPS, most)
    kept = np.linspace(0, len(images) - 1, count).round().astype(int)
    np.save(folder / "frames.npy", images[kept])
    command = [sys.executable, __file__, "--bare", model.name, str(path), str(folder)]
    figures, _ = _timed(command)
    return figures


def bare(name: str, path: Path, folder: Path) -> None:
    """Make the four artifacts with the converters alone, in this process."""
    import nncf
    import openvino
    import tensorflow as tf

    pixels, images = MODELS[name].pixels, np.load(folder / "frames.npy")
    assert pixels is not None

    def row(number: int) -> Any:
        return pixels.prepare(images[number : number + 1])[0]

    if path.is_dir():
        saved = path
        converters = [tf.lite.TFLiteConverter.from_saved_model(str(path)) for _ in range(2)]
    else:
        import keras

        model, saved = keras.models.load_model(path), folder / "saved"
        converters = [tf.lite.TFLiteConverter.from_keras_model(model) for _ in range(2)]
        model.export(saved, verbose=False)
    converters[1].optimizations = [tf.lite.Optimize.DEFAULT]
    converters[1].representative_dataset = lambda: ([row(n)] for n in range(len(images)))
    converters[1].target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    for converter, precision in zip(converters, ("float32", "int8"), strict=True):
        (folder / f"{precision}.tflite").write_bytes(converter.convert())
    graph = openvino.convert_model(str(saved))
    graph.reshape(row(0).shape)
    openvino.save_model(graph, folder / "float32.xml", compress_to_fp16=False)
    dataset = nncf.Dataset(range(len(images)), row)
    openvino.save_model(nncf.quantize(graph, dataset, subset_size=len(images)), folder / "int8.xml")


# ---------------------------------------------------------------- measuring


def _timed(command: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    """Run a command; returns seconds and peak memory of its process tree, and its output."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr)
        sampler = _Sampler(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        sampler.stop()
        process.returncode = code = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if code not in (0, 1):  # 1: an artifact did not pass, which takes its time too
            raise SystemExit(stderr.read().decode(errors="replace")[-3000:])
        figures = {
            "wall_s": round(wall_s, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_pss_mb": round(sampler.peak_kb / 1024),
        }
        return figures, stdout.read()


class _Sampler(threading.Thread):
    """Samples the sum of PSS over a process and all that it has started."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self.peak_kb = pid, 0
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._ended.wait(SAMPLE_S):
            self.peak_kb = max(self.peak_kb, sum(map(_pss_kb, _tree(self._pid))))

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()


def _tree(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found, grown = found | more, bool(more)
    return found


def _pss_kb(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:  # it has ended
        pass
    return 0


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, and whether they are within the limits."""

    def median(who: str, what: str) -> float:
        return statistics.median(run[who][what] for run in runs)

    times = TIMES_WITH_REPAIR if any(run["edgevid"]["repaired"] for run in runs) else TIMES
    found: dict[str, Any] = {"repaired": times == TIMES_WITH_REPAIR, "rounds": len(runs)}
    for what in ("wall_s", "cpu_s"):
        ours, theirs = median("edgevid", what), median("bare", what)
        limit = FIXED_S + times * theirs
        found[what] = {
            "edgevid": ours,
            "bare": theirs,
            "ratio": round(ours / theirs, 2),
            "limit": round(limit, 1),
            "within": ours <= limit,
        }
    ours, theirs = median("edgevid", "peak_pss_mb"), median("bare", "peak_pss_mb")
    found["peak_pss_mb"] = {
        "edgevid": ours,
        "bare": theirs,
        "ratio": round(ours / theirs, 2),
        "within": ours <= MEMORY_TIMES * theirs,
    }
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="Names of models, separated by commas. Default: all three.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("build/conversion-time"))
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--bare", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
