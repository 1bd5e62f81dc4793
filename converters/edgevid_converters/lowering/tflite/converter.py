"""TFLite artifacts: float, and integers with every product in integer arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid_converters.library_errors import lowering_reason
from edgevid_converters.lowering.protocol import Converter, LayerError, Operator
from edgevid_converters.lowering.tflite import metadata as tflite_metadata
from edgevid_converters.lowering.tflite.flatbuffer import Table, kinds, parse
from edgevid_converters.lowering.tflite.integers import (
    PRODUCTS,
    calibrated,
    layer_errors,
    outputs_of,
    quantize_int8,
    quantize_int16x8,
)
from edgevid_converters.lowering.tflite.quantisation import quantisation_of
from edgevid_converters.lowering.tflite.versions import needed
from edgevid_converters.lowering.tflite.weights import to_dynamic, to_float16, to_float32
from edgevid_converters.lowering.tflite.work import work_of

SIGNATURE = "serving_default"
# Operators that move or regroup values, or convert them to or from integers.
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

QUANTISABLE = PRODUCTS - {"CONV_3D", "CONV_3D_TRANSPOSE"} | {
    "ADD",
    "AVERAGE_POOL_2D",
    "CAST",
    "HARD_SWISH",
    "LOGISTIC",
    "MAX_POOL_2D",
    "MEAN",
    "MUL",
    "RELU",
    "RELU6",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "SOFTMAX",
    "SUB",
    "TANH",
}
"""Operators that TensorFlow's quantiser always brings to int8."""


