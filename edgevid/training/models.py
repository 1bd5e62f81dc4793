"""Models: one set of weights in two forms, a step for streams and an unrolled form for training.

They use only ``keras.ops`` and so train on every backend. Converters lower the step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
from keras import layers, ops

from edgevid.contract import (
    FRAME,
    Contract,
    Fit,
    FrameInput,
    StateTensor,
)
from edgevid.errors import READABLE, BadInput, reason_of, shorten
from edgevid.tasks.host.training import TrainingTask, open_training
from edgevid.training import WEIGHTS_FILE, Tensor
from edgevid.training.config import ModelConfig
from edgevid.training.encoders import ENCODERS
from edgevid.training.heads import HEADS, Head
from edgevid.training.records import RunRecord, read_record

WINDOW = "window"


@dataclass(frozen=True)
class VideoModel:
    """One set of weights in two forms.

    Attributes:
        config: The architecture.
        training: Takes clips, uint8 (B, T, H, W, 3); gives the task's output, float32 (B, ...), or
            (B, T, ...) for ``carry``.
        step: Takes a dict of ``frame``, uint8 (1, H, W, 3), and ``state_<name>``, float32; gives a
            dict of the output, (1, ...), and ``next_<name>``. Batch 1, static shapes, unrolled.
        states: The state tensors of the step.
        network: The weights.
        every: Makes the layer with the outputs of every frame; None for `EveryFrame`.
    """

    config: ModelConfig
    training: keras.Model
    step: keras.Model
    states: tuple[StateTensor, ...]
    network: Network
    every: Callable[[Network], keras.layers.Layer] | None = None

    def unrolled(self, frames: int) -> keras.Model:
        """A model with the outputs at every frame, from a zero state.

        For ``window``, only the output at the window's last frame equals the step's; the others
        come from an incomplete window and help to train.

        Args:
            frames: Length of the clips.

        Returns:
            A model from clips, uint8 (B, frames, H, W, 3), to outputs, float32 (B, frames, ...).
        """
        clips = layers.Input(
            (frames, self.config.height, self.config.width, 3), dtype="uint8", name="clips"
        )
        every = self.every or EveryFrame
        return keras.Model(clips, every(self.network)(clips), name="unrolled")

    def contract(self, labels: tuple[str, ...], rate_fps: float, fit: Fit = "stretch") -> Contract:
        """The contract of the step.

        Args:
            labels: Names of the classes, in the order of the outputs.
            rate_fps: Steps per second.
            fit: How images are fitted to the input.

        Returns:
            The contract.

        Raises:
            BadInput: The number of labels is wrong.
        """
        if len(labels) != self.config.classes:
            raise BadInput(f"{len(labels)} labels for a model of {self.config.classes} classes")
        contract = Contract(
            task=self.config.task,
            inputs=(FrameInput(FRAME, self.config.height, self.config.width, fit),),
            outputs=(self.network.task.output(self.config.classes),),
            labels=tuple(labels),
            rate_fps=rate_fps,
            temporal=self.config.temporal,
            frames=self.config.frames,
            states=self.states,
        )
        contract.check()
        return contract


class Network(keras.Model):  # type: ignore[misc]
    """Encoder, temporal head and the task's last layer: the weights of a model."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(name="network")
        self.config = config
        self.encoder = ENCODERS[config.size]((config.height, config.width), config.embedding)
        self.head: Head | None = None
        if config.model in HEADS:
            self.head = HEADS[config.model](config.embedding, config.units, name="head")
            self.head.build((None, config.frames, config.embedding))
        self.task: TrainingTask = open_training(config.task)
        # The attribute's name is part of weight files.
        self.classifier = self.task.last_layer(config.classes)
        self.classifier.build((None, config.units if self.head else config.embedding))
        self.built = True

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each state tensor of the step by name, without the batch axis."""
        if self.head is None:
            return {}
        if self.config.temporal == "window":
            return {WINDOW: (self.config.frames - 1, self.config.embedding)}
        return self.head.state_shapes()

    def every_frame(self, clips: Tensor, training: bool = False) -> Tensor:
        """Outputs at every frame, each from the frames so far.

        Args:
            clips: uint8 (B, T, H, W, 3).
            training: Whether normalisation uses the statistics of the batch.

        Returns:
            float32 (B, T, ...).
        """
        images = ops.reshape(clips, (-1, *clips.shape[2:]))
        embeddings = self.encoder(images, training=training)
        features = ops.reshape(embeddings, (-1, clips.shape[1], self.config.embedding))
        return self.classifier(self.head(features) if self.head else features)

    def settle(self, clips: Tensor) -> None:
        """Set the running statistics of batch normalisation to those of some clips.

        They start at zero mean and unit variance, far from those of a fresh encoder, and adapt
        slowly: with few batches per epoch, val would get worse for several epochs while the model
        gets better, and training would stop early with its worst weights.

        Args:
            clips: uint8 (B, T, H, W, 3).
        """
        norms = [x for x in self.encoder.layers if isinstance(x, layers.BatchNormalization)]
        kept = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        self.encoder(ops.reshape(clips, (-1, *clips.shape[2:])), training=True)
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum

    def call(self, clips: Tensor, training: bool = False) -> Tensor:
        """The training form; see `VideoModel.training`."""
        outputs = self.every_frame(clips, training)
        return outputs if self.config.temporal == "carry" else outputs[:, -1]

    def step(self, frame: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """One step.

        Args:
            frame: uint8 (1, H, W, 3).
            state: The state tensors by name, float32.

        Returns:
            The output, float32 (1, ...), and the next state.
        """
        embedding = self.encoder(frame, training=False)
        if self.head is None:
            return self.classifier(embedding), {}
        if self.config.temporal == "carry":
            feature, after = self.head.step(embedding, state)
            return self.classifier(feature), after
        seen = ops.concatenate([state[WINDOW], embedding[:, None]], axis=1)
        return self.classifier(self.head(seen)[:, -1]), {WINDOW: seen[:, 1:]}


class EveryFrame(keras.layers.Layer):  # type: ignore[misc]
    """The network's outputs at every frame, as a layer."""

    def __init__(self, network: Network) -> None:
        super().__init__(name="every_frame")
        self.network = network
        self.built = True

    def call(self, clips: Tensor, training: bool = False) -> Tensor:
        """See `Network.every_frame`."""
        return self.network.every_frame(clips, training)


