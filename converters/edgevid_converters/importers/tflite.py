"""``.tflite`` models, float or quantised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid.registry import need
from edgevid.settings import shown
from edgevid_converters.importers.graph_rewrite import GraphRewrite
from edgevid_converters.importers.imported import Importer
from edgevid_converters.importers.preprocessing import Preprocessing
from edgevid_converters.importers.tensors import Levels, TensorInfo, sizes
from edgevid_converters.importers.trust import TRUST
from edgevid_converters.library_errors import first_line
from edgevid_converters.lowering.tflite.flatbuffer import kinds, pack, parse
from edgevid_converters.lowering.tflite.quantisation import quantisation_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMS = ("tflite",)
OWN_CUSTOM = frozenset(
    {"AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess"}
)
"""Custom operators whose code is part of LiteRT."""


def matches(path: Path) -> bool:
    """Recognise the file by its suffix."""
    return path.is_file() and path.suffix.lower() == ".tflite"


def open_model(path: Path) -> TFLiteModel:
    """Load it in LiteRT.

    Raises:
        BadInput: The file is damaged.
        MissingExtra: LiteRT is not installed.
    """
    litert = need("ai_edge_litert.interpreter", "convert")
    content = path.read_bytes()
    try:
        interpreter = litert.Interpreter(model_content=content, num_threads=1)
        reference = TFLiteModel(content, interpreter)
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{path} cannot be loaded by LiteRT: {first_line(error)}") from None
    return reference


def check(path: Path) -> None:
    """Check that a model has only LiteRT's own operators, and no weights in other files.

    Raises:
        BadInput: It has others; the message names the operator.
    """
    try:
        model = parse(path.read_bytes())
        names = kinds(model)
    except Exception as error:  # noqa: BLE001 - the generated classes raise what the damage causes
        raise BadInput(f"{path} cannot be loaded by LiteRT: {first_line(error)}") from None
    for name, code in zip(names, model.operatorCodes, strict=True):
        custom = (code.customCode or b"").decode(errors="replace")
        if (name == "CUSTOM" or custom) and custom not in OWN_CUSTOM:
            what = "of TensorFlow (Flex)" if custom.startswith("Flex") else "custom"
            raise BadInput(
                f"{path}: operator {shown(custom)} is {what}, which counts as code; convert the "
                f"model to built-in operators, or {TRUST}"
            )
    if getattr(model, "externalBufferGroups", None) or getattr(model, "externalBuffers", None):
        raise BadInput(f"{path} reads weights from another file; write them into the model")


class TFLiteModel:
    """A model in LiteRT, on one thread; see `edgevid_converters.importers.imported.NativeModel`.

    Quantised inputs and outputs are float32 here: their scale and zero point are applied.
    """

    def __init__(self, content: bytes, interpreter: Any) -> None:
        self._content, self._interpreter = content, interpreter
        self._inputs = interpreter.get_input_details()
        self._outputs = interpreter.get_output_details()
        self.inputs = tuple(_tensor_info(one) for one in self._inputs)
        self.outputs = tuple(_tensor_info(one) for one in self._outputs)
        self.quantised = quantisation_of(parse(content))
        self._shapes: dict[str, tuple[int, ...]] | None = None

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model; see `edgevid_converters.importers.imported.NativeModel.infer`.

        Raises:
            BadInput: The runtime cannot run the model.
        """
        shapes = {name: value.shape for name, value in inputs.items()}
        try:
            if shapes != self._shapes:
                for tensor, one in zip(self.inputs, self._inputs, strict=True):
                    self._interpreter.resize_tensor_input(one["index"], shapes[tensor.name])
                self._interpreter.allocate_tensors()
                self._shapes = shapes
            for tensor, one in zip(self.inputs, self._inputs, strict=True):
                value = inputs[tensor.name]
                stored = value if tensor.levels is None else tensor.levels.quantise(value)
                self._interpreter.set_tensor(one["index"], stored)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise BadInput(f"LiteRT cannot run the model: {first_line(error)}") from None
        given = {}
        for tensor, one in zip(self.outputs, self._outputs, strict=True):
            value = self._interpreter.get_tensor(one["index"])
            given[tensor.name] = value if tensor.levels is None else tensor.levels.dequantise(value)
        return given

    def lower(
        self, form: str, preprocessing: Preprocessing, contract: Contract, folder: Path
    ) -> Path:
        """Rewrite the inputs and outputs of the file itself; nothing is converted.

        Raises:
            BadInput: The contract gives an input another size than the file.
        """
        model = parse(self._content)
        rewrite = GraphRewrite(model)
        for tensor, one in zip(self.inputs, self._inputs, strict=True):
            stored = tuple(int(n) for n in one["shape"])
            if stored != preprocessing.shapes[tensor.name]:
                raise BadInput(
                    f"input {tensor} of a .tflite has the fixed size {sizes(stored)}; "
                    "write that size into the contract"
                )
        rewrite.store_float16_as_float32()
        levels = {one.name: one.levels for one in (*self.inputs, *self.outputs)}
        for constant in preprocessing.constants:
            value, stored_as = constant.array(), levels[constant.own]
            rewrite.fix(constant.own, value if stored_as is None else stored_as.quantise(value))
        inputs: list[tuple[str, int]] = []
        outputs: list[tuple[str, int]] = []
        for image in preprocessing.images:
            for name, tensor_index in rewrite.take_frame(image, levels[image.input]).items():
                listed = outputs if name == image.state_output else inputs
                listed.append((name, tensor_index))
        inputs += [(o.name, rewrite.take(o, levels[o.own])) for o in preprocessing.tensor_inputs]
        given = [(o.name, rewrite.give(o, levels[o.own])) for o in preprocessing.outputs]
        outputs = given + outputs
        rewrite.sign(inputs, outputs)
        rewrite.drop_unused()
        path = folder / form / "model.tflite"
        path.parent.mkdir(parents=True)
        path.write_bytes(pack(model))
        return path


def _tensor_info(one: Mapping[str, Any]) -> TensorInfo:
    import numpy as np

    signature = [int(n) for n in one.get("shape_signature", one["shape"])]
    shape = signature if len(signature) == len(one["shape"]) else [int(n) for n in one["shape"]]
    sizes = tuple(n if n >= 0 else None for n in shape)
    dtype, levels = np.dtype(one["dtype"]).name, _levels(one)
    return TensorInfo(str(one["name"]), sizes, dtype if levels is None else "float32", levels)


def _levels(one: Mapping[str, Any]) -> Levels | None:
    """Read how a quantised tensor stores its values; None for other tensors."""
    import numpy as np

    dtype = np.dtype(one["dtype"]).name
    parameters = one["quantization_parameters"]
    scales = parameters["scales"]
    if dtype not in ("uint8", "int8", "int16") or not len(scales) or not float(scales[0]):
        return None
    if len(scales) > 1:
        raise BadInput(
            f"tensor {str(one['name'])!r} has a scale for each channel, which only weights may "
            "have; export the model with one scale for each input and output"
        )
    return Levels(dtype, float(scales[0]), int(parameters["zero_points"][0]))


IMPORTER = Importer("tflite", ".tflite", FORMS, matches, open_model, check=check, can_execute=False)
