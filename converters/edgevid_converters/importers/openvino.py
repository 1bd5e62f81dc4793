"""OpenVINO IR: ``.xml`` with its ``.bin``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from edgevid.contract import Contract
from edgevid.errors import BadInput, reason_of
from edgevid.registry import need
from edgevid.runtimes.openvino import UNFUSED
from edgevid.settings import shown
from edgevid_converters.importers.imported import Importer
from edgevid_converters.importers.preprocessing import ImageMapping, Preprocessing, TensorMapping
from edgevid_converters.importers.tensors import TensorInfo
from edgevid_converters.importers.trust import TRUST
from edgevid_converters.lowering.openvino.converter import quantisation_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMS = ("ir",)
OPSET = re.compile(r"opset\d{1,3}")
"""Versions of layers that OpenVINO itself has."""
EXACT = {
    "INFERENCE_NUM_THREADS": "1",
    "INFERENCE_PRECISION_HINT": "f32",
    "NUM_STREAMS": "1",
    **UNFUSED,
}


def matches(path: Path) -> bool:
    """Recognise the file by its suffix."""
    return path.is_file() and path.suffix.lower() == ".xml"


def open_model(path: Path) -> OpenVINOModel:
    """Read the graph and its weights.

    Raises:
        BadInput: A file is missing or damaged.
        MissingExtra: OpenVINO is not installed.
    """
    openvino = need("openvino", "convert")
    if not path.with_suffix(".bin").is_file():
        raise BadInput(f"{path.with_suffix('.bin')} is missing; copy it next to {path.name}")
    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        reason = reason_of(error, last=True)
        raise BadInput(f"{path} cannot be loaded by OpenVINO: {reason}") from None
    return OpenVINOModel(path, model)


def check(path: Path) -> None:
    """Check that a graph has only layers of OpenVINO's own operator sets.

    Raises:
        BadInput: It has others, or is damaged; the message names the layer.
    """
    try:
        graph = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        reason = reason_of(error)
        raise BadInput(f"{path} cannot be loaded by OpenVINO: {reason}") from None
    # OpenVINO ignores XML namespaces.
    for layer in (one for one in graph.iter() if one.tag.rpartition("}")[2] == "layer"):
        version = layer.get("version", "opset1")
        if not OPSET.fullmatch(version):
            kind, name = shown(layer.get("type", "")), shown(layer.get("name", ""))
            raise BadInput(
                f"{path}: layer {name} ({kind}) is of {shown(version)}, an extension, which counts "
                f"as code; export the model without it, or {TRUST}"
            )


class OpenVINOModel:
    """A model in OpenVINO, in float32; see `edgevid_converters.importers.imported.NativeModel`."""

    def __init__(self, path: Path, model: Any) -> None:
        self._path, self._model = path, model
        self.quantised = quantisation_of(model)
        self._compiled: tuple[Any, Any] | None = None
        self.inputs = tuple(_tensor_info(one) for one in model.inputs)
        self.outputs = tuple(_tensor_info(one) for one in model.outputs)

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model; see `edgevid_converters.importers.imported.NativeModel.infer`.

        Raises:
            BadInput: The runtime cannot run the model.
        """
        import openvino

        shapes = {name: value.shape for name, value in inputs.items()}
        try:
            if self._compiled is None or self._compiled[0] != shapes:
                fixed = self._model.clone()
                fixed.reshape({_of(fixed.inputs, n): list(s) for n, s in shapes.items()})
                self._compiled = shapes, openvino.compile_model(fixed, "CPU", EXACT)
            compiled = self._compiled[1]
            given = compiled({_of(compiled.inputs, n): v for n, v in inputs.items()})
        except RuntimeError as error:
            reason = reason_of(error, last=True)
            raise BadInput(f"OpenVINO cannot run the model: {reason}") from None
        tensors = zip(self.outputs, compiled.outputs, strict=True)
        return {tensor.name: given[one].copy() for tensor, one in tensors}

    def lower(
        self, form: str, preprocessing: Preprocessing, contract: Contract, folder: Path
    ) -> Path:
        """Add the preprocessing with OpenVINO's own means, and save the IR."""
        import openvino

        model = self._model.clone()
        model.reshape({_of(model.inputs, n): list(s) for n, s in preprocessing.shapes.items()})
        for constant in preprocessing.constants:
            _fix(model, constant.own, constant.array())
        own = [_own_name(one) for one in model.inputs]
        names = {one.own: one.name for one in preprocessing.tensor_inputs}
        for image in preprocessing.images:
            names[image.input] = image.name
            if image.is_clip:
                own.append(image.state_input)
                names[image.state_input] = image.state_input
                _open_clip(model, image)
        for image in preprocessing.images:
            model = _prepared(model, own.index(image.input), image)
        for name, one in zip(own, model.inputs, strict=True):
            one.get_tensor().set_names({names[name]})
            one.node.set_friendly_name(names[name])
        order = [tensor.name for tensor in self.outputs]
        sources = [result.input_value(0) for result in model.get_results()]
        values = [(one, sources[order.index(one.own)]) for one in preprocessing.outputs]
        ends = [_end(one, value) for one, value in values]
        given = [one.name for one in preprocessing.outputs]
        following = [one.state_output for one in preprocessing.images if one.is_clip]
        ends += [source.get_node() for source in sources[len(order) :]]
        model = openvino.Model(ends, model.get_parameters())
        for name, output in zip([*given, *following], model.outputs, strict=True):
            output.get_tensor().set_names({name})
        path = folder / form / "model.xml"
        path.parent.mkdir(parents=True)
        openvino.save_model(model, path, compress_to_fp16=False)
        return path


