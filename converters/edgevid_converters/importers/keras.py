"""Keras models in one file: ``.keras``, and the older ``.h5``, of Keras 3 or of Keras 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput
from edgevid.registry import need
from edgevid_converters.importers import keras_config
from edgevid_converters.importers.imported import Importer
from edgevid_converters.importers.tensorflow_step import Tensor, TensorFlowModel
from edgevid_converters.importers.tensors import TensorInfo
from edgevid_converters.library_errors import first_line

FORMS = ("saved_model",)
MOST_UNROLLED = 64
"""Steps that a loop is unrolled over at most; more make the graph too large."""
CLIP_RANK = 5
ENDINGS = (".keras", ".h5", ".hdf5")


def matches(path: Path) -> bool:
    """Recognise the file by its suffix."""
    return path.is_file() and path.suffix.lower() in ENDINGS


def check(path: Path) -> None:
    """Check by its configuration that the file contains only Keras' own layers.

    Raises:
        BadInput: It contains others, or is damaged; the message names the layer.
    """
    keras_config.check(path, keras_config.read(path).config)


def open_model(path: Path) -> KerasModel:
    """Load it with the Keras that wrote it, without the code that it contains.

    Raises:
        BadInput: The file is damaged.
        MissingExtra: It is of Keras 2, and tf_keras is not installed.
    """
    return _loaded(path, safe_mode=True)


def open_trusted(path: Path) -> KerasModel:
    """Load it as `open_model` does, with the code that it contains."""
    return _loaded(path, safe_mode=False)


def _loaded(path: Path, *, safe_mode: bool) -> KerasModel:
    found = keras_config.read(path)
    keras = need("tf_keras" if found.is_keras_2 else "keras", "convert")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=safe_mode)
    except Exception as error:  # noqa: BLE001 - Keras raises what the damage happens to cause
        raise BadInput(f"{path} cannot be loaded by Keras: {first_line(error)}") from None
    if not getattr(model, "inputs", None):
        raise BadInput(f"{path} has no inputs recorded; save a functional or sequential model")
    unroll(model)
    return KerasModel(model)


def unroll(model: Any) -> None:
    """Unroll recurrent layers over a few steps: TensorFlow's quantiser crashes on loops.

    The frames of a clip are taken for few where the model leaves their number open.
    No layer of Keras 2 stays fused: a fused one keeps its state from call to call in TFLite.
    """
    clips = any(len(one.shape) == CLIP_RANK for one in model.inputs)
    for layer in model._flatten_layers():
        inner = [getattr(layer, name, None) for name in ("forward_layer", "backward_layer")]
        loops = [one for one in (layer, *inner) if getattr(one, "unroll", None) is False]
        steps = _steps(layer) if loops else None
        for one in loops:
            one.unroll = clips if steps is None else steps <= MOST_UNROLLED
            if hasattr(one, "_could_use_gpu_kernel"):
                one._could_use_gpu_kernel = False


def _steps(layer: Any) -> int | None:
    """Number of steps that a recurrent layer takes; None if it is open."""
    try:
        given = layer.input
    except (AttributeError, ValueError):  # it is inside of another layer
        return None
    shape = (given[0] if isinstance(given, list | tuple) else given).shape
    return shape[1] if len(shape) > 1 else None


class KerasModel(TensorFlowModel):
    """A model in Keras; see `edgevid_converters.importers.imported.NativeModel`."""

    library = "Keras"

    def __init__(self, model: Any) -> None:
        super().__init__(_variables(model))
        self._model = model
        self._is_keras_2 = not isinstance(model, need("keras", "convert").Model)
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
        structure = getattr(self._model, "_inputs_struct", None)
        if structure is None:  # a sequential model, or one of Keras 2
            packed = flat[0] if len(flat) == 1 else flat
        else:
            packed = keras.tree.pack_sequence_as(structure, flat)
        with unrolled_loops() if self._is_keras_2 else nullcontext():
            given = keras.tree.flatten(self._model(packed, training=False))
        return {tensor.name: value for tensor, value in zip(self.outputs, given, strict=True)}


@contextmanager
def unrolled_loops() -> Iterator[None]:
    """Unroll all loops of Keras 2 over a few steps, also of layers that have no option for it.

    These are convolutional recurrent layers, and `TimeDistributed` where the batch is fixed.
    """
    import tensorflow as tf

    backend: Any = import_module("tf_keras.src.backend")

    rnn = backend.rnn

    def unrolled(step: Any, inputs: Any, *args: Any, unroll: bool = False, **options: Any) -> Any:
        steps = tf.nest.flatten(inputs)[0].shape[0 if options.get("time_major") else 1]
        few = steps is not None and steps <= MOST_UNROLLED
        return rnn(step, inputs, *args, unroll=unroll or few, **options)

    backend.rnn = unrolled
    try:
        yield
    finally:
        backend.rnn = rnn


def _variables(model: Any) -> Any:
    """Return an owner of a model's variables alone.

    The model itself would be traced too, with the sizes that it leaves open.
    """
    import tensorflow as tf

    owner = tf.Module()
    owner.kept = [one if isinstance(one, tf.Variable) else one.value for one in model.variables]
    return owner


def _tensor_info(tensor: Any, name: str) -> TensorInfo:
    dtype = getattr(tensor.dtype, "name", tensor.dtype)
    return TensorInfo(str(name), tuple(tensor.shape), str(dtype))


IMPORTER = Importer(
    "keras", ".keras, .h5", FORMS, matches, open_model, check=check, open_trusted=open_trusted
)
