"""TFLite: float32, and int8 with every product in integer arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from edgevid_converters.protocol import Operator

Table: TypeAlias = Any
"""A table of the flatbuffer, of classes that are generated."""

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

    def convert(
        self, saved_model: Path, trajectories: Mapping[str, Path], quantize: str
    ) -> dict[str, bytes]:
        """Lower with TensorFlow's converter; see `Converter.convert`.

        The frame is uint8 and the states float32 at the boundary in both quantisations.
        """
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(saved_model), signature_keys=[SIGNATURE]
        )
        if quantize == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: _samples(trajectories)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return {"tflite": converter.convert()}

    def float_ops(self, files: Mapping[str, bytes]) -> list[Operator]:
        """Walk the flatbuffer: what gives a float tensor and is more than a move."""
        model = _parse(files["tflite"])
        kinds = _kinds(model)
        found = []
        for graph in model.subgraphs:
            for operator in graph.operators:
                kind = kinds[operator.opcodeIndex]
                outputs = [graph.tensors[index] for index in operator.outputs]
                if kind not in MOVES and any(_is_float(tensor) for tensor in outputs):
                    name = outputs[0].name.decode(errors="replace")
                    found.append(Operator(kind, name, kind in PRODUCTS))
        return found

    def smallest_runtime(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Read the release of TensorFlow whose interpreter knows every operator version."""
        model = _parse(files["tflite"])
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


def _parse(content: bytes) -> Table:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def _kinds(model: Table) -> list[str]:
    """The name of each operator code of a model."""
    from ai_edge_litert import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    # Codes above 127 came later and have a field of their own.
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return [names.get(code, f"operator {code}") for code in codes]


def _is_float(tensor: Table) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    kinds = schema.TensorType
    return tensor.type in (kinds.FLOAT32, kinds.FLOAT16, kinds.FLOAT64)
