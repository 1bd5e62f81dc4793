"""Reading and rewriting ``.tflite`` flatbuffers, with the classes generated from their schema."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeAlias

Table: TypeAlias = Any
"""A table of the flatbuffer, of a generated class."""


def parse(content: bytes) -> Table:
    """Read a ``.tflite`` file."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def pack(model: Table) -> bytes:
    """Write what `parse` returned."""
    import flatbuffers  # type: ignore[import-untyped]

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def kinds(model: Table) -> list[str]:
    """Return the name of each operator code of a model."""
    from ai_edge_litert import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    # Codes above 127 have a newer field of their own.
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return [names.get(code, f"operator {code}") for code in codes]


def value_range(tensor: Table) -> tuple[float, float] | None:
    """Return the smallest and the largest value that calibration saw; None if it is unknown."""
    known = tensor.quantization
    if known is None or known.min is None or known.max is None or not len(known.min):
        return None
    return float(known.min[0]), float(known.max[0])


def slice_splits(model: Table, left: Collection[str] = ()) -> int:
    """Replace each SPLIT that TensorFlow's quantiser mistreats by one SLICE for each used part.

    If a part is unused, the quantiser leaves the split in float or not by chance, from run to run:
    the first time step of an unrolled LSTM has one, since there is no cell state to keep yet. It
    also quantises splits that are to stay in float: ``left`` names their outputs.

    Returns:
        How many were replaced.
    """
    names = kinds(model)
    count = 0
    for graph in model.subgraphs:
        used = {int(i) for operator in graph.operators for i in operator.inputs}
        used |= {int(i) for i in graph.outputs}
        kept = []
        for operator in graph.operators:
            given = [int(i) for i in operator.outputs]
            stays = any(graph.tensors[i].name.decode() in left for i in given)
            is_split = names[operator.opcodeIndex] == "SPLIT"
            if not is_split or (used.issuperset(given) and not stays):
                kept.append(operator)
                continue
            kept += _slices(model, graph, operator, used)
            count += 1
        graph.operators = kept
    return count


def _slices(model: Table, graph: Table, split: Table, used: set[int]) -> Iterator[Table]:
    """Return one SLICE for each used output of a SPLIT into equal parts."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    where, source = (int(i) for i in split.inputs)
    shape = [int(n) for n in graph.tensors[source].shape]
    axis = int(np.frombuffer(bytes(model.buffers[graph.tensors[where].buffer].data), np.int32)[0])
    axis %= len(shape)
    size = [n // len(split.outputs) if k == axis else n for k, n in enumerate(shape)]
    for part, output in enumerate(split.outputs):
        if int(output) not in used:
            continue
        begin = [part * size[axis] if k == axis else 0 for k in range(len(shape))]
        operator = schema.OperatorT()
        operator.opcodeIndex = _slice_code(model)
        places = [source, _constant(model, graph, begin), _constant(model, graph, size)]
        operator.inputs = np.array(places, np.int32)
        operator.outputs = np.array([output], np.int32)
        operator.builtinOptionsType = schema.BuiltinOptions.SliceOptions
        operator.builtinOptions = schema.SliceOptionsT()
        yield operator


def _slice_code(model: Table) -> int:
    """Return the index of SLICE among the operator codes, added if needed."""
    from ai_edge_litert import schema_py_generated as schema

    names = kinds(model)
    if "SLICE" in names:
        return names.index("SLICE")
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SLICE
    code.version = 1
    model.operatorCodes.append(code)
    return len(names)


def _constant(model: Table, graph: Table, values: Sequence[int]) -> int:
    """Add an int32 constant; returns the index of its tensor."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(np.array(values, np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.name = f"slice_{len(graph.tensors)}".encode()
    tensor.shape = np.array([len(values)], np.int32)
    tensor.type = schema.TensorType.INT32
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
