"""TFLite: float32, and int8 with every product in integer arithmetic."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput
from edgevid_converters.flatbuffer import Table, kinds, pack, parse, slice_half_used_splits
from edgevid_converters.protocol import LayerError, Operator

SIGNATURE = "serving_default"
PRODUCTS = frozenset(
    {
        "BATCH_MATMUL",
        "CONV_2D",
        "CONV_3D",
        "CONV_3D_TRANSPOSE",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "TRANSPOSE_CONV",
    }
)
# Operators that move or regroup values, or bring them to and from integers, but compute nothing.
MOVES = frozenset(
    {
        "CONCATENATION",
        "DEQUANTIZE",
        "EXPAND_DIMS",
        "GATHER",
        "PACK",
        "PAD",
        "QUANTIZE",
        "RESHAPE",
        "SLICE",
        "SPLIT",
        "SPLIT_V",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TRANSPOSE",
        "UNPACK",
    }
)


class TFLite:
    """The format ``tflite``: one ``.tflite`` file."""

    name = "tflite"
    endings = ("tflite",)
    quantisations = ("float32", "int8")
    forms = ("saved_model", "tflite")

    def convert(
        self,
        lowered: Path,
        form: str,
        trajectories: Mapping[str, Path],
        quantize: str,
        keep: Collection[str] = (),
    ) -> dict[str, bytes]:
        """Lower with TensorFlow's converter; see `Converter.convert`.

        The frame is uint8 and the states float32 at the boundary in every quantisation. What is
        TFLite already stays as it is in float32.
        """
        if keep:
            raise NotImplementedError("layers cannot be kept yet")
        if form == "tflite":
            return {"tflite": _requantised(lowered.read_bytes(), quantize)}
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(lowered), signature_keys=[SIGNATURE]
        )
        if quantize == "float32":
            return {"tflite": converter.convert()}
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _samples(trajectories)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter._experimental_calibrate_only = True  # to mend the graph before it is quantised
        return {"tflite": _quantised(converter.convert())}

    def layer_errors(
        self, lowered: Path, form: str, trajectories: Mapping[str, Path]
    ) -> list[LayerError]:
        """Not yet; see `Converter.layer_errors`."""
        raise NotImplementedError

    def float_ops(self, files: Mapping[str, bytes]) -> list[Operator]:
        """Walk the flatbuffer: what gives a float tensor and is more than a move."""
        model = parse(files["tflite"])
        names = kinds(model)
        found = []
        for graph in model.subgraphs:
            for operator in graph.operators:
                kind = names[operator.opcodeIndex]
                outputs = [graph.tensors[index] for index in operator.outputs]
                if kind not in MOVES and any(_is_float(tensor) for tensor in outputs):
                    name = outputs[0].name.decode(errors="replace")
                    found.append(Operator(kind, name, kind in PRODUCTS))
        return found

    def smallest_runtime(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Read the release of TensorFlow whose interpreter knows every operator version."""
        model = parse(files["tflite"])
        for entry in model.metadata or []:
            if entry.name == b"min_runtime_version":
                content = bytes(model.buffers[entry.buffer].data)
                return {"tflite": content.rstrip(b"\0").decode()}
        return {}


def _samples(trajectories: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Each recorded step, keyed by input name: the converter orders inputs by itself."""
    import numpy as np

    arrays = {name: np.load(path, mmap_mode="r") for name, path in trajectories.items()}
    for step in range(len(next(iter(arrays.values())))):
        yield {name: np.array(values[step]) for name, values in arrays.items()}


def _requantised(content: bytes, quantize: str) -> bytes:
    """What is made of a float ``.tflite`` itself, without the model that it came from."""
    if quantize != "float32":
        raise BadInput(f"a .tflite cannot be made {quantize}; use --quantize float32")
    return content


def _quantised(calibrated: bytes) -> bytes:
    """Quantise a model that carries the ranges of its tensors."""
    from tensorflow.lite.python.convert import mlir_quantize

    model = parse(calibrated)
    slice_half_used_splits(model)
    content: bytes = mlir_quantize(pack(model))
    return content


def _is_float(tensor: Table) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    floats = schema.TensorType
    return tensor.type in (floats.FLOAT32, floats.FLOAT16, floats.FLOAT64)
