"""Models from other projects, converted to float, against their own runtimes.

    python benchmarks/others.py

A face detector (.tflite), a text detector (.onnx) and a voice detector with state (.onnx), fetched
from the package index, each converted to both formats and run on real images and sound. Prints one
JSON document: the largest difference of any output or state from what LiteRT or ONNX Runtime gives
for the original file, with its input prepared by hand.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgevid.bundle import Bundle
from edgevid_converters import convert

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for the rigs
from rigs import third_party_models


def main() -> None:
    print(json.dumps({name: measure(name) for name in third_party_models.MODELS}, indent=2))


def measure(name: str) -> dict[str, Any]:
    """Convert one model and compare every artifact with the original runtime."""
    print(name, file=sys.stderr, flush=True)
    package, version, member, sha256 = third_party_models.MODELS[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        contract, out = folder / "contract.toml", folder / "x.edgevid"
        contract.write_text(third_party_models.CONTRACTS[name])
        begun = time.perf_counter()
        told = convert(
            third_party_models.model(name),
            quantize=["float32"],
            calibrate=third_party_models.calibration(name, folder),
            contract=contract,
            out=out,
        ).to_json()
        taken_s = time.perf_counter() - begun
        found = third_party_models.differences(name, Bundle.open(out))
    return {
        "from": f"{package} {version}: {member}",
        "sha256": sha256,
        "inputs": len(third_party_models.inputs(name)),
        "largest_difference": {one: float(f"{worst:.3g}") for one, worst in found.items()},
        "bytes": {one["name"]: one["bytes"] for one in told["artifacts"]},
        "seconds": round(taken_s, 1),
    }


if __name__ == "__main__":
    main()
