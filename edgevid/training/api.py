"""The functions of training that programs and the command line call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevid.arguments import check_fields, checked
from edgevid.contract import Fit
from edgevid.progress import Progress, silent
from edgevid.tasks import DEFAULT
from edgevid.training.augment import Augment
from edgevid.training.config import TrainConfig, configure
from edgevid.training.records import TrainSummary

FINE_TUNE_EPOCHS = 10


@dataclass(frozen=True)
class TrainOptions:
    """What to train and how.

    Attributes:
        model: ``cnn``, or ``cnn-lstm``, which has state.
        size: Size of the encoder, ``compact`` or ``article``.
        temporal: ``window`` or ``carry``; by default ``window`` for a model with state.
        frames: Length of the window; by default 8 for a model with state.
        image_size: Width and height of the model's input in pixels.
        fit: How images are fitted to it: ``stretch``, ``crop`` or ``letterbox``.
        rate_fps: Steps per second of the model; None takes the clips' own rate.
        epochs: Largest number of epochs.
        batch: Clips per batch; None for what fits the number of clips.
        learning_rate: Peak of the schedule.
        patience: Training stops after so many epochs without a better one; None for what fits
            the number of clips.
        seed: Seed of the weights, the split, the order of clips and the augmentation.
        augment: Whether to change clips at random.
        task: The task's name.
        group: A regular expression; what it matches in a clip's path names the recording that the
            clip is from, or ``none``. Default: the names of known datasets are recognised.
    """

    model: str = "cnn-lstm"
    size: str = "compact"
    temporal: str | None = None
    frames: int | None = None
    image_size: int = 64
    fit: Fit = "stretch"
    rate_fps: float | None = None
    epochs: int = 20
    batch: int | None = None
    learning_rate: float = 3e-3
    patience: int | None = None
    seed: int = 0
    augment: bool = True
    task: str = DEFAULT
    group: str | None = None

    def __post_init__(self) -> None:
        """Check the types.

        Raises:
            WrongType: An option has another type.
        """
        check_fields(self)

    def config(self) -> TrainConfig:
        """The complete configuration.

        Returns:
            The configuration.

        Raises:
            BadInput: A name is unknown, a value is out of range, or two do not fit together.
        """
        config = TrainConfig(
            configure(
                self.model,
                self.size,
                self.temporal,
                frames=self.frames,
                height=self.image_size,
                width=self.image_size,
                task=self.task,
            ),
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            patience=self.patience,
            seed=self.seed,
            rate_fps=self.rate_fps,
            fit=self.fit,
            augment=Augment() if self.augment else None,
            group=self.group,
        )
        config.check()
        return config


@checked
def train(
    data: str | Path,
    out: str | Path,
    options: TrainOptions | None = None,
    *,
    progress: Progress = silent,
) -> TrainSummary:
    """Train a model on a dataset.

    An interrupted training resumes at its last finished epoch when it is called again with the same
    arguments.

    Args:
        data: Folder of the dataset: one folder per class, or the same below ``train``, ``val`` and
            ``test``.
        out: The run folder to write. It must not exist.
        options: What to train and how.
        progress: Called as the work proceeds.

    Returns:
        What was learned. The run folder goes to `edgevid.convert`.

    Raises:
        WrongType: An argument has another type.
        BadInput: An option is wrong, the data cannot be used, or ``out`` exists.
        MissingExtra: Keras is not installed.
    """
    from edgevid.tasks.host import open_host
    from edgevid.training import backend

    config = (options or TrainOptions()).config()
    open_host(config.model.task).find(Path(data))  # a wrong folder need not wait for the backend
    backend.start()
    from edgevid.training import fit

    return fit.train(config, Path(data), Path(out), progress)


@checked
def fine_tune(
    run: str | Path,
    out: str | Path,
    data: str | Path | None = None,
    *,
    epochs: int = FINE_TUNE_EPOCHS,
    learning_rate: float | None = None,
    progress: Progress = silent,
) -> TrainSummary:
    """Continue the training of a run with the rounding of int8, for models that int8 damages.

    Args:
        run: The run folder to start from.
        out: The run folder to write. It must not exist.
        data: Folder of the dataset; by default that of the run, whose split is kept.
        epochs: Number of epochs.
        learning_rate: Peak of the schedule; by default a tenth of the run's.
        progress: Called as the work proceeds.

    Returns:
        What was learned, with `TrainSummary.rounded`.

    Raises:
        WrongType: An argument has another type.
        BadInput: ``run`` is no run, its data is gone, a value is wrong, or ``out`` exists.
        MissingExtra: Keras is not installed.
    """
    from edgevid.training import backend

    backend.start()
    from edgevid.training import quantized

    return quantized.fine_tune(
        Path(run),
        Path(out),
        Path(data) if data else None,
        epochs=epochs,
        learning_rate=learning_rate,
        progress=progress,
    )
