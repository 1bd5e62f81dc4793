"""Float ``.tflite`` models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid.registry import need
from edgevid_converters.importers.graph_rewrite import GraphRewrite
from edgevid_converters.importers.imported import Importer, first_line
from edgevid_converters.importers.preprocessing import Preprocessing
from edgevid_converters.importers.tensors import TensorInfo, sizes
from edgevid_converters.lowering.tflite.flatbuffer import pack, parse

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMS = ("tflite",)


def matches(path: Path) -> bool:
    """Recognise the file by its suffix."""
    return path.is_file() and path.suffix.lower() == ".tflite"


def open_model(path: Path) -> TFLiteModel:
    """Load it in LiteRT.

    Raises:
        BadInput: The file is damaged, or quantised already.
        MissingExtra: LiteRT is not installed.
    """
    litert = need("ai_edge_litert.interpreter", "convert")
    content = path.read_bytes()
    try:
        interpreter = litert.Interpreter(model_content=content, num_threads=1)
        reference = TFLiteModel(content, interpreter)
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{path} cannot be loaded by LiteRT: {first_line(error)}") from None
    for tensor in (*reference.inputs, *reference.outputs):
        if tensor.dtype in ("int8", "int16"):
            raise BadInput(
                f"{path} is quantised already ({tensor}); "
                "give the float model that it was made from"
            )
    return reference


class TFLiteModel:
    """A model in LiteRT, on one thread; see `edgevid_converters.importers.imported.NativeModel`."""

    def __init__(self, content: bytes, interpreter: Any) -> None:
        self._content, self._interpreter = content, interpreter
        self._inputs = interpreter.get_input_details()
        self._outputs = interpreter.get_output_details()
        self.inputs = tuple(_tensor_info(one) for one in self._inputs)
        self.outputs = tuple(_tensor_info(one) for one in self._outputs)
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
                self._interpreter.set_tensor(one["index"], inputs[tensor.name])
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise BadInput(f"LiteRT cannot run the model: {first_line(error)}") from None
        return {
            tensor.name: self._interpreter.get_tensor(one["index"])
            for tensor, one in zip(self.outputs, self._outputs, strict=True)
        }

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
        for constant in preprocessing.constants:
            rewrite.fix(constant.own, constant.array())
        inputs = [(one.name, rewrite.take_frame(one)) for one in preprocessing.images]
        inputs += [(one.name, rewrite.take(one)) for one in preprocessing.tensor_inputs]
        outputs = [(one.name, rewrite.give(one)) for one in preprocessing.outputs]
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
    return TensorInfo(str(one["name"]), sizes, np.dtype(one["dtype"]).name)


IMPORTER = Importer("tflite", ".tflite", FORMS, matches, open_model)
