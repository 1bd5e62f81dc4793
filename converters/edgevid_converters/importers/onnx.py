"""ONNX models: made plain, then passed to OpenVINO, or lowered to TFLite in one of two ways."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid.registry import need
from edgevid.settings import shown
from edgevid_converters.importers.imported import Importer
from edgevid_converters.importers.preprocessing import ImageMapping, Preprocessing, TensorMapping
from edgevid_converters.importers.tensors import TensorInfo
from edgevid_converters.library_errors import first_line
from edgevid_converters.lowering.onnx_nodes import all_nodes, node_name, quantisation_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.evidence import LoweringAttempt
    from edgevid_converters.importers.onnx_to_tflite import LoweredOnnx

FORMS = ("onnx", "tflite", "saved_model")
STANDARD = ("", "ai.onnx")
QUANTISE = (
    "give the float model that it was made from, or quantise that to 8 bits with "
    "quant_format=QuantFormat.QDQ, which uses none but operators of ONNX"
)
"""What to do with an operator that ONNX Runtime has invented for quantised models."""


def matches(path: Path) -> bool:
    """Recognise the file by its suffix."""
    return path.is_file() and path.suffix.lower() == ".onnx"


def check(path: Path) -> None:
    """Check that a model has only ONNX's operators, and no weights outside its folder.

    Raises:
        BadInput: It has others, or is damaged; the message names the operator.
    """
    model = _read(path, weights=False)
    _check_operators(path, model)
    for tensor in _tensors(model):
        for entry in tensor.external_data:
            _check_location(path, entry.key, entry.value)


def _check_location(path: Path, key: str, value: str) -> None:
    """Reject a weights file outside the model's folder."""
    folder = path.resolve().parent
    if key == "location" and not (folder / value).resolve().is_relative_to(folder):
        raise BadInput(
            f"{path} reads weights from {shown(value)}; keep them in a file next to the model"
        )


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every stored tensor of a model, wherever it is."""
    from google.protobuf.message import Message
    from onnx import TensorProto

    left = [message]
    while left:
        one = left.pop()
        if isinstance(one, TensorProto):
            yield one
            continue
        for _, value in one.ListFields():
            listed = [value] if isinstance(value, Message) else value
            if not isinstance(listed, str | bytes | int | float):
                left += [inner for inner in listed if isinstance(inner, Message)]


def _read(path: Path, *, weights: bool) -> Any:
    """Read the file, with weights that are in other files or without them.

    Raises:
        BadInput: It is damaged.
    """
    onnx = need("onnx", "onnx")
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=weights)
    except (DecodeError, OSError, ValueError) as error:
        raise BadInput(f"{path} is damaged or not an ONNX model ({first_line(error)})") from None
    if not model.graph.node or not model.opset_import:
        raise BadInput(f"{path} is damaged or not an ONNX model (it has no operators)")
    return model


def open_model(path: Path) -> ONNXModel:
    """Read and check the graph, and load it in ONNX Runtime.

    Raises:
        BadInput: The file is damaged, or uses operators that cannot be converted.
        MissingExtra: A package is missing.
    """
    runtime = need("onnxruntime", "onnx")
    model = _read(path, weights=True)
    _check_operators(path, model)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its errors are RuntimeError's siblings, not children
        raise BadInput(f"{path} cannot be loaded by ONNX Runtime: {first_line(error)}") from None
    return ONNXModel(path, model, session)


def _check_operators(path: Path, model: Any) -> None:
    """Reject operator sets newer than the installed onnx, and operators outside of ONNX."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    versions = {one.domain: one.version for one in model.opset_import}
    version = max((versions.get(domain, 0) for domain in STANDARD), default=0)
    if version > newest:
        raise BadInput(
            f"{path} uses ONNX operator set {version}; this onnx knows up to {newest}: "
            "export it with an older one, or update onnx"
        )
    own = {(one.domain, one.name) for one in model.functions}
    nodes = [*all_nodes(model.graph), *(n for one in model.functions for n in all_nodes(one))]
    for node in nodes:
        known = node.domain in STANDARD and onnx.defs.has(node.op_type)
        if not known and (node.domain, node.op_type) not in own:
            where = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            integers = quantisation_of(model.graph) != "float32" or node.op_type.startswith("QLin")
            raise BadInput(
                f"{path}: operator {where} (node {node_name(node)!r}) is not part of ONNX and "
                f"cannot be converted; {QUANTISE if integers else 'export the model without it'}"
            )