class TFLite(Converter):
    """The format ``tflite``: one ``.tflite`` file.

    Every artifact is made from one float file: TensorFlow's converter runs once.
    """

    name = "tflite"
    endings = ("tflite",)
    quantisations = ("float32", "float16", "dynamic", "int8", "int16x8")
    forms = ("tflite", "saved_model")
    leaves = "TensorFlow's quantiser has no int8 form of them"

    def __init__(self) -> None:
        self._floats: dict[Path, bytes] = {}
        self._ranges: dict[Path, bytes] = {}

    def convert(
        self,
        lowered: Path,
        form: str,
        trajectories: Mapping[str, Path],
        quantize: str,
        keep: Collection[str] = (),
    ) -> dict[str, bytes]:
        """Lower with TensorFlow's converter; see `Converter.convert`.

        Frames are uint8 and states float32 at the boundary in every quantisation. In float32, and
        in the quantisation that it has already, a ``.tflite`` stays as it is.
        """
        if form == "tflite":
            content = lowered.read_bytes()
            if quantize in ("float32", quantisation_of(parse(content))):
                return {"tflite": content}
        content = self._float(lowered, form)
        if quantize == "float32":
            return {"tflite": content}
        if quantize == "float16":
            return {"tflite": to_float16(content)}
        if quantize == "dynamic":
            return {"tflite": to_dynamic(content)}
        if quantize == "int16x8":
            return {"tflite": quantize_int16x8(content, lambda: _samples(trajectories))}
        return {"tflite": quantize_int8(self._calibrated(lowered, form, trajectories), keep)}

    def describe(self, files: Mapping[str, bytes], contract: Contract) -> dict[str, bytes]:
        """Add TFLite Metadata; see `Converter.describe`."""
        return {"tflite": tflite_metadata.described(files["tflite"], contract)}

    def layer_errors(
        self, lowered: Path, form: str, trajectories: Mapping[str, Path]
    ) -> list[LayerError]:
        """Quantise each layer alone; see `Converter.layer_errors`."""
        ranges = self._calibrated(lowered, form, trajectories)
        return layer_errors(self._float(lowered, form), ranges, lambda: _samples(trajectories))

    def operators_of(self, lowered: Path, form: str, layers: Collection[str]) -> frozenset[str]:
        """The operators of layers, by their outputs; see `Converter.operators_of`."""
        return outputs_of(self._float(lowered, form), layers)

    def _float(self, lowered: Path, form: str) -> bytes:
        if lowered not in self._floats:
            make = _plain if form == "tflite" else saved_model_to_tflite
            self._floats[lowered] = self.kept("float", lambda: make(lowered))
        return self._floats[lowered]

    def _calibrated(self, lowered: Path, form: str, trajectories: Mapping[str, Path]) -> bytes:
        if lowered not in self._ranges:
            content = self._float(lowered, form)
            self._ranges[lowered] = self.kept(
                "ranges", lambda: calibrated(content, lambda: _samples(trajectories))
            )
        return self._ranges[lowered]

    def float_ops(self, files: Mapping[str, bytes]) -> list[Operator]:
        """Walk the flatbuffer: operators with float outputs that do more than move values."""
        model = parse(files["tflite"])
        names = kinds(model)
        found, total = [], 0
        for graph in model.subgraphs:
            for operator in graph.operators:
                kind = names[operator.opcodeIndex]
                if kind in MOVES:
                    continue
                work = work_of(graph, kind, operator)
                total += work
                outputs = [graph.tensors[index] for index in operator.outputs]
                if any(_is_float(tensor) for tensor in outputs):
                    name = outputs[0].name.decode(errors="replace")
                    stray = kind != "CAST"  # casts the uint8 frame
                    found.append((Operator(kind, name, kind in PRODUCTS, stray), work))
        return [replace(operator, share=work / max(1, total)) for operator, work in found]

    def predicted_float_ops(
        self, lowered: Path, form: str, trajectories: Mapping[str, Path]
    ) -> list[Operator]:
        """Quantise with the ranges of one step; see `Converter.predicted_float_ops`.

        A model whose operators all have an int8 form is not tried.
        """
        content = self._float(lowered, form)
        if set(kinds(parse(content))) <= MOVES | QUANTISABLE:
            return []
        ranges = calibrated(content, lambda: islice(_samples(trajectories), 1))
        return self.float_ops({"tflite": quantize_int8(ranges)})

    def smallest_runtime(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Read the release of TensorFlow whose interpreter knows every operator version.

        For a file that does not record it, it is derived from the operators.
        """
        model = parse(files["tflite"])
        for entry in model.metadata or []:
            if entry.name == b"min_runtime_version":
                content = bytes(model.buffers[entry.buffer].data)
                if recorded := content.rstrip(b"\0").decode():
                    return {"tflite": recorded}
        return {"tflite": needed(model)}

    def operators(self, lowered: Path, form: str) -> dict[str, int]:
        """Count the kinds of operators of the float model; see `Converter.operators`."""
        model = parse(self._float(lowered, form))
        names = kinds(model)
        return dict(
            Counter(names[op.opcodeIndex] for graph in model.subgraphs for op in graph.operators)
        )


def _samples(trajectories: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Yield each recorded step by input name: the converter orders inputs by itself."""
    import numpy as np

    arrays = {name: np.load(path, mmap_mode="r") for name, path in trajectories.items()}
    for step in range(len(next(iter(arrays.values())))):
        yield {name: np.array(values[step]) for name, values in arrays.items()}


def saved_model_to_tflite(saved_model: Path) -> bytes:
    """Lower a SavedModel's step in float32.

    Raises:
        BadInput: TensorFlow's converter has no operator for a layer.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model), signature_keys=[SIGNATURE]
    )
    try:
        content: bytes = converter.convert()
    except Exception as error:  # noqa: BLE001 - it raises its own error, and whatever breaks in it
        raise BadInput(
            f"TensorFlow cannot lower the model to TFLite: {lowering_reason(error)}; replace that "
            "layer, or convert the model for OpenVINO: -f openvino"
        ) from None
    return content


def _plain(file: Path) -> bytes:
    """Read a ``.tflite`` with plain float32 weights; raises `BadInput` if it is quantised."""
    content = file.read_bytes()
    model = parse(content)
    if any(tensor.type in _integers() for graph in model.subgraphs for tensor in graph.tensors):
        raise BadInput(
            f"the .tflite is {quantisation_of(model)} already, at least in parts, and cannot be "
            "quantised again; leave out --quantize, or give the float model that it was made from"
        )
    return to_float32(content)


def _integers() -> tuple[int, ...]:
    from ai_edge_litert import schema_py_generated as schema

    return (schema.TensorType.INT8, schema.TensorType.INT16)


def _is_float(tensor: Table) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    floats = schema.TensorType
    return tensor.type in (floats.FLOAT32, floats.FLOAT16, floats.FLOAT64)
