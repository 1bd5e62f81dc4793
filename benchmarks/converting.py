"""Every model of the project in int8, within --max-drop 0.01. Prints one JSON document.

    python benchmarks/accuracy.py --recipe demo --work DIR      first; also with --model cnn
                                                                and with --temporal carry
    python benchmarks/converting.py --work DIR

Each run is converted to both formats. What int8 breaks is repaired, or listed if it cannot be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgevid.errors import CheckFailed
from edgevid_converters import convert

RUNS = ("demo-cnn", "demo-cnn-lstm", "demo-cnn-lstm-carry")
MAX_DROP = 0.01


def main() -> None:
    options = _options()
    names = options.run or RUNS
    told = {name: measure(options.work / name, options.data) for name in names}
    print(json.dumps({"max_drop": MAX_DROP, "runs": told}, indent=2))


def measure(run: Path, data: Path | None) -> dict[str, Any]:
    """Convert a run to each format separately, so that one failure does not hide the other."""
    return {name: _converted(run, name, data) for name in ("tflite", "openvino")}


def _converted(run: Path, format_name: str, data: Path | None) -> dict[str, Any]:
    started = time.perf_counter()
    print(f"{run.name} to {format_name}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            told = convert(
                run,
                formats=[format_name],
                quantize=["float32", "int8"],
                calibrate=data,
                data=data,
                out=Path(folder) / "x.edgevid",
                max_drop=MAX_DROP,
            ).to_json()
        except CheckFailed as refused:
            return {"refused": str(refused)}
    sizes = {artifact["quantize"]: artifact["bytes"] for artifact in told["artifacts"]}
    metric = next(a["metric"] for a in told["artifacts"] if a["quantize"] == "int8")
    repair = next(iter(told["repairs"].values()), None)
    return {
        "metric": metric,
        "bytes": sizes,
        "size_ratio": round(sizes["int8"] / sizes["float32"], 3),
        "repair": repair and {key: repair[key] for key in ("reason", "kept", "rungs")},
        "notes": told["notes"],
        "seconds": round(time.perf_counter() - started, 1),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/accuracy"))
    parser.add_argument("--run", action="append", help="A run's folder in WORK; all by default.")
    parser.add_argument("--data", type=Path, help="Where the data is now, if it was moved.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
