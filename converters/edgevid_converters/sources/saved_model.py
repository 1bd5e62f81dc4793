"""TensorFlow's SavedModel: a folder with ``saved_model.pb``."""

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
SERVING = "serving_default"


def matches(path: Path) -> bool:
    """Tell by the file that every SavedModel has."""
    return (path / "saved_model.pb").is_file()


def open_model(path: Path) -> SavedModelReference:
    """Load it, and choose its signature: ``serving_default``, or the only one."""
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # noqa: BLE001 - protobuf, files and operators each raise their own
        raise BadInput(f"{path} cannot be loaded by TensorFlow: {gist(error)}") from None
    names = list(loaded.signatures)
    name = SERVING if SERVING in names or len(names) != 1 else names[0]
    if name not in names:
        raise BadInput(
            f"{path} has no signature {SERVING!r} (it has {', '.join(names) or 'none'}); "
            "export it with one"
        )
    return SavedModelReference(loaded, loaded.signatures[name])


class SavedModelReference:
    """TensorFlow itself; see `edgevid_converters.sources.imported.Reference`."""

    def __init__(self, loaded: Any, function: Any) -> None:
        self._loaded, self._function = loaded, function
        self.inputs = _ports(function.structured_input_signature[1])
        self.outputs = _ports(function.structured_outputs)

    def _call(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = self._function(**inputs)
        return given

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Call the signature."""
        import tensorflow as tf

        try:
            given = self._call({name: tf.constant(value) for name, value in inputs.items()})
        except (ValueError, tf.errors.OpError) as error:
            raise BadInput(f"TensorFlow cannot run the model: {gist(error)}") from None
        return {name: value.numpy() for name, value in given.items()}

    def lower(self, form: str, feed: Feed, contract: Contract, folder: Path) -> Path:
        """Write another SavedModel around it."""
        from edgevid_converters.sources import tensorflow_step

        return tensorflow_step.write(self._call, self._loaded, feed, contract, folder / form)


def _ports(specs: Mapping[str, Any]) -> tuple[Port, ...]:
    found = []
    for name, spec in sorted(specs.items()):
        if spec.shape.rank is None:
            raise BadInput(f"tensor {name!r} leaves open how many sizes it has; export it with one")
        found.append(Port(name, tuple(spec.shape.as_list()), spec.dtype.name))
    return tuple(found)
