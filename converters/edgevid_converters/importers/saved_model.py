"""SavedModels of TensorFlow: a folder with ``saved_model.pb``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput
from edgevid_converters.importers import saved_model_operators
from edgevid_converters.importers.imported import Importer
from edgevid_converters.importers.tensorflow_step import Tensor, TensorFlowModel
from edgevid_converters.importers.tensors import TensorInfo
from edgevid_converters.library_errors import first_line

FORMS = ("saved_model",)
SERVING = "serving_default"


def matches(path: Path) -> bool:
    """Recognise the folder by its ``saved_model.pb``."""
    return (path / "saved_model.pb").is_file()


def open_model(path: Path) -> SavedModel:
    """Load it, and choose its signature: ``serving_default``, or the only one.

    Raises:
        BadInput: It is damaged, or has no such signature.
    """
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # noqa: BLE001 - protobuf, files and operators each raise their own
        raise BadInput(f"{path} cannot be loaded by TensorFlow: {first_line(error)}") from None
    names = list(loaded.signatures)
    name = SERVING if SERVING in names or len(names) != 1 else names[0]
    if name not in names:
        raise BadInput(
            f"{path} has no signature {SERVING!r} (it has {', '.join(names) or 'none'}); "
            "export it with one"
        )
    return SavedModel(loaded, loaded.signatures[name])


class SavedModel(TensorFlowModel):
    """A model in TensorFlow; see `edgevid_converters.importers.imported.NativeModel`."""

    library = "TensorFlow"

    def __init__(self, loaded: Any, function: Any) -> None:
        super().__init__(loaded)
        self._function = function
        self.inputs = _ports(function.structured_input_signature[1])
        self.outputs = _ports(function.structured_outputs)

    def _call(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given: dict[str, Tensor] = self._function(**inputs)
        return given


def _ports(specs: Mapping[str, Any]) -> tuple[TensorInfo, ...]:
    found = []
    for name, spec in sorted(specs.items()):
        if spec.shape.rank is None:
            raise BadInput(f"tensor {name!r} has an open number of axes; export it with fixed ones")
        found.append(TensorInfo(name, tuple(spec.shape.as_list()), spec.dtype.name))
    return tuple(found)


IMPORTER = Importer(
    "saved_model", "a SavedModel", FORMS, matches, open_model, check=saved_model_operators.check
)
