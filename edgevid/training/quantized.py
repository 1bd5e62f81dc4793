"""Fine-tuning with the rounding of int8 in the graph, so that weights learn to live with it.

Weights are rounded as converters do, to 127 steps either side of zero for each channel of output,
and what a layer gives to 255 steps over the range that it has in the batch. The gradient goes
through as if nothing were rounded: inside its range it is nowhere clipped. Normalisation keeps its
statistics. The weights are stored as they are, without rounding, so that the run is converted as
any other. Written in ``keras.ops``, it runs on every backend.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from edgevid.errors import BadInput
from edgevid.files import sha256_of
from edgevid.progress import Progress, silent
from edgevid.tasks.host import open_host
from edgevid.training import WEIGHTS_FILE, Tensor
from edgevid.training.augment import Augment
from edgevid.training.fit import Fitting, TrainConfig
from edgevid.training.models import Network, VideoModel, load_run

EPOCHS = 10
GENTLER = 0.1
"""The learning rate of fine-tuning, as a share of that of the run."""
PRODUCTS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
ROUNDED = (layers.ReLU, layers.Activation, layers.GlobalAveragePooling2D, layers.Concatenate)
"""Layers after which a converter has a tensor of its own, besides products with an activation."""


def fine_tune(
    run: Path,
    out: Path,
    data: Path | None = None,
    *,
    epochs: int = EPOCHS,
    learning_rate: float | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Go on training the model of ``run`` for int8, and write the run folder ``out``.

    ``data`` is the run's own, where it is still there; its recorded split is kept, so that test
    clips stay unseen. Gives what `fit.train` gives, and ``rounded``: the figures on val with int8's
    rounding, ``before`` and ``after``. Raises `BadInput`, for an ``out`` that is there already too.
    """
    started = time.perf_counter()
    model, record = load_run(run)
    data = Path(data or record["data"])
    if not data.exists():
        raise BadInput(f"{data}, the data of {run}, does not exist; name where it is now")
    config = _config(record, model, epochs, learning_rate)
    config.check()
    origin = {"quantize_aware": True, "tuned_from_sha256": sha256_of(Path(run) / WEIGHTS_FILE)}
    fitting = Fitting(
        config,
        open_host(model.config.task).find(data),
        record["split"],
        Path(out),
        progress,
        origin,
    )
    before = fitting.figures(rounded(model), "val")
    result = fitting.run(rounded(model), started)
    after = result["metrics"]["val"]
    return result | {"rounded": {"before": before, "after": after}}


def _config(
    record: Mapping[str, Any], model: VideoModel, epochs: int, learning_rate: float | None
) -> TrainConfig:
    """As the run was trained, but for less long, and gently."""
    train = record["train"]
    return TrainConfig(
        model.config,
        epochs=epochs,
        batch=train["batch"],
        learning_rate=learning_rate or train["learning_rate"] * GENTLER,
        patience=epochs,
        seed=train["seed"],
        rate_fps=train["rate_fps"],
        fit=train["fit"],
        augment=Augment(**train["augment"]) if train["augment"] else None,
    )


def rounded(model: VideoModel) -> VideoModel:
    """The same weights, with the rounding of int8 in the forms that train and answer clips."""
    return replace(model, every=RoundedFrames, training=_last(model))


def _last(model: VideoModel) -> keras.Model:
    """The training form; see `VideoModel`."""
    config = model.config
    shape = (config.frames, config.height, config.width, 3)
    clips = layers.Input(shape, dtype="uint8", name="clips")
    outputs = RoundedFrames(model.network)(clips)
    if config.temporal != "carry":
        outputs = outputs[:, -1]
    return keras.Model(clips, outputs, name="training")


class RoundedFrames(layers.Layer):  # type: ignore[misc]
    """The network's answers at every frame as int8 will give them, or nearly."""

    def __init__(self, network: Network) -> None:
        super().__init__(name="rounded_frames")
        self.network = network
        # A function hides what it holds: every weight is the network's, and stored once.
        self._encode = _encoder(network)
        self.built = True

    def call(self, clips: Tensor, training: bool = False) -> Tensor:
        """Clips uint8 (B, T, H, W, 3) -> outputs (B, T, ...)."""
        network, config = self.network, self.network.config
        # Inside, each kernel is its rounded self; outside it is what the optimizer sees.
        with keras.StatelessScope([(v, round_weights(v.value)) for v in _products(network)]):
            pictures = ops.reshape(clips, (-1, *clips.shape[2:]))
            features = ops.reshape(self._encode(pictures), (-1, clips.shape[1], config.embedding))
            if network.head:
                with network.head.rounding(round_values):
                    features = network.head(features)
            return network.classifier(features)


def _products(network: Network) -> list[keras.Variable]:
    """The weights of all products."""
    kernels = [x.kernel for x in network.encoder.layers if isinstance(x, PRODUCTS)]
    kernels += network.head.products() if network.head else []
    return [*kernels, network.classifier.kernel]


def _encoder(network: Network) -> Callable[[Tensor], Tensor]:
    """The encoder's own layers once more, with what they give rounded; frozen statistics."""
    whole = keras.Model(network.encoder.inputs, network.encoder.outputs)

    def call(layer: layers.Layer, *inputs: Any, **options: Any) -> Tensor:
        given = layer(*inputs, **options)
        return RoundedValues()(given) if _is_rounded(layer) else given

    clone = keras.models.clone_model(whole, clone_function=lambda own: own, call_function=call)
    return lambda pictures: clone(pictures, training=False)


def _is_rounded(layer: layers.Layer) -> bool:
    active = getattr(layer, "activation", None) not in (None, keras.activations.linear)
    return isinstance(layer, ROUNDED) or (isinstance(layer, PRODUCTS) and active)


class RoundedValues(layers.Layer):  # type: ignore[misc]
    """`round_values` as a layer."""

    def call(self, values: Tensor) -> Tensor:
        """Values of any shape -> the same, rounded."""
        return round_values(values)


def round_weights(weights: Tensor) -> Tensor:
    """Round a kernel to 127 steps either side of zero for each channel of output."""
    # A depthwise kernel is (height, width, channels, 1): its outputs are the last two axes.
    depthwise = len(weights.shape) == 4 and weights.shape[-1] == 1
    axes = tuple(range(len(weights.shape) - (2 if depthwise else 1)))
    step = ops.max(ops.abs(weights), axis=axes, keepdims=True) / 127 + keras.config.epsilon()
    return _through(weights, ops.round(weights / step) * step)


def round_values(values: Tensor) -> Tensor:
    """Round to 255 steps over the range of ``values``, of which zero is one."""
    low, high = ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0)
    step = (high - low) / 255 + keras.config.epsilon()
    zero = ops.round(low / step)
    return _through(values, (ops.round(values / step - zero) + zero) * step)


def _through(values: Tensor, rounded_values: Tensor) -> Tensor:
    """The rounded values, with the gradient of those that are not."""
    return values + ops.stop_gradient(rounded_values - values)
