"""Keras models in one file: ``.keras``, and the older ``.h5``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid_converters.sources.feed import Feed
from edgevid_converters.sources.imported import gist
from edgevid_converters.sources.written import Port

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMS = ("saved_model",)
ENDINGS = (".keras", ".h5", ".hdf5")


def matches(path: Path) -> bool:
    """Tell by the ending."""
    return path.is_file() and path.suffix.lower() in ENDINGS


def open_model(path: Path) -> KerasReference:
    """Load it without code of its own: layers that are not Keras' are refused."""
    import keras

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # noqa: BLE001 - Keras raises what the damage happens to cause
        raise BadInput(f"{path} cannot be loaded by Keras: {gist(error)}") from None
    if not getattr(model, "inputs", None):
        raise BadInput(f"{path} does not say what it takes; save a functional or sequential model")
    return KerasReference(model)


class KerasReference:
    """Keras itself; see `edgevid_converters.sources.imported.Reference`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.inputs = tuple(_port(one, one.name) for one in model.inputs)
        names = getattr(model, "output_names", None) or [f"output_{n}" for n in range(99)]
        self.outputs = tuple(
            _port(one, name) for one, name in zip(model.outputs, names, strict=False)
        )

    def _call(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        import keras

        flat = [inputs[port.name] for port in self.inputs]
        structure = getattr(self._model, "_inputs_struct", None)
        packed = flat[0] if structure is None else keras.tree.pack_sequence_as(structure, flat)
        given = keras.tree.flatten(self._model(packed, training=False))
        return {port.name: value for port, value in zip(self.outputs, given, strict=True)}

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run it in TensorFlow, eagerly."""
        import tensorflow as tf

        try:
            given = self._call({name: tf.constant(value) for name, value in inputs.items()})
        except (ValueError, tf.errors.OpError) as error:
            raise BadInput(f"Keras cannot run the model: {gist(error)}") from None
        return {name: value.numpy() for name, value in given.items()}

    def lower(self, form: str, feed: Feed, contract: Contract, folder: Path) -> Path:
        """Write a SavedModel."""
        from edgevid_converters.sources import tensorflow_step

        return tensorflow_step.write(self._call, self._model, feed, contract, folder / form)


def _port(tensor: Any, name: str) -> Port:
    return Port(str(name), tuple(tensor.shape), str(tensor.dtype))
