"""Quantisation-aware fine-tuning: the rounding of int8 is part of the graph.

Weights are rounded as converters do, to 127 steps on either side of zero per output channel;
outputs of layers are rounded to 255 steps over their range in the batch (Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
2018). The gradient passes through unchanged (the straight-through estimator of Bengio, Leonard and
Courville, 2013). Batch normalisation keeps its statistics. Weights are stored without rounding, so
the run is converted like any other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from edgevid.data.division import Division
from edgevid.errors import BadInput
from edgevid.files import sha256_of
from edgevid.progress import Progress, silent
from edgevid.tasks.host import open_host
from edgevid.training import WEIGHTS_FILE, Tensor
from edgevid.training.fit import Training
from edgevid.training.models import Network, VideoModel, load_run
from edgevid.training.records import Origin, RoundedSummary, TrainSummary

RATE_SHARE = 0.1
"""The learning rate of fine-tuning, as a share of the run's."""
PRODUCTS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
ROUNDED = (layers.ReLU, layers.Activation, layers.GlobalAveragePooling2D, layers.Concatenate)
"""Layers whose output is a tensor after conversion, besides products with an activation."""


def fine_tune(
    run: Path,
    out: Path,
    data: Path | None = None,
    *,
    epochs: int,
    learning_rate: float | None = None,
    progress: Progress = silent,
) -> TrainSummary:
    """Continue the training of a run with the rounding of int8.

    Args:
        run: The run folder to start from.
        out: The run folder to write.
        data: Folder of the dataset; None for that of the run. The run's split is kept, so that
            test clips stay unseen.
        epochs: Number of epochs.
        learning_rate: Peak of the schedule; None for a tenth of the run's.
        progress: Called as the work proceeds.

    Returns:
        What was learned, with `TrainSummary.rounded`.

    Raises:
        BadInput: ``run`` is no run, its data is gone, a value is wrong, or ``out`` exists.
    """
    started = time.perf_counter()
    model, record = load_run(run)
    data = Path(data or record.data)
    if not data.exists():
        raise BadInput(f"{data}, the data of {run}, does not exist; give its present folder")
    config = replace(
        record.config,
        epochs=epochs,
        patience=epochs,
        learning_rate=learning_rate or record.config.learning_rate * RATE_SHARE,
    )
    config.check()
    tree = open_host(model.config.task).find(data)
    origin = Origin(sha256_of(run / WEIGHTS_FILE))
    division = Division(record.split, record.recordings, tree.notes)
    training = Training(config, tree, division, out, progress, origin)
    before = training.summary(rounded(model), "val")
    summary = training.run(rounded(model), started)
    return replace(summary, rounded=RoundedSummary(before, summary.val))


def rounded(model: VideoModel) -> VideoModel:
    """The same weights, with the rounding of int8 in the forms for training."""
    return replace(model, every=RoundedFrames, training=_last(model))


def _last(model: VideoModel) -> keras.Model:
    """The training form; see `VideoModel.training`."""
    config = model.config
    shape = (config.frames, config.height, config.width, 3)
    clips = layers.Input(shape, dtype="uint8", name="clips")
    outputs = RoundedFrames(model.network)(clips)
    if config.temporal != "carry":
        outputs = outputs[:, -1]
    return keras.Model(clips, outputs, name="training")


class RoundedFrames(layers.Layer):  # type: ignore[misc]
    """The network's outputs at every frame, approximately as int8 computes them."""

    def __init__(self, network: Network) -> None:
        super().__init__(name="rounded_frames")
        self.network = network
        # In a function Keras does not track the weights, which belong to the network.
        self._encode = _encoder(network)
        self.built = True

    def call(self, clips: Tensor, training: bool = False) -> Tensor:
        """See `edgevid.training.models.Network.every_frame`."""
        network, config = self.network, self.network.config
        # Within the scope each kernel is rounded; the optimizer updates the exact one.
        with keras.StatelessScope([(v, round_weights(v.value)) for v in _products(network)]):
            images = ops.reshape(clips, (-1, *clips.shape[2:]))
            features = ops.reshape(self._encode(images), (-1, clips.shape[1], config.embedding))
            if network.head:
                with network.head.rounding(round_values):
                    features = network.head(features)
            return network.classifier(features)


def _products(network: Network) -> list[keras.Variable]:
    """The kernels of all layers with products."""
    kernels = [x.kernel for x in network.encoder.layers if isinstance(x, PRODUCTS)]
    kernels += network.head.products() if network.head else []
    return [*kernels, network.classifier.kernel]


def _encoder(network: Network) -> Callable[[Tensor], Tensor]:
    """The encoder with rounded outputs of its layers, and fixed statistics."""
    whole = keras.Model(network.encoder.inputs, network.encoder.outputs)

    def call(layer: layers.Layer, *inputs: Any, **options: Any) -> Tensor:
        output = layer(*inputs, **options)
        return RoundedValues()(output) if _is_rounded(layer) else output

    clone = keras.models.clone_model(whole, clone_function=lambda own: own, call_function=call)
    return lambda images: clone(images, training=False)


def _is_rounded(layer: layers.Layer) -> bool:
    active = getattr(layer, "activation", None) not in (None, keras.activations.linear)
    return isinstance(layer, ROUNDED) or (isinstance(layer, PRODUCTS) and active)


class RoundedValues(layers.Layer):  # type: ignore[misc]
    """`round_values` as a layer."""

    def call(self, values: Tensor) -> Tensor:
        """See `round_values`."""
        return round_values(values)


def round_weights(weights: Tensor) -> Tensor:
    """Round a kernel to 127 steps on either side of zero per output channel.

    Args:
        weights: float32, output channels last.

    Returns:
        Rounded weights of the same shape.
    """
    # A depthwise kernel is (height, width, channels, 1): its outputs are the last two axes.
    depthwise = len(weights.shape) == 4 and weights.shape[-1] == 1
    axes = tuple(range(len(weights.shape) - (2 if depthwise else 1)))
    step = ops.max(ops.abs(weights), axis=axes, keepdims=True) / 127 + keras.config.epsilon()
    return _through(weights, ops.round(weights / step) * step)


def round_values(values: Tensor) -> Tensor:
    """Round to 255 steps over the range of the values, zero included.

    Args:
        values: float32 of any shape.

    Returns:
        Rounded values of the same shape.
    """
    low, high = ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0)
    step = (high - low) / 255 + keras.config.epsilon()
    zero = ops.round(low / step)
    return _through(values, (ops.round(values / step - zero) + zero) * step)


def _through(values: Tensor, rounded_values: Tensor) -> Tensor:
    """Rounded values with the gradient of the exact ones."""
    return values + ops.stop_gradient(rounded_values - values)