class ONNXModel:
    """ONNX Runtime on one thread; see `edgevid_converters.importers.imported.NativeModel`."""

    def __init__(self, path: Path, model: Any, session: Any) -> None:
        self._path, self._model, self._session = path, model, session
        self.inputs = tuple(_tensor_info(one) for one in session.get_inputs())
        self.outputs = tuple(_tensor_info(one) for one in session.get_outputs())
        self.quantised = quantisation_of(model.graph)
        self.precision = _precision(model)
        self.attempts: tuple[LoweringAttempt, ...] = ()
        self._lowered: dict[Path, LoweredOnnx] = {}

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model; see `edgevid_converters.importers.imported.NativeModel.infer`.

        Raises:
            BadInput: The runtime cannot run the model.
        """
        names = [tensor.name for tensor in self.outputs]
        try:
            given = self._session.run(names, dict(inputs))
        except Exception as error:  # noqa: BLE001 - see `open_model`
            raise BadInput(f"ONNX Runtime cannot run {self._path}: {first_line(error)}") from None
        return dict(zip(names, given, strict=True))

    def lower(
        self, form: str, preprocessing: Preprocessing, contract: Contract, folder: Path
    ) -> Path:
        """Write an ONNX model with the preprocessing in front, or a ``.tflite`` or SavedModel.

        Raises:
            BadInput: It cannot be lowered to TFLite; the message names operator and remedy.
        """
        from edgevid_converters.importers.onnx_folding import folded

        fixed = folded(pinned(self._model, preprocessing), integers=form == "onnx")
        if form != "onnx":
            if folder not in self._lowered:
                from edgevid_converters.importers.onnx_to_tflite import lower

                place = folder / "from_onnx"
                self._lowered[folder] = lower(fixed, self, preprocessing, contract, place)
                self.attempts = self._lowered[folder].attempts
            found = self._lowered[folder]
            return found.tflite if form == "tflite" else found.saved_model
        import onnx

        path = folder / form / "model.onnx"
        path.parent.mkdir(parents=True)
        onnx.save(framed(fixed, preprocessing, contract), path)
        return path


def _precision(model: Any) -> str:
    """Return ``float16`` if operators take float16 weights as they are, else ``float32``."""
    from onnx import TensorProto

    halves = {one.name for one in model.graph.initializer if one.data_type == TensorProto.FLOAT16}
    nodes = (node for node in all_nodes(model.graph) if node.op_type != "Cast")
    return "float16" if any(halves & set(node.input) for node in nodes) else "float32"


def _tensor_info(one: Any) -> TensorInfo:
    kinds = {"float": "float32", "double": "float64"}
    kind = one.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(n if isinstance(n, int) and n >= 0 else None for n in one.shape)
    return TensorInfo(one.name, shape, kinds.get(kind, kind))


def pinned(model: Any, preprocessing: Preprocessing) -> Any:
    """Copy a model with fixed input shapes, and with its constant inputs as weights."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    constants = {one.own: one.array() for one in preprocessing.constants}
    kept = [
        one for one in graph.input if one.name in preprocessing.shapes and one.name not in constants
    ]
    for one in kept:
        kind = one.type.tensor_type.elem_type
        shape = preprocessing.shapes[one.name]
        one.CopyFrom(onnx.helper.make_tensor_value_info(one.name, kind, shape))
    del graph.input[:]
    graph.input.extend(kept)
    for name, value in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return copy


def framed(model: Any, preprocessing: Preprocessing, contract: Contract) -> Any:
    """Put the contract's inputs and outputs around a pinned model."""
    import onnx
    from onnx import TensorProto, helper

    clips = [one for one in preprocessing.images if one.is_clip]
    new = {one.name for one in preprocessing.images} | {
        one.name for one in (*preprocessing.state_inputs, *preprocessing.outputs)
    }
    new |= {name for one in clips for name in (one.state_input, one.state_output)}
    renamed = any(one.name != one.own for one in preprocessing.tensors)
    if renamed or new & set(_tensor_names(model.graph)):
        model = onnx.compose.add_prefix(model, "model/", rename_nodes=False)
        own = "model/"
    else:
        own = ""
    graph = model.graph
    front: list[Any] = []
    inputs: list[Any] = []
    weights: list[Any] = []
    passed = preprocessing.tensor_inputs
    for one in passed:
        if own + one.own == one.name:
            inputs += [value for value in graph.input if value.name == one.name]
            continue
        inputs.append(helper.make_tensor_value_info(one.name, TensorProto.FLOAT, one.shape))
        front.append(_cast(one.name, own + one.own, one.dtype))
    frames = {frame.name: frame for frame in contract.frame_inputs}
    for place, image in enumerate(preprocessing.images):
        shape = frames[image.name].shape
        inputs.insert(place, helper.make_tensor_value_info(image.name, TensorProto.UINT8, shape))
        prefix = f"edgevid/{image.name}/" if len(preprocessing.images) > 1 else "edgevid/"
        steps, constants = _prepared(image, own + image.input, prefix)
        front += steps
        weights += constants
    back, outputs = [], []
    for one in preprocessing.outputs:
        outputs.append(helper.make_tensor_value_info(one.name, TensorProto.FLOAT, one.shape))
        back += _given(one, own + one.own)
    for clip in clips:
        for listed, name in ((inputs, clip.state_input), (outputs, clip.state_output)):
            shape = clip.state_shape
            listed.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    core = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*front, *core, *back])
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    graph.initializer.extend(weights)
    return model


