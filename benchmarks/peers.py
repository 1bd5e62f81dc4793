"""edgevid's throughput next to that of alternatives, in one interleaved run.

    python -m venv /tmp/yolo && /tmp/yolo/bin/pip install ultralytics openvino onnx
    python benchmarks/peers.py demo/motion.edgevid --rounds 10 --yolo /tmp/yolo/bin/python

On the same 720p and 1080p H.264 files, each in a process that stays loaded, in turn:

same artifact    edgevid's scenarios ``offline`` and ``single``, next to a plain cv2.VideoCapture
                 loop around the same TFLite file, a bare loop, and decoding alone
similar cost     edgevid with a MobileNetV2 at 224x224 (0.6 GFLOP per frame; TFLite, float32, one
                 thread), next to Ultralytics' predict() with yolov8n-cls at its default 224x224,
                 which reports its own GFLOP: in torch, and exported to OpenVINO (float32, its own
                 threads). Neither has trained weights. ``--yolo`` is the Python of an environment
                 with Ultralytics

Prints one JSON document: for each video the median frames per second; the median of the ratios
within rounds (edgevid's to the peer's; above 1 edgevid is faster) with its 95 % bootstrap interval;
the cost of a step (Ultralytics' as it reports it); and what disturbed the run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import av
import vendors
from footage import film
from measure import median_interval

from edgevid.bench import interference
from edgevid.bench.job import Job
from edgevid.bench.measurement import MODULE
from edgevid.bench.samples import unpack
from edgevid.bundle import Bundle
from edgevid.isolation.json_rpc import JsonRpcProcess
from edgevid.isolation.sandbox import LIMITS_ONLY

HERE = Path(__file__).parent
OURS = ("offline", "single")
SIDE = 224
LIKE = "mobilenet"
YOLO = "ultralytics"

EXPORT = """
import sys
from ultralytics import YOLO

made = YOLO("yolov8n-cls.yaml")
made.save(sys.argv[1])
YOLO(sys.argv[1], task="classify").export(format="openvino", imgsz=int(sys.argv[2]))
"""


class Peer:
    """A `peer.py` in a process of its own."""

    def __init__(self, python: str, way: str, model: Path, video: Path, side: int) -> None:
        words = [python, HERE / "peer.py", way, model, video, side, side]
        self._process = subprocess.Popen(
            [*map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "YOLO_OFFLINE": "true"},
        )
        self.pid = self._process.pid
        self.gflop = self._read().get("gflop")

    def play(self) -> dict:
        """Play the file once."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a peer failed: {self._process.args}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


class Ours:
    """A measuring process of edgevid's bench, in one scenario."""

    gflop = None

    def __init__(self, bundle: Bundle, artifact: str, scenario: str, video: Path) -> None:
        job = Job(artifact, "tflite", "cpu", scenario)
        with av.open(str(video)) as container:
            frames = container.streams.video[0].frames
        self._round = {"do": "round", "job": job.to_json(), "seconds": 0.0, "samples": frames}
        self._process = JsonRpcProcess(MODULE, scenario, LIMITS_ONLY)
        request = {"do": "open", "bundle": str(bundle.path.resolve()), "video": str(video)}
        self.pid = self._process.call({**request, "job": job.to_json()}, 120)["pids"][0]

    def play(self) -> dict:
        """Measure a round of as many frames as the file has."""
        found = self._process.call(self._round, 600)
        step_ms = 1000 * statistics.median(unpack(found["samples"]["step"]))
        told = {"frames": found["frames"]["answered"], "seconds": found["elapsed_s"]}
        return {**told, "step_ms": step_ms}

    def close(self) -> None:
        """End the process."""
        self._process.close()


def yolo_models(python: str, folder: Path) -> dict[str, Path]:
    """The model of each way to run Ultralytics."""
    made = folder / "yolov8n-cls.pt"
    words = [python, "-c", EXPORT, made, SIDE]
    env = {**os.environ, "YOLO_OFFLINE": "true"}
    subprocess.run([*map(str, words)], check=True, cwd=folder, stdout=sys.stderr, env=env)
    return {
        f"{YOLO} torch": made,
        f"{YOLO} openvino": folder / "yolov8n-cls_openvino_model",
    }


def started(
    options: argparse.Namespace, like: Bundle | None, models: Mapping[str, Path], height: int
) -> dict[str, Peer | Ours]:
    bundle, video = Bundle.open(options.bundle), film(height)
    side = bundle.contract.frame.height
    ways: dict[str, Peer | Ours] = {
        f"edgevid {name}": Ours(bundle, options.artifact, name, video) for name in OURS
    }
    for way in ("cv2", "bare", "decode"):
        ways[way] = Peer(sys.executable, way, models["tflite"], video, side)
    if like is not None:
        for name in OURS:
            ways[f"edgevid {LIKE} {name}"] = Ours(like, "tflite-float32", name, video)
        for name, model in models.items():
            if name.startswith(YOLO):
                ways[name] = Peer(options.yolo, YOLO, model, video, SIDE)
    return ways


def compare(
    options: argparse.Namespace, like: Bundle | None, models: Mapping[str, Path], height: int
) -> dict:
    with ExitStack() as stack:
        ways = started(options, like, models, height)
        for way in ways.values():
            stack.callback(way.close)
            way.play()  # once unmeasured
        found = []
        with interference.Monitor(lambda: [way.pid for way in ways.values()]) as monitor:
            for number in range(options.rounds):
                names = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
                one = {}
                for name in names:
                    monitor.mark(name)
                    one[name] = ways[name].play()
                found.append(one)
            record = monitor.stop()
    return {
        "video": film(height).name,
        "rounds": options.rounds,
        "disturbed": interference.disturbances(record),
        "fps": {name: middle([fps(one[name]) for one in found]) for name in ways},
        "step_ms": {
            name: middle([one[name]["step_ms"] for one in found])
            for name in ways
            if "step_ms" in found[0][name]
        },
        "gflop": {name: way.gflop for name, way in ways.items() if way.gflop},
        "ratios": {
            mine: {
                theirs: ratio([fps(one[mine]) / fps(one[theirs]) for one in found])
                for theirs in ways
                if not theirs.startswith("edgevid") and (YOLO in theirs) == (LIKE in mine)
            }
            for mine in ways
            if mine.startswith("edgevid")
        },
    }


def fps(played: dict) -> float:
    return played["frames"] / played["seconds"]


def middle(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def ratio(values: list[float]) -> dict:
    low, high = median_interval(values)
    return {"ratio": round(statistics.median(values), 3), "95": [round(low, 3), round(high, 3)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--yolo", help="the Python of an environment that has ultralytics")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, like = Path(name), None
        models = {"tflite": folder / "model.tflite"}
        models["tflite"].write_bytes(Bundle.open(options.bundle).files(options.artifact)["tflite"])
        if options.yolo:
            like = vendors.made(folder)
            models |= yolo_models(options.yolo, folder)
        results = [compare(options, like, models, height) for height in (720, 1080)]
    print(json.dumps({"results": results}, indent=2))


if __name__ == "__main__":
    main()
