"""ONNX operators written in TensorFlow, one function each; `TABLE` lists them."""

from __future__ import annotations

from edgevid_converters.importers.onnx_operators import (
    activations,
    convolution,
    elementwise,
    gather,
    matrix,
    normalise,
    pooling,
    quantised,
    recurrent,
    reduce,
    resize,
    shapes,
)
from edgevid_converters.importers.onnx_operators.node import Lowering, OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import Operand, Unsupported, Value

__all__ = ["FAMILIES", "FOLDED", "LIMITS", "REMEDIES", "TABLE", "Lowering", "OnnxNode", "Operand"]
__all__ += ["Table", "Unsupported", "Value"]

FAMILIES: dict[str, Table] = {
    "Convolutions": convolution.OPERATORS,
    "Pools": pooling.OPERATORS,
    "Matrix products": matrix.OPERATORS,
    "Normalisations": normalise.OPERATORS,
    "Activations": activations.OPERATORS,
    "Single values": elementwise.OPERATORS,
    "Reductions": reduce.OPERATORS,
    "Shapes and moves": shapes.OPERATORS,
    "Resizing": resize.OPERATORS,
    "Choosing by index": gather.OPERATORS,
    "Recurrent layers": recurrent.OPERATORS,
    "Quantised models": quantised.OPERATORS,
}
TABLE: Table = {name: lower for table in FAMILIES.values() for name, lower in table.items()}
"""Operator -> the function that lowers it."""

LIMITS = {
    "AveragePool": "no dilations",
    "BatchNormalization": "evaluation mode",
    "Conv": "constant weights; one to three spatial axes",
    "ConvTranspose": "constant weights; one or two spatial axes",
    "CumSum": "a constant axis",
    "Dropout": "evaluation mode",
    "Expand": "a constant shape",
    "GRU": "constant weights, up to 128 time steps, whole sequences",
    "GatherND": "no batch_dims",
    "LRN": "an odd size, over images",
    "LSTM": "constant weights, up to 128 time steps, whole sequences",
    "LpPool": "no dilations; one or two spatial axes",
    "MaxPool": "no dilations, no indices",
    "OneHot": "a constant depth",
    "Pad": "constant pads",
    "RNN": "constant weights, up to 128 time steps, whole sequences",
    "Reshape": "a shape that follows from fixed sizes",
    "Resize": "every mode but tf_crop_and_resize",
    "ScatterElements": "no reduction, or add",
    "ScatterND": "no reduction, or add",
    "Slice": "constant bounds",
    "Tile": "constant repeats",
    "TopK": "a constant k",
}
"""Operator -> the part of it that is lowered, where that is not all."""

FOLDED = ("Constant", "ConstantOfShape", "EyeLike", "If", "NonZero", "Range")
"""Operators that are lowered where they follow from constants and fixed shapes alone; of an If
whose condition the input decides, both branches are computed if their outputs have equal sizes."""

SELECTING = "export the model without its final selection (NMS), which the task does itself"
DECIDED = "export the model so that no condition depends on its input"
UNROLL = "export the model with its loop unrolled, or as one step with states"
REMEDIES = {
    "If": DECIDED,
    "Loop": UNROLL,
    "NonMaxSuppression": SELECTING,
    "NonZero": SELECTING,
    "Scan": UNROLL,
    "Compress": SELECTING,
    "Unique": SELECTING,
}
"""Operators that cannot be lowered, and how to export a model without them."""