class StepLayer(keras.layers.Layer):  # type: ignore[misc]
    """The network's step as a layer, with the names of the contract."""

    def __init__(self, network: Network, states: tuple[StateTensor, ...]) -> None:
        super().__init__(name="take_step")
        self.network = network
        self.states = states
        self.built = True

    def call(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `VideoModel.step`."""
        state = {s.name: inputs[s.input_name] for s in self.states}
        output, after = self.network.step(inputs[FRAME], state)
        name = self.network.task.output(self.network.config.classes).name
        return {name: output} | {s.output_name: after[s.name] for s in self.states}


def build(config: ModelConfig) -> VideoModel:
    """Build a model with random weights.

    Call ``keras.utils.set_random_seed`` before: the weights come from Keras' global generator.

    Args:
        config: The architecture.

    Returns:
        The model.

    Raises:
        BadInput: The configuration is wrong.
    """
    config.check()
    network = Network(config)
    states = tuple(StateTensor(name, (1, *shape)) for name, shape in network.state_shapes().items())
    image = (config.height, config.width, 3)
    clips = layers.Input((config.frames, *image), dtype="uint8", name="clips")
    inputs = {FRAME: layers.Input(batch_shape=(1, *image), dtype="uint8", name=FRAME)} | {
        s.input_name: layers.Input(batch_shape=s.shape, name=s.input_name) for s in states
    }
    return VideoModel(
        config=config,
        training=keras.Model(clips, network(clips), name="training"),
        step=keras.Model(inputs, StepLayer(network, states)(inputs), name="step"),
        states=states,
        network=network,
    )


def load_run(run: Path) -> tuple[VideoModel, RunRecord]:
    """Load the trained model of a run folder.

    Args:
        run: The folder.

    Returns:
        The model and the record of its training.

    Raises:
        BadInput: The folder is no run, or one of its files cannot be read.
    """
    run = Path(run)
    record = read_record(run)
    model = build(record.config.model)
    try:
        model.training.load_weights(run / WEIGHTS_FILE)
    except PermissionError:
        raise BadInput(f"{run / WEIGHTS_FILE}: Permission denied; {READABLE}") from None
    except (OSError, ValueError) as error:
        reason = shorten(reason_of(error))
        raise BadInput(f"{run / WEIGHTS_FILE} cannot be read ({reason}); train again") from error
    return model, record
