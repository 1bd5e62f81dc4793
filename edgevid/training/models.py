"""Models, each one set of weights in two forms: a step for streams, an unrolled form for training.

Written in ``keras.ops`` alone, so that they train on every backend; lowering takes the step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import keras
from keras import layers, ops

from edgevid.contract import (
    FRAME,
    Contract,
    Fit,
    FrameInput,
    StateTensor,
    Temporal,
)
from edgevid.errors import BadInput
from edgevid.registry import unknown
from edgevid.tasks import DEFAULT
from edgevid.tasks.host.training import TrainingTask, open_training
from edgevid.training import RUN_FILE, WEIGHTS_FILE, Tensor
from edgevid.training.encoders import ENCODERS
from edgevid.training.heads import HEADS, Head

MODELS = ("cnn", "cnn-lstm")
WINDOW = "window"


@dataclass(frozen=True)
class ModelConfig:
    """What a model is, but for its weights.

    ``frames`` is T: the window's length, or the length of clip that a carried memory was trained
    on; 1 for a model without memory. ``embedding`` and ``units`` are widths of the encoder's
    output and of each recurrent layer.
    """

    model: str = "cnn-lstm"
    size: str = "compact"
    temporal: Temporal = "window"
    frames: int = 8
    height: int = 64
    width: int = 64
    classes: int = 2
    embedding: int = 128
    units: int = 128
    task: str = DEFAULT

    def check(self) -> None:
        """Raise `BadInput` for a name that is not known or a value that makes no sense."""
        for what, value, known in (
            ("model", self.model, MODELS),
            ("size", self.size, tuple(ENCODERS)),
            ("temporal mode", self.temporal, get_args(Temporal)),
        ):
            if value not in known:
                raise BadInput(unknown(what, value, known))
        if (self.temporal == "none") != (self.model not in HEADS):
            fit = "window or carry" if self.model in HEADS else "none"
            raise BadInput(
                f"model {self.model} cannot be of temporal mode {self.temporal}; use {fit}"
            )
        if (self.frames < 2) != (self.temporal == "none"):
            raise BadInput(
                f"temporal mode {self.temporal} cannot have {self.frames} frames; "
                + ("use 1" if self.temporal == "none" else "use 2 or more")
            )
        if min(self.height, self.width) < 16:
            raise BadInput(f"pictures of {self.width}x{self.height} are too small; use 16 or more")
        if min(self.classes, self.embedding, self.units) < 1:
            raise BadInput("classes, embedding and units must be positive")

    def to_json(self) -> dict[str, Any]:
        """Give plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Read what `to_json` gave; raises `BadInput` that names the wrong key."""
        names = {field.name for field in fields(cls)}
        if wrong := sorted(set(data) - names):
            raise BadInput(unknown("key of a model's configuration", wrong[0], names))
        config = cls(**data)
        config.check()
        return config


@dataclass(frozen=True)
class VideoModel:
    """One set of weights in two forms.

    ``training`` takes uint8 clips (B, T, H, W, 3) and gives the task's output (B, ...), or
    (B, T, ...) for ``carry``. ``step`` takes a dict ``frame`` uint8 (1, H, W, 3), ``state_<name>``
    float32, and gives a dict of the output (1, ...) and ``next_<name>``; batch 1, static, unrolled.
    """

    config: ModelConfig
    training: keras.Model
    step: keras.Model
    states: tuple[StateTensor, ...]
    network: Network
    every: Callable[[Network], keras.layers.Layer] | None = None
    """What makes the layer that answers at every frame; None for `EveryFrame`."""

    def unrolled(self, frames: int) -> keras.Model:
        """Clips uint8 (B, frames, H, W, 3) -> outputs (B, frames, ...), state from zero.

        For ``window`` only the answer at the window's last frame is one that the step gives too;
        the others are what a memory still warming up says, and help to fit it.
        """
        clips = layers.Input(
            (frames, self.config.height, self.config.width, 3), dtype="uint8", name="clips"
        )
        every = self.every or EveryFrame
        return keras.Model(clips, every(self.network)(clips), name="unrolled")

    def contract(self, labels: tuple[str, ...], rate_fps: float, fit: Fit = "stretch") -> Contract:
        """What one step takes and gives, for ``labels`` in the order of the scores."""
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
    """Encoder, head and the task's last layer: the weights, in every form they are used in."""

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
        """Name of each state tensor of the step -> its shape without the batch axis."""
        if self.head is None:
            return {}
        if self.config.temporal == "window":
            return {WINDOW: (self.config.frames - 1, self.config.embedding)}
        return self.head.state_shapes()

    def every_frame(self, clips: Tensor, training: bool = False) -> Tensor:
        """Clips uint8 (B, T, H, W, 3) -> outputs (B, T, ...), each from the frames so far."""
        pictures = ops.reshape(clips, (-1, *clips.shape[2:]))
        embeddings = self.encoder(pictures, training=training)
        features = ops.reshape(embeddings, (-1, clips.shape[1], self.config.embedding))
        return self.classifier(self.head(features) if self.head else features)

    def settle(self, clips: Tensor) -> None:
        """Set normalisation's running statistics to those of uint8 ``clips`` (B, T, H, W, 3).

        They start at zero mean and unit variance, far from what a fresh encoder gives, and leave
        that slowly: with a few steps an epoch, val would get worse for epochs while the model gets
        better, and training would stop early with its worst weights.
        """
        norms = [x for x in self.encoder.layers if isinstance(x, layers.BatchNormalization)]
        kept = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        self.encoder(ops.reshape(clips, (-1, *clips.shape[2:])), training=True)
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum

    def call(self, clips: Tensor, training: bool = False) -> Tensor:
        """Clips uint8 (B, T, H, W, 3) -> outputs (B, ...), or (B, T, ...) for ``carry``."""
        outputs = self.every_frame(clips, training)
        return outputs if self.config.temporal == "carry" else outputs[:, -1]

    def step(self, frame: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """One frame (1, H, W, 3) and the state -> output (1, ...) and the next state."""
        embedding = self.encoder(frame, training=False)
        if self.head is None:
            return self.classifier(embedding), {}
        if self.config.temporal == "carry":
            feature, after = self.head.step(embedding, state)
            return self.classifier(feature), after
        seen = ops.concatenate([state[WINDOW], embedding[:, None]], axis=1)
        return self.classifier(self.head(seen)[:, -1]), {WINDOW: seen[:, 1:]}


class EveryFrame(keras.layers.Layer):  # type: ignore[misc]
    """The network's answers at every frame, as a layer."""

    def __init__(self, network: Network) -> None:
        super().__init__(name="every_frame")
        self.network = network
        self.built = True

    def call(self, clips: Tensor, training: bool = False) -> Tensor:
        """See `Network.every_frame`."""
        return self.network.every_frame(clips, training)


class Step(keras.layers.Layer):  # type: ignore[misc]
    """The network's step as a layer, from and to dicts of tensors named as in the contract."""

    def __init__(self, network: Network, states: tuple[StateTensor, ...]) -> None:
        super().__init__(name="take_step")
        self.network = network
        self.states = states
        self.built = True

    def call(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``frame`` and ``state_<name>`` -> the task's output and ``next_<name>``."""
        state = {s.name: inputs[s.taken] for s in self.states}
        output, after = self.network.step(inputs[FRAME], state)
        name = self.network.task.output(self.network.config.classes).name
        return {name: output} | {s.given: after[s.name] for s in self.states}


def configure(
    model: str = "cnn-lstm",
    size: str = "compact",
    temporal: str | None = None,
    *,
    frames: int | None = None,
    height: int = 64,
    width: int = 64,
    task: str = DEFAULT,
) -> ModelConfig:
    """The configuration of a model by name, with what fits it; raises `BadInput`.

    Without ``temporal`` a model with memory gets a window, one without gets none; without
    ``frames`` it is 8, or 1.
    """
    if model not in MODELS:
        raise BadInput(unknown("model", model, MODELS))
    mode: Any = temporal or ("window" if model in HEADS else "none")
    frames = frames or (1 if mode == "none" else 8)
    config = ModelConfig(model, size, mode, frames, height, width, task=task)
    config.check()
    return config


def build(config: ModelConfig) -> VideoModel:
    """Make the model of ``config`` with fresh weights; raises `BadInput`.

    Fresh means from keras' global generator: call ``keras.utils.set_random_seed`` before.
    """
    config.check()
    network = Network(config)
    states = tuple(StateTensor(name, (1, *shape)) for name, shape in network.state_shapes().items())
    picture = (config.height, config.width, 3)
    clips = layers.Input((config.frames, *picture), dtype="uint8", name="clips")
    inputs = {FRAME: layers.Input(batch_shape=(1, *picture), dtype="uint8", name=FRAME)} | {
        s.taken: layers.Input(batch_shape=s.shape, name=s.taken) for s in states
    }
    return VideoModel(
        config=config,
        training=keras.Model(clips, network(clips), name="training"),
        step=keras.Model(inputs, Step(network, states)(inputs), name="step"),
        states=states,
        network=network,
    )


def load_run(run: Path) -> tuple[VideoModel, dict[str, Any]]:
    """The trained model of a run folder, and its record (``run.json``); raises `BadInput`."""
    run = Path(run)
    try:
        record: dict[str, Any] = json.loads((run / RUN_FILE).read_text())
        config = ModelConfig.from_json(record["model"])
    except FileNotFoundError:
        raise BadInput(
            f"{run} is not a run: it has no {RUN_FILE}; make one with edgevid train"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{run / RUN_FILE} cannot be read ({error}); train again") from error
    model = build(config)
    try:
        model.training.load_weights(run / WEIGHTS_FILE)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{run / WEIGHTS_FILE} cannot be read ({reason}); train again") from error
    return model, record
