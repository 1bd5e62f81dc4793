"""What a ``.tflite`` that is quantised already computes in."""

from __future__ import annotations

from collections import Counter

from edgevid_converters.lowering.tflite.flatbuffer import Table, kinds
from edgevid_converters.lowering.tflite.integers import PRODUCTS


def quantisation_of(model: Table) -> str:
    """Name the quantisation of a model by its operators: by what most of its products compute in.

    Inputs and outputs say nothing: a model of integers may have float ones, and vice versa.

    Returns:
        ``int8``, ``int16x8``, ``dynamic`` (integer weights only), ``float16`` (weights) or
        ``float32``.
    """
    from ai_edge_litert import schema_py_generated as schema

    types, names = schema.TensorType, kinds(model)
    small = (types.INT8, types.UINT8, types.INT4)
    activations = {types.INT8: "int8", types.UINT8: "int8", types.INT16: "int16x8"}
    products: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            kind = names[operator.opcodeIndex]
            taken = [graph.tensors[int(i)] for i in operator.inputs if i >= 0]
            if kind == "DEQUANTIZE" and model.buffers[taken[0].buffer].data is not None:
                stored["float16" if taken[0].type == types.FLOAT16 else "dynamic"] += 1
            if kind not in PRODUCTS:
                continue
            values, weights = (2, 1) if kind == "TRANSPOSE_CONV" else (0, 1)
            whole = activations.get(taken[values].type)
            weight_only = "dynamic" if taken[weights].type in small else "float32"
            products[whole or weight_only] += 1
    found = max(products, key=lambda name: products[name], default="float32")
    if found == "float32" and stored:
        return stored.most_common(1)[0][0]
    return found
