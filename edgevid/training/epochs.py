"""The epochs of one training, which can be interrupted and resumed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.data.cache import Clips
from edgevid.errors import BadInput
from edgevid.files import write_json, writing
from edgevid.progress import Progress
from edgevid.training.config import TrainConfig
from edgevid.training.data import Batches
from edgevid.training.predict import last_outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.training.models import VideoModel

STATE_FILE = "state.json"
WARM_UP_FRAMES = 3
"""Frames at the start of a clip at which the output does not count: the state is still empty."""
WARM_UP_EPOCHS = 0.5
MIN_RATE_SHARE = 0.01


class Epochs:
    """Trains a model epoch by epoch; weights and history are saved after each.

    Attributes:
        config: How to train.
        model: The model; after `run` with the weights of the best epoch.
        task: The task's training part.
        names: Figures of the history, without their split: ``loss`` and the task's.
        history: One row per epoch: ``epoch``, ``learning_rate``, ``train_<name>``, ``val_<name>``.
            The train figures are measured during the epoch, on changed clips.
        seconds: Time spent in epochs.
    """

    def __init__(
        self,
        config: TrainConfig,
        clips: Mapping[str, Clips],
        folder: Path,
        progress: Progress,
        start: VideoModel | None = None,
    ) -> None:
        """Prepare, and load what an interrupted training has saved.

        Args:
            config: How to train, with its batch and passes.
            clips: The decoded clips of ``train`` and ``val``.
            folder: Where to save weights and history.
            progress: Called after each batch.
            start: The model to continue with; None for fresh weights.
        """
        import keras

        from edgevid.training.models import build

        self.config, self._clips, self._folder, self._progress = config, clips, folder, progress
        keras.utils.set_random_seed(config.seed)
        self.model = start or build(config.model)
        self.task = self.model.network.task
        self.names = ("loss", self.task.figure)
        # The loss counts at every frame: with the last one alone the head learns much later.
        self._trained = self.model.unrolled(config.model.frames)
        # Adam: Kingma and Ba, ICLR 2015.
        self._trained.compile(
            optimizer=keras.optimizers.Adam(config.learning_rate, clipnorm=1.0),
            **self.task.compile_options(),
            jit_compile=False,  # compiling the unrolled graph takes longer than it saves
        )
        # Before the first step, because variables created in it cause a second tracing.
        self._trained.optimizer.build(self._trained.trainable_variables)
        assert config.batch is not None and config.passes is not None
        self._batches = Batches(
            clips["train"].images,
            self.task.targets(clips["train"]),
            config.model.frames,
            config.batch,
            config.seed,
            config.augment,
            self.task,
            config.passes,
        )
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._load()
        if not self.history and start is None:
            first_batch, _ = next(self._batches.epoch(0))
            self.model.network.settle(first_batch)

    @property
    def best(self) -> dict[str, Any]:
        """The row of the best epoch on val so far: by the task's figure, then by the loss."""
        return max(self.history, key=self._goodness)

    def _goodness(self, row: Mapping[str, Any]) -> tuple[float, float]:
        figure = row[f"val_{self.task.figure}"]
        better = figure if self.task.higher_is_better else -figure
        return -math.inf if math.isnan(better) else better, -row["val_loss"]

    def run(self) -> None:
        """Train the remaining epochs, and load the weights of the best one.

        Raises:
            BadInput: The loss is not finite.
        """
        while not self._finished():
            started = time.perf_counter()
            row = self._epoch(len(self.history))
            self.history.append(row)
            self.seconds += time.perf_counter() - started
            self._save()
        self._trained.load_weights(self._weights(int(self.best["epoch"])))

    def figures(self, split: str) -> dict[str, Any]:
        """The task's figures on ``train`` or ``val``, without augmentation.

        Args:
            split: The split.

        Returns:
            See `edgevid.tasks.host.training.TrainingTask.figures`.
        """
        clips = self._clips[split]
        outputs = last_outputs(self.model, clips.images)
        return self.task.figures(outputs, self.task.targets(clips), clips.classes)

    def clean_up(self) -> None:
        """Remove the saved weights and history."""
        for file in (*self._folder.glob("epoch-*.weights.h5"), self._folder / STATE_FILE):
            file.unlink()

    def _finished(self) -> bool:
        done = len(self.history)
        if done >= self.config.epochs:
            return True
        assert self.config.patience is not None
        return done > 0 and done - self.best["epoch"] >= self.config.patience

    def _epoch(self, number: int) -> dict[str, Any]:
        total = len(self._batches)
        what = f"epoch {number + 1} of {self.config.epochs}"
        sums = dict.fromkeys(self.names, 0.0)
        for done, (clips, targets) in enumerate(self._batches.epoch(number), 1):
            self._trained.optimizer.learning_rate = self._rate(number + (done - 1) / total)
            weighted = self._weighted(targets)
            found = self._trained.train_on_batch(clips, *weighted, return_dict=True)
            sums = {name: sums[name] + float(found[name]) for name in sums}
            if done < total:
                self._progress(what, done, total, f"loss {sums['loss'] / done:.3f}")
        row = {"epoch": number + 1, "learning_rate": self._rate(number)}
        row |= {f"train_{name}": value / total for name, value in sums.items()}
        val = self.figures("val")
        row |= {f"val_{name}": val[name] for name in self.names}
        name = self.task.figure
        best = max([*self.history, row], key=self._goodness)
        self._progress(
            what,
            total,
            total,
            f"loss {row['train_loss']:.3f}, val {name} {row[f'val_{name}']:.3f}, "
            f"best {best[f'val_{name}']:.3f} (epoch {best['epoch']})",
        )
        if not math.isfinite(row["train_loss"]):
            raise BadInput(f"the loss is {row['train_loss']}; use a lower learning_rate")
        return row

    def _weighted(self, targets: NDArray[Any]) -> tuple[Any, Any]:
        """Targets and weights of every frame, (B, T, ...) and float32 (B, T).

        The first frames count nothing. For a window, later frames count more, because a window is
        complete only at its last frame.
        """
        import numpy as np

        frames = self.config.model.frames
        ignored = min(WARM_UP_FRAMES, frames - 1)
        weights = np.maximum(np.arange(frames) - ignored + 1, 0).astype(np.float32)
        if self.config.model.temporal == "carry":
            weights = np.minimum(weights, 1)
        weights /= weights.mean()
        shape = (len(targets), frames)
        each = np.broadcast_to(targets[:, None], (*shape, *targets.shape[1:]))
        return each, np.broadcast_to(weights, shape)

    def _rate(self, epochs: float) -> float:
        """The learning rate after some epochs: linear warm-up, then a cosine.

        Warm-up: Goyal et al., "Accurate, Large Minibatch SGD", 2017. Cosine: Loshchilov and Hutter,
        "SGDR", ICLR 2017, without restarts.
        """
        warm = min(1.0, (epochs + 0.05) / WARM_UP_EPOCHS)
        cosine = 0.5 * (1 + math.cos(math.pi * epochs / self.config.epochs))
        return self.config.learning_rate * warm * max(cosine, MIN_RATE_SHARE)

    def _weights(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch}.weights.h5"

    def _save(self) -> None:
        """Save the weights of the last and the best epoch, then the history, which names them."""
        number = len(self.history)
        with writing(self._weights(number)) as part:
            named = part.with_suffix(".weights.h5")  # Keras insists on the ending
            self._trained.save_weights(named)
            named.replace(part)
        state = {"history": self.history, "train_seconds": self.seconds}
        write_json(self._folder / STATE_FILE, state)
        kept = {self._weights(number), self._weights(int(self.best["epoch"]))}
        for old in set(self._folder.glob("epoch-*.weights.h5")) - kept:
            old.unlink()

    def _load(self) -> None:
        """Load what an interrupted training has saved."""
        try:
            state = json.loads((self._folder / STATE_FILE).read_text())
        except FileNotFoundError:
            return
        self.history, self.seconds = state["history"], state["train_seconds"]
        self._trained.load_weights(self._weights(len(self.history)))
