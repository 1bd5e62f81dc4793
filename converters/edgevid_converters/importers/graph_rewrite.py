"""New inputs and outputs for a ``.tflite`` model, written into the flatbuffer itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput
from edgevid_converters.importers.preprocessing import ImageMapping, TensorMapping
from edgevid_converters.importers.tensors import Levels
from edgevid_converters.lowering.tflite.flatbuffer import Table, kinds, pack, parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGNATURE = "serving_default"
_VERSIONS = {"DEQUANTIZE": 3, "QUANTIZE": 2}
"""Versions that have all types of `Levels`; of other operators the first one does."""
_NEAR = 1e-3
"""How far from a whole level the zero point of pixels may be."""


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

    def take(self, one: TensorMapping, levels: Levels | None = None) -> int:
        """Make an input float32 under the contract's name; returns its tensor.

        Args:
            one: The input.
            levels: How the model stores its values, if it is quantised.
        """
        old = self._input(one.own)
        if one.dtype == "float32" and levels is None:
            self._graph.tensors[old].name = one.name.encode()
            return old
        new = self._tensor(one.name, one.shape, "float32")
        kind = "CAST" if levels is None else "QUANTIZE"
        self._front.append(self._operator(kind, [new], old))
        return new

    def take_frame(self, image: ImageMapping, levels: Levels | None = None) -> dict[str, int]:
        """Put the arithmetic of ``image`` between a uint8 RGB frame and an input.

        Args:
            image: The input.
            levels: How the model stores its values, if it is quantised.

        Returns:
            The new inputs, and of a clip the next state, by the contract's full names: tensors.
        """
        old = self._input(image.input)
        sizes = dict(zip(image.layout, map(int, self._graph.tensors[old].shape), strict=True))
        shape = (1, sizes["h"], sizes["w"], 3)
        if levels is not None and (stored := _stored(image, levels)):
            if stored == levels:  # the pixels are the model's levels
                self._graph.tensors[old].name = image.name.encode()
                return {image.name: old}
            new = self._tensor(image.name, shape, "uint8")
            self._quantise(new, stored)
            self._front.append(self._operator("QUANTIZE", [new], old))
            return {image.name: new}
        new = at = self._tensor(image.name, shape, "uint8")
        at = self._arithmetic(image, at, shape)
        taken = {image.name: new}
        if image.is_clip:
            at, more = self._joined(image, at)
            taken |= more
        now = "float32" if image.is_clip or image.computes else "uint8"
        if levels is not None:
            at = self._to(at, image.shape or self._shape_of(old), now, "float32")
            at = self._then("QUANTIZE", [at], self._shape_of(old), levels.dtype)
        else:
            at = self._to(at, self._shape_of(old), now, image.dtype)
        if at == new:  # the model takes the frame as it is
            self._graph.tensors[old].name = image.name.encode()
            return {image.name: old}
        self._write_to(at, old)
        return taken

    def _arithmetic(self, image: ImageMapping, at: int, shape: tuple[int, ...]) -> int:
        """Write `ImageMapping.apply` up to the model's type; values that change are float32."""
        dtype = "float32" if image.computes else "uint8"
        if image.colour == "bgr":
            at = self._then("GATHER", [at, self._constant([2, 1, 0], "int32")], shape, "uint8")
        at = self._to(at, shape, "uint8", dtype)
        if image.colour == "grey":
            factors, offset = image.luma
            kernel = self._constant(factors, "float32", (1, 1, 1, 3))
            shape = (*shape[:3], 1)
            taken = [at, kernel, self._constant([offset], "float32")]
            at = self._then("CONV_2D", taken, shape, dtype)
        elif image.computes:
            first, second = image.factors
            if any(factor != 1.0 for factor in first):
                at = self._then("MUL", [at, self._constant(first, "float32")], shape, dtype)
            if any(second):
                at = self._then("ADD", [at, self._constant(second, "float32")], shape, dtype)
        if image.channels_first:
            shape = (shape[0], shape[3], *shape[1:3])
            order = self._constant([0, 3, 1, 2], "int32")
            at = self._then("TRANSPOSE", [at, order], shape, dtype)
        return at

    def _joined(self, image: ImageMapping, at: int) -> tuple[int, dict[str, int]]:
        """Join a frame to the frames before it; returns the clip, state and next state."""
        at = self._to(at, self._shape_of(at), self._dtype_of(at), "float32")
        state = self._tensor(image.state_input, image.state_shape, "float32")
        shape = image.frame_shape
        newest = self._then("RESHAPE", [at, self._constant(shape, "int32")], shape, "float32")
        axis, whole = image.time_axis, image.batched_shape
        clip = self._then("CONCATENATION", [state, newest], whole, "float32")
        self._front[-1].builtinOptions.axis = axis
        begin = self._constant([int(place == axis) for place in range(len(whole))], "int32")
        size = self._constant(image.state_shape, "int32")
        rest = self._then("SLICE", [clip, begin, size], image.state_shape, "float32")
        self._graph.tensors[rest].name = image.state_output.encode()
        # A tensor of its own: what follows may be redirected into the model's input.
        wanted = self._constant(image.shape, "int32")
        at = self._then("RESHAPE", [clip, wanted], image.shape, "float32")
        return at, {image.state_input: state, image.state_output: rest}

    def _write_to(self, at: int, old: int) -> None:
        """Let the operator that wrote ``at`` last, the newest tensor, write ``old`` instead."""
        self._front[-1].outputs = _indices([old])
        assert at == len(self._graph.tensors) - 1
        self._graph.tensors.pop()

    def _then(self, kind: str, inputs: Sequence[int], shape: Sequence[int], dtype: str) -> int:
        new = self._tensor(f"edgevid/{kind.lower()}", shape, dtype)
        self._front.append(self._operator(kind, inputs, new))
        return new

    def _to(self, at: int, shape: Sequence[int], dtype: str, wanted: str) -> int:
        if dtype == wanted:
            return at
        new = self._tensor(f"edgevid/{wanted}", shape, wanted)
        self._front.append(self._operator("CAST", [at], new))
        return new

    def _shape_of(self, tensor: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self._graph.tensors[tensor].shape)

    def _dtype_of(self, tensor: int) -> str:
        from ai_edge_litert import schema_py_generated as schema

        kind = self._graph.tensors[tensor].type
        return next(str(k).lower() for k, v in vars(schema.TensorType).items() if v == kind)

    def _quantise(self, tensor: int, levels: Levels) -> None:
        """Record how a tensor stores its values."""
        import numpy as np
        from ai_edge_litert import schema_py_generated as schema

        parameters = schema.QuantizationParametersT()
        parameters.scale = np.array([levels.scale], np.float32)
        parameters.zeroPoint = np.array([levels.zero_point], np.int64)
        self._graph.tensors[tensor].quantization = parameters

    # ------------------------------------------------------------ outputs

    def give(self, one: TensorMapping, levels: Levels | None = None) -> int:
        """Make an output float32 under the contract's name; returns its tensor.

        Args:
            one: The output.
            levels: How the model stores its values, if it is quantised.
        """
        at = self._place(self._graph.outputs, one.own)
        kind = "SOFTMAX" if one.softmax else "RESHAPE"
        if one.dtype != "float32" or levels is not None:
            plain = self._tensor(f"edgevid/{one.name}", one.shape, "float32")
            to_float = "CAST" if levels is None else "DEQUANTIZE"
            self._back.append(self._operator(to_float, [at], plain))
            at = plain
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

    def _constant(self, values: Sequence[float], dtype: str, shape: Sequence[int] = ()) -> int:
        import numpy as np

        listed = np.array(values, dtype)
        listed = listed.reshape(shape) if shape else listed
        name = f"edgevid/constant_{len(self._graph.tensors)}"
        return self._tensor(name, listed.shape, dtype, self._buffer(listed))

    def _operator(self, kind: str, inputs: Sequence[int], output: int) -> Table:
        from ai_edge_litert import schema_py_generated as schema

        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(kind)
        operator.inputs, operator.outputs = _indices(inputs), _indices([output])
        options = {
            "ADD": "AddOptions",
            "CAST": "CastOptions",
            "CONCATENATION": "ConcatenationOptions",
            "CONV_2D": "Conv2DOptions",
            "DEQUANTIZE": "DequantizeOptions",
            "GATHER": "GatherOptions",
            "MUL": "MulOptions",
            "QUANTIZE": "QuantizeOptions",
            "RESHAPE": "ReshapeOptions",
            "SLICE": "SliceOptions",
            "SOFTMAX": "SoftmaxOptions",
            "TRANSPOSE": "TransposeOptions",
        }[kind]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        operator.builtinOptions = getattr(schema, f"{options}T")()
        if kind == "GATHER":
            operator.builtinOptions.axis = 3
        if kind == "SOFTMAX":
            operator.builtinOptions.beta = 1.0
        if kind == "CONV_2D":
            operator.builtinOptions.strideH = operator.builtinOptions.strideW = 1
            operator.builtinOptions.dilationHFactor = operator.builtinOptions.dilationWFactor = 1
            operator.builtinOptions.padding = schema.Padding.VALID
        return operator

    def _code(self, kind: str) -> int:
        """Return the index of an operator code, added if needed."""
        from ai_edge_litert import schema_py_generated as schema

        names = kinds(self._model)
        if kind in names:
            return names.index(kind)
        code = schema.OperatorCodeT()
        number = getattr(schema.BuiltinOperator, kind)
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.version = _VERSIONS.get(kind, 1)
        self._model.operatorCodes.append(code)
        return len(names)


