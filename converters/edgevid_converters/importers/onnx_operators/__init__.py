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

__all__ = ["FAMILIES", "FOLDED", "REMEDIES", "TABLE", "Lowering", "OnnxNode", "Operand"]
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

FOLDED = ("Constant", "ConstantOfShape", "EyeLike", "If", "NonZero", "Range")
"""Operators that are lowered where they follow from constants and fixed shapes alone; of an If
whose condition the input decides, both branches are computed if their outputs have equal sizes."""

SELECTING = "export the model without its last, selecting part (NMS), which the task does itself"
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
