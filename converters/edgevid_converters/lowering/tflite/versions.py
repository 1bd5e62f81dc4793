"""Which release of TensorFlow first had an operator in a version.

If a ``.tflite`` records its smallest runtime, that counts; this is for files that do not. Versions
that every runtime in use has are left out.
"""

from __future__ import annotations

from edgevid_converters.lowering.tflite.flatbuffer import Table, kinds

SINCE: dict[str, dict[int, str]] = {
    "ABS": {4: "2.6.0"},
    "ADD": {4: "2.6.0"},
    "ARG_MAX": {3: "2.9.0"},
    "ARG_MIN": {3: "2.9.0"},
    "ATAN2": {1: "2.10.0"},
    "BUCKETIZE": {1: "2.8.0"},
    "CAST": {2: "2.7.0", 3: "2.8.0", 4: "2.9.0"},
    "CONV_2D": {6: "2.9.0"},
    "DEQUANTIZE": {5: "2.7.0"},
    "DYNAMIC_UPDATE_SLICE": {1: "2.9.0"},
    "FULLY_CONNECTED": {12: "2.17.0"},
    "GELU": {1: "2.9.0"},
    "MUL": {5: "2.6.0"},
    "MULTINOMIAL": {1: "2.8.0"},
    "PAD": {4: "2.6.0"},
    "PADV2": {4: "2.6.0"},
    "QUANTIZE": {3: "2.7.0"},
    "RANDOM_STANDARD_NORMAL": {1: "2.8.0"},
    "RANDOM_UNIFORM": {1: "2.8.0"},
    "READ_VARIABLE": {1: "2.6.0"},
    "RELU_0_TO_1": {1: "2.10.0"},
    "STRIDED_SLICE": {6: "2.6.0"},
    "TILE": {3: "2.8.0"},
    "UNSORTED_SEGMENT_MIN": {1: "2.11.0"},
    "WHERE": {2: "2.8.0"},
}
OLDEST = "2.5.0"


def needed(model: Table) -> str:
    """Return the release that a model's operators need; `OLDEST` if any will do."""
    found = [OLDEST]
    for kind, code in zip(kinds(model), model.operatorCodes, strict=True):
        known = SINCE.get(kind, {})
        found += [known[version] for version in known if version <= code.version]
    return max(found, key=lambda text: [int(part) for part in text.split(".")])
