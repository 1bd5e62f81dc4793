"""Configurations of models and of their training. Nothing here imports Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import ceil
from typing import Any, get_args

from edgevid.contract import Fit, Temporal
from edgevid.errors import BadInput
from edgevid.registry import unknown
from edgevid.tasks import DEFAULT
from edgevid.training.augment import Augment

MODELS = ("cnn", "cnn-lstm")
RECURRENT = ("cnn-lstm",)
"""Models with a temporal head; see `edgevid.training.heads.HEADS`."""
SIZES = ("article", "compact")
"""Sizes of the encoder; see `edgevid.training.encoders.ENCODERS`."""
DEFAULT_FRAMES = 8
MIN_SIZE_PX = 16
PATIENCE = ((512, 6), (0, 10))
"""Clips to train on, from -> epochs of patience: the figures of a small val leap."""
BATCHES = ((512, 32), (128, 16), (0, 8))
"""Clips to train on, from -> clips per batch."""
MIN_STEPS = 20
"""Least batches per epoch; a small dataset is passed through several times."""


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of a model.

    Attributes:
        model: One of `MODELS`.
        size: One of `SIZES`.
        temporal: ``window``, ``carry``, or ``none`` for a model without state.
        frames: Length T of the window, or of the clips that a carried state is trained on; 1 for a
            model without state.
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        classes: Number of classes.
        embedding: Width of the encoder's output.
        units: Width of each recurrent layer.
        task: The task's name.
    """

    model: str = "cnn-lstm"
    size: str = "compact"
    temporal: Temporal = "window"
    frames: int = DEFAULT_FRAMES
    height: int = 64
    width: int = 64
    classes: int = 2
    embedding: int = 128
    units: int = 128
    task: str = DEFAULT

    def check(self) -> None:
        """Check the values.

        Raises:
            BadInput: A name is unknown, a value is out of range, or two do not fit together.
        """
        for what, value, known in (
            ("model", self.model, MODELS),
            ("size", self.size, SIZES),
            ("temporal mode", self.temporal, get_args(Temporal)),
        ):
            if value not in known:
                raise BadInput(unknown(what, value, known))
        if (self.temporal == "none") != (self.model not in RECURRENT):
            fix = "window or carry" if self.model in RECURRENT else "none"
            raise BadInput(
                f"model {self.model} does not support the temporal mode {self.temporal}; use {fix}"
            )
        if (self.frames < 2) != (self.temporal == "none"):
            raise BadInput(
                f"temporal mode {self.temporal} does not work with {self.frames} frames; "
                + ("use 1" if self.temporal == "none" else "use 2 or more")
            )
        if min(self.height, self.width) < MIN_SIZE_PX:
            raise BadInput(
                f"images of {self.width}x{self.height} are too small; use {MIN_SIZE_PX} or more"
            )
        if min(self.classes, self.embedding, self.units) < 1:
            raise BadInput("classes, embedding and units must be positive")

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Parse what `to_json` returned.

        Args:
            data: Plain data.

        Returns:
            The configuration.

        Raises:
            BadInput: A key is unknown, or a value is wrong.
        """
        names = {field.name for field in fields(cls)}
        if wrong := sorted(set(data) - names):
            raise BadInput(unknown("key of a model's configuration", wrong[0], names))
        config = cls(**data)
        config.check()
        return config


@dataclass(frozen=True)
class TrainConfig:
    """How to train one model: Adam on a cosine schedule; the best epoch is kept.

    The best epoch is the one with the best figure of the task on val; among equals, the one with
    the lowest loss on val.

    Attributes:
        model: The model. Its number of classes is replaced by that of the data.
        epochs: Largest number of epochs.
        batch: Clips per batch; None for what fits the number of clips.
        learning_rate: Peak of the schedule.
        patience: Training stops after so many epochs without a better one; None for what fits the
            number of clips.
        seed: Seed of the weights, the split, the order of clips and the augmentation.
        rate_fps: Steps per second of the model; None takes the clips' own rate.
        fit: How images are fitted to the model's input.
        augment: Random changes of the clips; None for none.
        passes: How often an epoch passes through the clips; None for what fits their number.
        group: How recordings are recognised; see `edgevid.data.groups.find_recordings`.
    """

    model: ModelConfig
    epochs: int = 20
    batch: int | None = None
    learning_rate: float = 3e-3
    patience: int | None = None
    seed: int = 0
    rate_fps: float | None = None
    fit: Fit = "stretch"
    augment: Augment | None = field(default_factory=Augment)
    passes: int | None = None
    group: str | None = None

    def fitted(self, clips: int) -> TrainConfig:
        """Choose what is left open so that it fits a number of clips.

        Args:
            clips: Number of clips to train on.

        Returns:
            The configuration with batch, passes and patience.
        """
        batch = self.batch or min(clips, next(size for least, size in BATCHES if clips >= least))
        steps = max(1, clips // batch)
        return replace(
            self,
            batch=batch,
            passes=self.passes or ceil(MIN_STEPS / steps),
            patience=self.patience or next(n for least, n in PATIENCE if clips >= least),
        )

    def check(self) -> None:
        """Check the values, the model's excepted.

        Raises:
            BadInput: A value is out of range.
        """
        counts = (self.epochs, self.batch or 1, self.patience or 1, self.passes or 1)
        if min(counts) < 1 or not 0 < self.learning_rate < 1:
            raise BadInput(
                "epochs, batch and patience must be 1 or more, and learning_rate between 0 and 1"
            )
        if self.rate_fps is not None and not 0 < self.rate_fps <= 1000:
            raise BadInput(f"bad rate_fps {self.rate_fps:g}; use 1 to 60, or leave it out")

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainConfig:
        """Parse what `to_json` returned; unknown keys are ignored.

        Args:
            data: Plain data.

        Returns:
            The configuration.

        Raises:
            BadInput: The model's configuration is wrong.
            KeyError: A key is missing.
        """
        later = {"passes": 1, "group": None}  # records of earlier versions lack them
        plain = {one.name: (later | dict(data))[one.name] for one in fields(cls)}
        model = ModelConfig.from_json(plain.pop("model"))
        augment = plain.pop("augment")
        return cls(model, **plain, augment=Augment(**augment) if augment else None)


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
    """Complete the configuration of a model.

    Args:
        model: One of `MODELS`.
        size: One of `SIZES`.
        temporal: The temporal mode; by default ``window`` for a model with state.
        frames: Length of the window; by default 8, or 1 for a model without state.
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        task: The task's name.

    Returns:
        The configuration.

    Raises:
        BadInput: A name is unknown, a value is out of range, or two do not fit together.
    """
    if model not in MODELS:
        raise BadInput(unknown("model", model, MODELS))
    mode: Any = temporal or ("window" if model in RECURRENT else "none")
    frames = frames or (1 if mode == "none" else DEFAULT_FRAMES)
    config = ModelConfig(model, size, mode, frames, height, width, task=task)
    config.check()
    return config
