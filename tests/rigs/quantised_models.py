"""The tiny classifier of `rigs.models`, quantised by the tools that people use for it.

    python -m rigs.quantised_models FOLDER

writes the files; see `KINDS`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rigs import models

KINDS = {
    "nncf.xml": "int8",
    "weights.xml": "dynamic",
    "plain.xml": "float32",
    "qdq.onnx": "int8",
    "unsigned.onnx": "int8",
    "operators.onnx": "int8",
    "rounded.onnx": "dynamic",
    "dynamic.onnx": "dynamic",
    "plain.onnx": "float32",
}
"""File -> what it computes in."""


def given(frame: np.ndarray) -> dict[str, np.ndarray]:
    """The model's own input for a frame, uint8 (1, H, W, 3)."""
    values = (frame[..., ::-1] / models.SCALE - np.array(models.MEAN)) / np.array(models.STD)
    return {"frame": values.transpose(0, 3, 1, 2).astype(np.float32)}


def write_all(folder: Path) -> None:
    """Write every model."""
    import onnx

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (30, 1, models.HEIGHT, models.WIDTH, 3))
    samples = [given(frame) for frame in (*noise, *models.frames())]
    onnx.save(models.onnx_classifier(), folder / "plain.onnx")
    _by_onnx_runtime(folder, samples)
    _by_nncf(folder, samples)


def _by_onnx_runtime(folder: Path, samples: list[dict[str, np.ndarray]]) -> None:
    import onnx
    from onnx import helper
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self):
            return next(self.left, None)

    def static(name: str, **options) -> None:
        q.quantize_static(folder / "plain.onnx", folder / name, Reader(), **options)

    static("qdq.onnx", quant_format=q.QuantFormat.QDQ)
    unsigned = {"activation_type": q.QuantType.QUInt8, "per_channel": True}
    static("unsigned.onnx", quant_format=q.QuantFormat.QDQ, **unsigned)
    static("operators.onnx", quant_format=q.QuantFormat.QOperator)
    q.quantize_dynamic(folder / "plain.onnx", folder / "dynamic.onnx")
    # training that rounds weights alone: float weights, quantised and dequantised in the graph
    model = onnx.load(folder / "plain.onnx")
    nodes = list(model.graph.node)
    for node in (nodes[0], nodes[4]):
        name = node.input[1]
        ends = [name, "scale"], [f"{name}/q"], [f"{name}/q", "scale"], [f"{name}/d"]
        front = [
            helper.make_node("QuantizeLinear", [*ends[0], "zero"], ends[1]),
            helper.make_node("DequantizeLinear", [*ends[2], "zero"], ends[3]),
        ]
        node.input[1] = f"{name}/d"
        nodes = [*front, *nodes]
    for name, value in {"scale": np.float32(0.02), "zero": np.int8(0)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "rounded.onnx")


def _by_nncf(folder: Path, samples: list[dict[str, np.ndarray]]) -> None:
    import nncf
    import openvino

    def save(model, name: str) -> None:
        openvino.save_model(model, folder / name, compress_to_fp16=False)

    def plain():
        return openvino.convert_model(folder / "plain.onnx")

    save(plain(), "plain.xml")
    values = [one["frame"] for one in samples]
    save(nncf.quantize(plain(), nncf.Dataset(values), subset_size=len(values)), "nncf.xml")
    save(nncf.compress_weights(plain(), mode=nncf.CompressWeightsMode.INT8_ASYM), "weights.xml")


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