def _prepared(image: ImageMapping, target: str, prefix: str) -> tuple[list[Any], list[Any]]:
    """Write `ImageMapping.apply` as nodes up to ``target``, with their constants."""
    import numpy as np
    from onnx import helper, numpy_helper

    made: list[Any] = []
    weights: list[Any] = []

    def constant(value: NDArray[Any]) -> str:
        weights.append(numpy_helper.from_array(value, f"{prefix}constant_{len(weights)}"))
        return str(weights[-1].name)

    def then(kind: str, *values: NDArray[Any], before: str = "", **attributes: Any) -> None:
        taken = [made[-1].output[0] if made else image.name, *map(constant, values)]
        name = f"{prefix}{kind.lower()}_{len(made)}"
        taken = [before, *taken] if before else taken
        made.append(helper.make_node(kind, taken, [name], name, **attributes))

    if image.colour == "bgr":
        then("Gather", np.array([2, 1, 0], np.int64), axis=3)
    if image.computes or image.is_clip:
        then("Cast", to=_kind("float32"))
    if image.colour == "grey":
        factors, offset = image.luma
        then("MatMul", np.array(factors, np.float32)[:, None])
        if offset:
            then("Add", np.array([offset], np.float32))
    elif image.computes:
        first, second = image.factors
        if any(one != 1.0 for one in first):
            then("Mul", np.array(first, np.float32))
        if any(second):
            then("Add", np.array(second, np.float32))
    if image.channels_first:
        then("Transpose", perm=[0, 3, 1, 2])
    ends: list[Any] = []
    if image.is_clip:
        axis = image.time_axis
        then("Reshape", np.array(image.frame_shape, np.int64))
        then("Concat", before=image.state_input, axis=axis)
        begin, end, along = (
            constant(np.array([n], np.int64)) for n in (1, image.batched_shape[axis], axis)
        )
        taken = [made[-1].output[0], begin, end, along]
        ends = [helper.make_node("Slice", taken, [image.state_output], f"{prefix}slice")]
        then("Reshape", np.array(image.shape, np.int64))
    then("Cast", to=_kind(image.dtype))
    made[-1].output[0] = target
    return made + ends, weights


def _given(one: TensorMapping, source: str) -> list[Any]:
    from onnx import helper

    if not one.softmax:
        return [_cast(source, one.name, "float32")]
    between = f"edgevid/{one.name}"
    return [
        _cast(source, between, "float32"),
        helper.make_node("Softmax", [between], [one.name], f"{between}_softmax", axis=-1),
    ]


def _cast(source: str, target: str, dtype: str) -> Any:
    """Return a Cast node; one between equal types is an identity and is optimised away."""
    from onnx import helper

    return helper.make_node("Cast", [source], [target], f"edgevid/{target}", to=_kind(dtype))


def _kind(dtype: str) -> int:
    import numpy as np
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _tensor_names(graph: Any) -> list[str]:
    names = [one.name for one in (*graph.input, *graph.initializer)]
    for node in all_nodes(graph):
        names += node.output
    return names


def companions(path: Path) -> tuple[Path, ...]:
    """The files with weights that the model names, as far as they are below its folder."""
    found = re.findall(
        rb"\x0a\x08location\x12([\x01-\x7f])(.{1,127})", path.read_bytes(), re.DOTALL
    )
    names = {os.fsdecode(text[: size[0]]) for size, text in found}
    folder = path.resolve().parent
    files = [(folder / name).resolve() for name in sorted(names) if "\0" not in name]
    return tuple(file for file in files if file.is_relative_to(folder) and file.is_file())


IMPORTER = Importer(
    "onnx",
    ".onnx",
    FORMS,
    matches,
    open_model,
    companions,
    starts_children=True,
    check=check,
    can_execute=False,
)