def _stored(image: ImageMapping, levels: Levels) -> Levels | None:
    """How uint8 pixels store the model's values, if one scale and zero point describe it."""
    plain = image.colour == "rgb" and image.layout == "nhwc"
    first, second = image.factors
    if not plain or levels.dtype not in ("uint8", "int8") or len({*first}) * len({*second}) != 1:
        return None
    place = -second[0] / first[0]
    if first[0] <= 0 or abs(place - round(place)) > _NEAR or not 0 <= round(place) <= 255:
        return None
    same = abs(first[0] / levels.scale - 1) < 1e-6
    scale = levels.scale if same else first[0]
    return Levels("uint8", scale, round(place))


def named_by_signature(content: bytes) -> bytes:
    """Give the inputs and outputs of a ``.tflite`` the names that its signature has for them.

    TensorFlow's converter writes ``serving_default_x:0`` for ``x``, and readers without signatures
    go by the tensors' own names.
    """
    model = parse(content)
    signature, tensors = model.signatureDefs[0], model.subgraphs[0].tensors
    names = {one.tensorIndex: one.name for one in (*signature.inputs, *signature.outputs)}
    for index, tensor in enumerate(tensors):
        if index in names:
            tensor.name = names[index]
        elif tensor.name in names.values():
            tensor.name = b"model/" + tensor.name
    return pack(model)


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
