"""Smaller weights for a float ``.tflite``: float16, or int8 with a scale for each channel.

Both are written into the file itself, so they do not depend on where the model came from, and give
the same bytes every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgevid_converters.lowering.tflite.flatbuffer import Table, kinds, pack, parse

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_ELEMENTS = 1024
"""Smaller weights stay in float: int8 saves nothing and costs accuracy."""
RUNTIME_KEY = b"min_runtime_version"
# Operators that take int8 weights with float values: the axis of their channels, the operator
# version that has a scale for each channel, and the release that introduced it.
HYBRID = {
    "CONV_2D": (0, 5, "2.4.0"),
    "DEPTHWISE_CONV_2D": (3, 6, "2.3.0"),
    "FULLY_CONNECTED": (0, 12, "2.17.0"),
}
HALVES_SINCE = "1.15.0"
HALF_DEQUANTIZE_VERSION = 3


def to_float16(content: bytes) -> bytes:
    """Store every float constant in float16; the runtime expands it when it loads."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = parse(content)
    code = _code(model, "DEQUANTIZE", HALF_DEQUANTIZE_VERSION)
    for graph in model.subgraphs:
        made = []
        for index in sorted({int(i) for operator in graph.operators for i in operator.inputs}):
            values = constant(model, graph, index)
            if values is None:
                continue
            tensor = graph.tensors[index]
            small = _tensor(tensor.name + b"_half", tensor.shape, schema.TensorType.FLOAT16)
            small.buffer = _buffer(model, values.astype(np.float16).tobytes())
            graph.tensors.append(small)
            tensor.buffer = 0
            operator = schema.OperatorT()
            operator.opcodeIndex = code
            operator.inputs = np.array([len(graph.tensors) - 1], np.int32)
            operator.outputs = np.array([index], np.int32)
            made.append(operator)
        graph.operators = made + list(graph.operators)
    return _packed(model, HALVES_SINCE)


def to_dynamic(content: bytes) -> bytes:
    """Store large weights as int8 with a scale for each channel; values stay in float."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = parse(content)
    names = kinds(model)
    since = ["1.5.0"]
    for graph in model.subgraphs:
        shrunk: dict[int, int] = {}
        for operator, kind in _hybrids(graph, names):
            axis, version, release = HYBRID[kind]
            index = int(operator.inputs[1])
            known = shrunk.get(index) == axis
            values = None if known else constant(model, graph, index)
            if not known and (values is None or not _may_shrink(graph, names, index, values)):
                continue
            if values is not None:
                whole, scale = _rounded(values, axis)
                tensor = graph.tensors[index]
                tensor.type = schema.TensorType.INT8
                tensor.buffer = _buffer(model, whole.tobytes())
                tensor.quantization = schema.QuantizationParametersT()
                tensor.quantization.scale = scale
                tensor.quantization.zeroPoint = np.zeros(len(scale), np.int64)
                tensor.quantization.quantizedDimension = axis
                shrunk[index] = axis
            operator.opcodeIndex = _code(model, kind, version)
            if kind == "FULLY_CONNECTED":
                operator.builtinOptions.asymmetricQuantizeInputs = True
            since.append(release)
    return _packed(model, max(since, key=_release))


def to_float32(content: bytes) -> bytes:
    """Expand float16 constants to float32, so that later stages see plain weights."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = parse(content)
    names = kinds(model)
    for graph in model.subgraphs:
        kept = []
        for operator in graph.operators:
            source = graph.tensors[int(operator.inputs[0])] if len(operator.inputs) else None
            data = model.buffers[source.buffer].data if source is not None else None
            is_half = source is not None and source.type == schema.TensorType.FLOAT16
            if names[operator.opcodeIndex] != "DEQUANTIZE" or not is_half or data is None:
                kept.append(operator)
                continue
            values = np.frombuffer(bytes(data), np.float16).astype(np.float32)
            graph.tensors[int(operator.outputs[0])].buffer = _buffer(model, values.tobytes())
        graph.operators = kept
    _drop_unused_codes(model)
    return pack(model)


def constant(model: Table, graph: Table, index: int) -> NDArray[Any] | None:
    """Return the values of a constant tensor, float32 of its shape; None for any other."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    if index < 0:
        return None
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) == 0:
        return None
    return np.frombuffer(bytes(data), np.float32).reshape([int(n) for n in tensor.shape])


def _hybrids(graph: Table, names: list[str]) -> Iterator[tuple[Table, str]]:
    for operator in graph.operators:
        if names[operator.opcodeIndex] in HYBRID:
            yield operator, names[operator.opcodeIndex]


def _may_shrink(graph: Table, names: list[str], index: int, values: NDArray[Any]) -> bool:
    """Whether weights are large enough, finite, and the weights of one kind of operator only."""
    import numpy as np

    users = {
        names[operator.opcodeIndex] if place == 1 else "other"
        for operator in graph.operators
        for place, i in enumerate(operator.inputs)
        if int(i) == index
    }
    one = len(users) == 1 and users <= HYBRID.keys()
    return one and values.size >= LEAST_ELEMENTS and bool(np.isfinite(values).all())


def _rounded(values: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return int8 values in -127..127, and the scale of each channel."""
    import numpy as np

    others = tuple(k for k in range(values.ndim) if k != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = (np.where(largest == 0, 1.0, largest) / 127).astype(np.float32)
    whole = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
    return whole, scale.reshape(-1)


def _code(model: Table, kind: str, version: int) -> int:
    """Return the index of an operator code in a version, added if needed."""
    from ai_edge_litert import schema_py_generated as schema

    for index, (name, code) in enumerate(zip(kinds(model), model.operatorCodes, strict=True)):
        if name == kind and code.version == version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _tensor(name: bytes, shape: Any, kind: int) -> Table:
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name, shape, kind
    return tensor


def _buffer(model: Table, data: bytes) -> int:
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _packed(model: Table, since: str) -> bytes:
    """Write the model without unused buffers, with the release that can read it."""
    for entry in model.metadata or []:
        if entry.name == RUNTIME_KEY:
            recorded = bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()
            newest = max(recorded, since, key=_release)
            entry.buffer = _buffer(model, newest.encode().ljust(16, b"\0"))
    _drop_unused(model)
    return pack(model)


def _drop_unused_codes(model: Table) -> None:
    """Renumber the operator codes: interpreters reject unknown ones even if they are unused."""
    operators = [operator for graph in model.subgraphs for operator in graph.operators]
    used = sorted({int(operator.opcodeIndex) for operator in operators})
    for operator in operators:
        operator.opcodeIndex = used.index(int(operator.opcodeIndex))
    model.operatorCodes = [model.operatorCodes[index] for index in used]


def _drop_unused(model: Table) -> None:
    """Renumber the buffers; the first one is empty by convention."""
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    holders = [*tensors, *(model.metadata or [])]
    used = sorted({0, *(int(holder.buffer) for holder in holders)})
    places = {old: new for new, old in enumerate(used)}
    for holder in holders:
        holder.buffer = places[int(holder.buffer)]
    model.buffers = [model.buffers[old] for old in used]
    if model.metadataBuffer is not None:
        model.metadataBuffer = None


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
