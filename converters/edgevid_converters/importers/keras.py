"""Keras models in one file: ``.keras``, and the older ``.h5``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput
from edgevid_converters.importers.imported import Importer, first_line
from edgevid_converters.importers.tensorflow_step import Tensor, TensorFlowModel
from edgevid_converters.importers.tensors import TensorInfo

FORMS = ("saved_model",)
ENDINGS = (".keras", ".h5", ".hdf5")


def matches(path: Path) -> bool:
    """Recognise the file by its suffix."""
    return path.is_file() and path.suffix.lower() in ENDINGS


def open_model(path: Path) -> KerasModel:
    """Load it without custom code.

    Raises:
        BadInput: The file is damaged, or has layers that are not part of Keras.
    """
    import keras

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # noqa: BLE001 - Keras raises what the damage happens to cause
        raise BadInput(f"{path} cannot be loaded by Keras: {first_line(error)}") from None
    if not getattr(model, "inputs", None):
        raise BadInput(f"{path} has no inputs recorded; save a functional or sequential model")
    return KerasModel(model)


class KerasModel(TensorFlowModel):
    """A model in Keras; see `edgevid_converters.importers.imported.NativeModel`."""

    library = "Keras"

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        computes = {getattr(one, "compute_dtype", "float32") for one in model.layers}
        self.precision = "float16" if "float16" in computes else "float32"
        self.inputs = tuple(_tensor_info(one, one.name) for one in model.inputs)
        names = getattr(model, "output_names", None) or [f"output_{n}" for n in range(99)]
        self.outputs = tuple(
            _tensor_info(one, name) for one, name in zip(model.outputs, names, strict=False)
        )

    def _call(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import keras

        flat = [inputs[tensor.name] for tensor in self.inputs]
        structure = getattr(self._owner, "_inputs_struct", None)
        packed = flat[0] if structure is None else keras.tree.pack_sequence_as(structure, flat)
        given = keras.tree.flatten(self._owner(packed, training=False))
        return {tensor.name: value for tensor, value in zip(self.outputs, given, strict=True)}


def _tensor_info(tensor: Any, name: str) -> TensorInfo:
    return TensorInfo(str(name), tuple(tensor.shape), str(tensor.dtype))


IMPORTER = Importer("keras", ".keras, .h5", FORMS, matches, open_model)