def _fix(model: Any, name: str, value: NDArray[Any]) -> None:
    """Replace an input by a constant."""
    from openvino import opset13 as ops

    node = _of(model.inputs, name).node
    node.output(0).replace(ops.constant(value).output(0))
    model.remove_parameter(node)


def _open_clip(model: Any, image: ImageMapping) -> None:
    """Replace a clip by its newest frame and, as a last input and output, the frames before it.

    The frame keeps the clip's place and name; it is float32 ``(1, H, W, C)`` or ``(1, C, H, W)``.
    """
    import numpy as np
    import openvino
    from openvino import opset13 as ops

    clip = _of(model.inputs, image.input).node
    axis, whole = image.time_axis, image.frame_shape
    frame = ops.parameter([n for place, n in enumerate(whole) if place != axis], openvino.Type.f32)
    before = ops.parameter(list(image.state_shape), openvino.Type.f32)
    newest = ops.reshape(frame, ops.constant(np.array(whole, np.int64)), False)
    joined = ops.concat([before, newest], axis)
    one, end, along = (ops.constant(np.array([n], np.int64)) for n in (1, 1 << 30, axis))
    rest = ops.slice(joined, one, end, one, along)
    fed = joined
    if image.shape != image.batched_shape:
        fed = ops.reshape(fed, ops.constant(np.array(image.shape, np.int64)), False)
    if image.dtype != "float32":
        fed = ops.convert(fed, clip.get_element_type())
    clip.output(0).replace(fed.output(0))
    model.replace_parameter(model.get_parameter_index(clip), frame)
    frame.output(0).get_tensor().set_names({image.input})
    before.output(0).get_tensor().set_names({image.state_input})
    model.add_parameters([before])
    model.add_results([ops.result(rest)])
    model.validate_nodes_and_infer_types()


def _grey(model: Any, index: int, image: ImageMapping) -> None:
    """Put the weighted sum of a frame's colours in front of an input of one channel."""
    import numpy as np
    import openvino
    from openvino import opset13 as ops

    node = model.input(index).node
    sizes = list(node.get_output_partial_shape(0).to_shape())
    height, width = sizes[2:] if image.channels_first else sizes[1:3]
    frame = ops.parameter([1, height, width, 3], openvino.Type.f32)
    factors, offset = image.luma
    weights = ops.constant(np.array(factors, np.float32)[:, None])
    value = ops.add(ops.matmul(frame, weights, False, False), np.float32(offset))
    if image.channels_first:
        value = ops.reshape(value, ops.constant(np.array(sizes, np.int64)), False)
    if node.get_element_type() != openvino.Type.f32:
        value = ops.convert(value, node.get_element_type())
    node.output(0).replace(value.output(0))
    model.replace_parameter(index, frame)
    model.validate_nodes_and_infer_types()


def _prepared(model: Any, index: int, image: ImageMapping) -> Any:
    """Let input ``index`` take a frame: uint8 RGB ``(1, H, W, 3)``."""
    import openvino
    from openvino import Layout
    from openvino.preprocess import ColorFormat, PrePostProcessor

    if image.colour == "grey":
        _grey(model, index, image)
    first_channel = image.channels_first and image.colour != "grey"
    whole = PrePostProcessor(model)
    entry = whole.input(index)
    tensor = entry.tensor().set_element_type(openvino.Type.u8).set_layout(Layout("NHWC"))
    entry.model().set_layout(Layout("NCHW" if first_channel else "NHWC"))
    steps = entry.preprocess()
    if image.colour == "bgr":
        tensor.set_color_format(ColorFormat.RGB)
        steps.convert_color(ColorFormat.BGR)
    if image.colour == "grey":
        steps.convert_element_type(openvino.Type.f32)
    elif image.computes:
        first, second = image.factors
        steps.convert_element_type(openvino.Type.f32)
        steps.mean([-b / a for a, b in zip(first, second, strict=True)])
        steps.scale([1.0 / a for a in first])
    return whole.build()


def _end(one: TensorMapping, value: Any) -> Any:
    """Return an output in float32, with a tensor of its own to carry its name."""
    import numpy as np
    from openvino import opset13 as ops

    node = value
    if one.dtype != "float32":
        node = ops.convert(node, "f32")
    if one.softmax:
        node = ops.softmax(node, len(one.shape) - 1)
    if node is value:
        node = ops.reshape(node, ops.constant(np.array(one.shape, np.int64)), False)
    return node


def _tensor_info(one: Any) -> TensorInfo:
    shape = tuple(d.get_length() if d.is_static else None for d in one.partial_shape)
    kind = one.element_type.to_dtype().name
    return TensorInfo(_own_name(one), shape, kind)


def _own_name(one: Any) -> str:
    names = sorted(one.names)
    return str(names[0] if names else one.node.get_friendly_name())


def _of(tensors: Any, name: str) -> Any:
    return next(one for one in tensors if name in one.names or _own_name(one) == name)


def companions(path: Path) -> tuple[Path, ...]:
    """The file with the weights, next to the graph's."""
    return (path.with_suffix(".bin"),)


IMPORTER = Importer(
    "openvino",
    "OpenVINO's .xml",
    FORMS,
    matches,
    open_model,
    companions,
    check=check,
    can_execute=False,
)
