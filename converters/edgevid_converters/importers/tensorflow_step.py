"""SavedModels with the contract's tensors around a model in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid_converters.importers.preprocessing import ImageMapping, Preprocessing, TensorMapping
from edgevid_converters.importers.tensors import TensorInfo
from edgevid_converters.library_errors import first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

Tensor: TypeAlias = Any
Call: TypeAlias = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]

SIGNATURE = "serving_default"
EAGER_RUNS = 8


class TensorFlowModel:
    """A model in TensorFlow; see `edgevid_converters.importers.imported.NativeModel`.

    Attributes:
        library: The library's name, for errors.
        inputs: The model's inputs.
        outputs: The model's outputs.
    """

    library: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    quantised: str = "float32"

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._runs = 0
        self._traced: Any = None

    def _call(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Call the model with its own tensors by name."""
        raise NotImplementedError

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model; see `edgevid_converters.importers.imported.NativeModel.infer`.

        Raises:
            BadInput: The runtime cannot run the model.
        """
        import tensorflow as tf

        try:
            given = self._run({name: tf.constant(value) for name, value in inputs.items()})
        except (ValueError, tf.errors.OpError) as error:
            raise BadInput(f"{self.library} cannot run the model: {first_line(error)}") from None
        return {name: value.numpy() for name, value in given.items()}

    def _run(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Call the model; after a few steps as a graph, which takes a second and is faster."""
        import tensorflow as tf

        self._runs += 1
        if self._runs <= EAGER_RUNS:
            return self._call(inputs)
        if self._traced is None:
            self._traced = tf.function(self._call)
        given: Mapping[str, Tensor] = self._traced(inputs)
        return given

    def lower(
        self, form: str, preprocessing: Preprocessing, contract: Contract, folder: Path
    ) -> Path:
        """Write a SavedModel of the step."""
        return write(self._call, self._owner, preprocessing, contract, folder / form)


def write(
    call: Call, owner: Any, preprocessing: Preprocessing, contract: Contract, path: Path
) -> Path:
    """Write a SavedModel whose ``serving_default`` is the step.

    Args:
        call: Maps the model's own input tensors by name to its output tensors.
        owner: Holds the variables.
        preprocessing: Maps the contract's tensors.
        contract: The contract.
        path: Where the SavedModel goes.
    """
    import keras
    import tensorflow as tf

    specs = {
        one.name: tf.TensorSpec(one.shape, tf.uint8, name=one.name) for one in contract.frame_inputs
    }
    passed = preprocessing.tensor_inputs
    shapes = {one.name: one.shape for one in passed}
    shapes |= {one.state_input: one.state_shape for one in preprocessing.images if one.is_clip}
    for name, shape in shapes.items():
        specs[name] = tf.TensorSpec(shape, tf.float32, name=name)

    def answer(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own = {one.own: tf.constant(one.array()) for one in preprocessing.constants}
        own |= {one.own: tf.cast(inputs[one.name], one.dtype) for one in passed}
        following: dict[str, Tensor] = {}
        for image in preprocessing.images:
            own[image.input], state = fed(image, inputs)
            following |= state
        given = call(own)
        named = {one.name: _named(one, given[one.own]) for one in preprocessing.outputs}
        return named | following

    archive = keras.export.ExportArchive()
    archive.track(owner)
    archive.add_endpoint(SIGNATURE, answer, [specs])
    archive.write_out(str(path), verbose=False)
    return path


def fed(image: ImageMapping, inputs: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute `ImageMapping.step` in TensorFlow; arguments and results are the same."""
    import tensorflow as tf

    value = prepared(image, inputs[image.name])
    if not image.is_clip:
        return value, {}
    axis = image.time_axis
    newest = tf.reshape(tf.cast(value, tf.float32), image.frame_shape)
    clip = tf.concat([inputs[image.state_input], newest], axis)
    begin = [int(place == axis) for place in range(len(image.batched_shape))]
    rest = tf.slice(clip, begin, image.state_shape)
    whole = clip if image.shape == image.batched_shape else tf.reshape(clip, image.shape)
    return tf.cast(whole, image.dtype), {image.state_output: rest}


def prepared(image: ImageMapping, frame: Tensor) -> Tensor:
    """Compute `ImageMapping.apply` in TensorFlow; of a clip before its shape is changed."""
    import tensorflow as tf

    if image.colour == "bgr":
        frame = tf.gather(frame, [2, 1, 0], axis=3)
    if image.colour == "grey":
        factors, offset = image.luma
        kernel = tf.constant(factors, tf.float32, (1, 1, 3, 1))
        frame = tf.nn.conv2d(tf.cast(frame, tf.float32), kernel, 1, "VALID")
        if offset:
            frame = frame + tf.constant([offset], tf.float32)
    elif image.computes:
        first, second = image.factors
        frame = tf.cast(frame, tf.float32)
        if any(one != 1.0 for one in first):
            frame = frame * tf.constant(first, tf.float32)
        if any(second):
            frame = frame + tf.constant(second, tf.float32)
    if image.channels_first:
        frame = tf.transpose(frame, [0, 3, 1, 2])
    return frame if image.is_clip else tf.cast(frame, image.dtype)


def _named(one: TensorMapping, value: Tensor) -> Tensor:
    """Return an output in float32; an identity keeps two names of one tensor apart."""
    import tensorflow as tf

    value = tf.ensure_shape(tf.cast(value, tf.float32), one.shape)
    return tf.nn.softmax(value) if one.softmax else tf.identity(value)
