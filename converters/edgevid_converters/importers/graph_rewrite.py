"""New inputs and outputs for a ``.tflite`` model, written into the flatbuffer itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput
from edgevid_converters.importers.preprocessing import ImageMapping, TensorMapping
from edgevid_converters.lowering.tflite.flatbuffer import Table, kinds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGNATURE = "serving_default"


class GraphRewrite:
    """Rewrites the first graph of a parsed model.

    New operators in front of an input write into the tensor that was the input, so that nothing
    behind it changes.
    """

    def __init__(self, model: Table) -> None:
        self._model, self._graph = model, model.subgraphs[0]
        self._front: list[Table] = []
        self._back: list[Table] = []

    # ------------------------------------------------------------ inputs

    def fix(self, name: str, value: NDArray[Any]) -> None:
        """Replace an input by a constant, an array of the input's shape and dtype."""
        tensor = self._graph.tensors[self._input(name)]
        tensor.buffer = self._buffer(value)

    def take(self, one: TensorMapping) -> int:
        """Make an input float32 under the contract's name; returns its tensor."""
        old = self._input(one.own)
        if one.dtype == "float32":
            self._graph.tensors[old].name = one.name.encode()
            return old
        new = self._tensor(one.name, one.shape, "float32")
        self._front.append(self._cast(new, old))
        return new

    def take_frame(self, image: ImageMapping) -> int:
        """Put the arithmetic of ``image`` between a uint8 RGB frame and an input."""
        old = self._input(image.input)
        shape = tuple(int(n) for n in self._graph.tensors[old].shape)
        nchw = image.layout == "nchw"
        if nchw:
            shape = (shape[0], *shape[2:], shape[1])
        new = at = self._tensor(image.name, shape, "uint8")
        if image.colour == "bgr":
            at = self._then("GATHER", [at, self._constant([2, 1, 0], "int32")], shape, "uint8")
        if image.computes:
            first, second = image.factors
            at = self._to(at, shape, "uint8", "float32")
            if any(factor != 1.0 for factor in first):
                at = self._then("MUL", [at, self._constant(first, "float32")], shape, "float32")
            if any(second):
                at = self._then("ADD", [at, self._constant(second, "float32")], shape, "float32")
            at = self._to(at, shape, "float32", image.dtype)
        else:
            at = self._to(at, shape, "uint8", image.dtype)
        if nchw:
            order = self._constant([0, 3, 1, 2], "int32")
            self._front.append(self._operator("TRANSPOSE", [at, order], old))
        elif at == new:  # the model takes the frame as it is
            self._graph.tensors[old].name = image.name.encode()
            return old
        else:
            self._front[-1].outputs = _indices([old])
            self._graph.tensors.pop()  # the one that the last operator wrote before
        return new

    def _then(self, kind: str, inputs: Sequence[int], shape: Sequence[int], dtype: str) -> int:
        new = self._tensor(f"edgevid/{kind.lower()}", shape, dtype)
        self._front.append(self._operator(kind, inputs, new))
        return new

    def _to(self, at: int, shape: Sequence[int], dtype: str, wanted: str) -> int:
        if dtype == wanted:
            return at
        new = self._tensor(f"edgevid/{wanted}", shape, wanted)
        self._front.append(self._cast(at, new))
        return new

    # ------------------------------------------------------------ outputs

    def give(self, one: TensorMapping) -> int:
        """Make an output float32 under the contract's name; returns its tensor."""
        at = self._place(self._graph.outputs, one.own)
        kind = "SOFTMAX" if one.softmax else "RESHAPE"
        if one.dtype != "float32":
            kind_of = self._tensor(f"edgevid/{one.name}", one.shape, "float32")
            self._back.append(self._cast(at, kind_of))
            at = kind_of
        new = self._tensor(one.name, one.shape, "float32")
        extra = [] if one.softmax else [self._constant(one.shape, "int32")]
        self._back.append(self._operator(kind, [at, *extra], new))
        return new

    # ------------------------------------------------------------ the whole

    def sign(self, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]) -> None:
        """Set the graph's inputs and outputs, and its only signature."""
        from ai_edge_litert import schema_py_generated as schema

        graph = self._graph
        graph.operators = [*self._front, *graph.operators, *self._back]
        graph.inputs = _indices([index for _, index in inputs])
        graph.outputs = _indices([index for _, index in outputs])
        self._rename_others({index for _, index in (*inputs, *outputs)})
        signature = schema.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.subgraphIndex = 0
        signature.inputs = [_named(name, index) for name, index in inputs]
        signature.outputs = [_named(name, index) for name, index in outputs]
        self._model.signatureDefs = [signature]

    def drop_unused(self) -> None:
        """Remove the tensors that nothing reads or writes, with their buffers.

        Only for a model with one graph: others may share the buffers.
        """
        if len(self._model.subgraphs) > 1:
            return
        graph = self._graph
        lists = [graph.inputs, graph.outputs]
        lists += [tensors for operator in graph.operators for tensors in _tensors_of(operator)]
        used = sorted({int(index) for tensors in lists for index in tensors if index >= 0})
        place = {old: new for new, old in enumerate(used)} | {-1: -1}
        graph.inputs, graph.outputs = (
            _indices([place[int(i)] for i in tensors]) for tensors in (graph.inputs, graph.outputs)
        )
        for operator in graph.operators:
            for key in ("inputs", "outputs", "intermediates"):
                tensors = getattr(operator, key)
                if tensors is not None:
                    setattr(operator, key, _indices([place[int(i)] for i in tensors]))
        for entry in (*self._model.signatureDefs[0].inputs, *self._model.signatureDefs[0].outputs):
            entry.tensorIndex = place[entry.tensorIndex]
        graph.tensors = [graph.tensors[index] for index in used]
        kept = {tensor.buffer for tensor in graph.tensors}
        kept |= {entry.buffer for entry in self._model.metadata or []}
        for tensor in graph.tensors:
            tensor.shapeSignature = None  # all sizes are known
        for index, buffer in enumerate(self._model.buffers):
            if index not in kept:
                buffer.data = None

    def _rename_others(self, kept: set[int]) -> None:
        """Rename other tensors with the name of an input or output: some readers go by names."""
        taken = {self._graph.tensors[index].name for index in kept}
        for index, tensor in enumerate(self._graph.tensors):
            if index not in kept and tensor.name in taken:
                tensor.name = b"model/" + tensor.name

    def store_float16_as_float32(self) -> None:
        """Store float16 weights as float32, so that float32 means float32."""
        import numpy as np
        from ai_edge_litert import schema_py_generated as schema

        graph, names, rest = self._graph, kinds(self._model), []
        for operator in graph.operators:
            source = graph.tensors[operator.inputs[0]] if len(operator.inputs) else None
            if (
                source is None
                or names[operator.opcodeIndex] != "DEQUANTIZE"
                or source.type != schema.TensorType.FLOAT16
                or (data := self._model.buffers[source.buffer].data) is None
                or source.sparsity is not None
            ):
                rest.append(operator)
                continue
            values = np.frombuffer(bytes(data), np.float16).astype(np.float32)
            graph.tensors[operator.outputs[0]].buffer = self._buffer(values)
        graph.operators = rest

    # ------------------------------------------------------------ parts

    def _input(self, name: str) -> int:
        return self._place(self._graph.inputs, name)

    def _place(self, among: Sequence[int], name: str) -> int:
        for index in among:
            if self._graph.tensors[index].name.decode(errors="replace") == name:
                return int(index)
        raise BadInput(f"the model has no tensor {name!r} among its inputs and outputs")

    def _buffer(self, values: NDArray[Any]) -> int:
        import numpy as np
        from ai_edge_litert import schema_py_generated as schema

        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def _tensor(self, name: str, shape: Sequence[int], dtype: str, buffer: int = 0) -> int:
        from ai_edge_litert import schema_py_generated as schema

        tensor = schema.TensorT()
        tensor.name, tensor.buffer = name.encode(), buffer
        tensor.shape = _indices(shape)
        tensor.type = getattr(schema.TensorType, dtype.upper())
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _constant(self, values: Sequence[float], dtype: str) -> int:
        import numpy as np

        listed = np.array(values, dtype)
        name = f"edgevid/constant_{len(self._graph.tensors)}"
        return self._tensor(name, listed.shape, dtype, self._buffer(listed))

    def _cast(self, source: int, target: int) -> Table:
        return self._operator("CAST", [source], target)

    def _operator(self, kind: str, inputs: Sequence[int], output: int) -> Table:
        from ai_edge_litert import schema_py_generated as schema

        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(kind)
        operator.inputs, operator.outputs = _indices(inputs), _indices([output])
        options = {
            "ADD": "AddOptions",
            "CAST": "CastOptions",
            "GATHER": "GatherOptions",
            "MUL": "MulOptions",
            "RESHAPE": "ReshapeOptions",
            "SOFTMAX": "SoftmaxOptions",
            "TRANSPOSE": "TransposeOptions",
        }[kind]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        operator.builtinOptions = getattr(schema, f"{options}T")()
        if kind == "GATHER":
            operator.builtinOptions.axis = 3
        if kind == "SOFTMAX":
            operator.builtinOptions.beta = 1.0
        return operator

    def _code(self, kind: str) -> int:
        """Return the index of an operator code, added if needed."""
        from ai_edge_litert import schema_py_generated as schema

        names = kinds(self._model)
        if kind in names:
            return names.index(kind)
        code = schema.OperatorCodeT()
        number = getattr(schema.BuiltinOperator, kind)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        self._model.operatorCodes.append(code)
        return len(names)


def _tensors_of(operator: Table) -> list[Any]:
    lists = (operator.inputs, operator.outputs, operator.intermediates)
    return [tensors for tensors in lists if tensors is not None]


def _indices(values: Sequence[int]) -> NDArray[np.int32]:
    import numpy as np

    return np.array(values, np.int32)


def _named(name: str, index: int) -> Table:
    from ai_edge_litert import schema_py_generated as schema

    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
