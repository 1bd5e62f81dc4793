"""A valid ``.tflite`` of a few hundred bytes that takes gigabytes: a number, spread and summed."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

SIDE = 40_000
"""It makes a float32 square of this side: 6.4 GB."""


def greedy_model(side: int = SIDE) -> bytes:
    """Build it: ``x`` (1, 1) -> ``scores`` (1, 1), through a tensor of (side, side)."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [_buffer(b""), _buffer(np.array([side, side], np.int32).tobytes())]
    model.buffers.append(_buffer(np.array([0, 1], np.int32).tobytes()))
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("x", (1, 1)),
        _tensor("shape", (2,), schema.TensorType.INT32, 1),
        _tensor("square", (side, side)),
        _tensor("axes", (2,), schema.TensorType.INT32, 2),
        _tensor("scores", (1, 1)),
    ]
    graph.inputs, graph.outputs = [0], [4]
    add_up = schema.ReducerOptionsT()
    add_up.keepDims = True
    graph.operators = [_operator(0, [0, 1], [2]), _operator(1, [2, 3], [4])]
    graph.operators[1].builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    graph.operators[1].builtinOptions = add_up
    model.subgraphs = [graph]
    kinds = (schema.BuiltinOperator.BROADCAST_TO, schema.BuiltinOperator.SUM)
    model.operatorCodes = [_code(kind) for kind in kinds]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [_named("x", 0)], [_named("scores", 4)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _buffer(content: bytes) -> schema.BufferT:
    made = schema.BufferT()
    made.data = np.frombuffer(content, np.uint8) if content else None
    return made


def _tensor(name: str, shape: tuple[int, ...], kind: int = 0, buffer: int = 0) -> schema.TensorT:
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = name, list(shape), kind, buffer
    return made


def _named(name: str, index: int) -> schema.TensorMapT:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, index
    return made


def _operator(code: int, inputs: list[int], outputs: list[int]) -> schema.OperatorT:
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, inputs, outputs
    return made


def _code(kind: int) -> schema.OperatorCodeT:
    made = schema.OperatorCodeT()
    made.builtinCode, made.deprecatedBuiltinCode = kind, min(kind, 127)
    made.version = 2
    return made
