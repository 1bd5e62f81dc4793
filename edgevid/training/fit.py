"""Fit a model to a folder of clips; the run folder holds all that is needed to repeat it.

An interrupted `train` goes on at its last finished epoch when it is called again with the same
arguments, and ends with the same history as one that was not interrupted.
"""

from __future__ import annotations

import csv
import json
import math
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import FRAME, Fit, FrameInput
from edgevid.data.cache import Clips, load_clips
from edgevid.data.folders import Tree
from edgevid.data.inspection import common_rate_fps
from edgevid.data.splits import Split, split_files
from edgevid.errors import BadInput
from edgevid.files import write_json, writing, writing_folder
from edgevid.progress import Progress, silent
from edgevid.registry import need
from edgevid.tasks.host import open_host
from edgevid.tasks.host.training import open_training
from edgevid.training import CONTRACT_FILE, RUN_FILE, WEIGHTS_FILE
from edgevid.training.augment import Augment
from edgevid.training.data import Batches
from edgevid.training.figures import draw_curves

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.training.models import ModelConfig, VideoModel

    Outputs = NDArray[np.float32]

PACKAGES = ("edgevid", "keras", "tensorflow", "numpy", "av")
ARGUMENTS_FILE = "arguments.json"
STATE_FILE = "state.json"
AHEAD = 3
"""Frames at the start of a clip on which a memory is not yet asked for its answer."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train: by default with Adam on a cosine schedule, the best epoch on val kept.

    ``model`` comes from `models.configure`; its number of classes is taken from the data.
    ``rate_fps`` None takes the rate that the clips have. ``patience`` is the number of epochs
    without a better val loss after which training stops.
    """

    model: ModelConfig
    epochs: int = 20
    batch: int = 32
    learning_rate: float = 3e-3
    patience: int = 6
    seed: int = 0
    rate_fps: float | None = None
    fit: Fit = "stretch"
    augment: Augment | None = field(default_factory=Augment)

    def check(self) -> None:
        """Raise `BadInput` for a value that makes no sense."""
        if min(self.epochs, self.batch, self.patience) < 1 or not 0 < self.learning_rate < 1:
            raise BadInput(
                "epochs, batch and patience must be 1 or more, and learning_rate between 0 and 1"
            )
        if self.rate_fps is not None and not 0 < self.rate_fps <= 1000:
            raise BadInput(
                f"rate_fps {self.rate_fps:g} makes no sense; use 1 to 60, or leave it out"
            )


def train(
    config: TrainConfig, data: Path, out: Path, progress: Progress = silent
) -> dict[str, Any]:
    """Fit the model of ``config`` to the clips under ``data`` and write the run folder ``out``.

    Gives ``run``, ``model``, ``task``, ``classes``, ``epochs``, ``metrics``, ``seconds``. Test
    clips are not opened. Raises `BadInput` for data that cannot be learned from, or an ``out``
    that is there already.
    """
    need("keras", "train")
    config.check()
    out = Path(out)
    _check_free(out)
    started = time.perf_counter()
    tree = open_host(config.model.task).find(Path(data))
    rate_fps = config.rate_fps or common_rate_fps(tree)
    config = replace(
        config, rate_fps=rate_fps, model=replace(config.model, classes=len(tree.classes))
    )
    return Fitting(config, tree, split_files(tree, config.seed), out, progress).run(None, started)


class Fitting:
    """The fitting of one model to the clips of a recorded split, towards one run folder.

    ``config`` has its ``rate_fps`` and number of classes. ``origin`` is what the run's record says
    of a model that does not start afresh. Raises `BadInput` as `train` does.
    """

    def __init__(
        self,
        config: TrainConfig,
        tree: Tree,
        split: Split,
        out: Path,
        progress: Progress = silent,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        _check_free(out)
        assert config.rate_fps is not None
        self._config, self._tree, self._split, self._out = config, tree, split, out
        self._progress, self._origin = progress, dict(origin or {})
        frame = FrameInput(FRAME, config.model.height, config.model.width, config.fit)
        least = config.model.frames
        self._clips = {
            name: load_clips(
                tree, split[name], frame, config.rate_fps, min_frames=least, progress=progress
            )
            for name in ("train", "val")
        }
        self._task = open_training(config.model.task)
        self._task.check_learnable(self._clips, tree, least)

    def figures(self, model: VideoModel, split: str) -> dict[str, Any]:
        """The task's figure, ``loss`` and ``n`` of a model on ``train`` or ``val``."""
        clips, task = self._clips[split], self._task
        outputs = last_outputs(model, clips.images)
        return _short(task.figures(outputs, task.targets(clips), self._tree.classes), task.figure)

    def run(self, start: VideoModel | None, started_s: float) -> dict[str, Any]:
        """Fit ``start``, or a fresh model, and write the run folder; gives what `train` gives."""
        config, tree, split = self._config, self._tree, self._split
        known = {"train": _plain(config), "data": str(tree.root), "split": split, **self._origin}
        with writing_folder(self._out, keep=True) as part:
            _forget_other(part, known)
            run = _Run(config, self._clips, part, self._progress, start)
            run.go_on()
            wall_s = time.perf_counter() - started_s
            return _finish(run, tree, split, self._out, wall_s, self._origin)


def _check_free(out: Path) -> None:
    if out.exists():
        raise BadInput(f"{out} is there already; remove it, or give another folder")


def predict(model: VideoModel, pictures: Sequence[NDArray[np.uint8]], batch: int = 64) -> Outputs:
    """Answers to whole clips by the training form.

    Clips are uint8 (N_i, H, W, 3). For ``window`` and ``none``: float32 (N, ...), the output at
    each clip's last frame. For ``carry``: (N, T, ...), at every frame, and the clips must be of one
    length. Raises `BadInput` for a clip that is too short.
    """
    import numpy as np

    lengths = {len(clip) for clip in pictures}
    if model.config.temporal == "carry":
        if len(lengths) != 1:
            raise BadInput("clips of several lengths have no common shape; use last_outputs")
        frames = lengths.pop()
        form = model.training if frames == model.config.frames else model.unrolled(frames)
    else:
        frames, form = model.config.frames, model.training
        if min(lengths, default=0) < frames:
            raise BadInput(f"a clip has fewer than the {frames} frames that the model looks at")
    parts = [
        form.predict_on_batch(np.stack([clip[-frames:] for clip in pictures[n : n + batch]]))
        for n in range(0, len(pictures), batch)
    ]
    return np.concatenate(parts)


def last_outputs(model: VideoModel, pictures: Sequence[NDArray[np.uint8]]) -> Outputs:
    """The output at each clip's last frame, float32 (N, ...), for every temporal mode."""
    import numpy as np

    if model.config.temporal != "carry":
        return predict(model, pictures)
    shape = model.network.task.output(model.config.classes).shape[1:]
    outputs = np.empty((len(pictures), *shape), np.float32)
    lengths = np.array([len(clip) for clip in pictures])
    for length in sorted(set(lengths.tolist())):
        where = np.flatnonzero(lengths == length)
        outputs[where] = predict(model, [pictures[n] for n in where.tolist()])[:, -1]
    return outputs


class _Run:
    """The state of one training, kept in ``part`` after every epoch."""

    def __init__(
        self,
        config: TrainConfig,
        clips: dict[str, Clips],
        part: Path,
        progress: Progress,
        start: VideoModel | None = None,
    ) -> None:
        import keras

        from edgevid.training.models import build

        self.config, self.clips, self.part, self.progress = config, clips, part, progress
        keras.utils.set_random_seed(config.seed)
        self.model = start or build(config.model)
        self.task = self.model.network.task
        self.names = ("loss", self.task.figure)
        # Asked at every frame, not at the last alone: the two-layer memory starts to learn sooner.
        self.fitted = self.model.unrolled(config.model.frames)
        self.fitted.compile(
            optimizer=keras.optimizers.Adam(config.learning_rate, clipnorm=1.0),
            **self.task.compile_options(),
            jit_compile=False,  # compiling the unrolled graph takes longer than it saves
        )
        # Before the first step: variables made in it would have it traced twice.
        self.fitted.optimizer.build(self.fitted.trainable_variables)
        self.batches = Batches(
            clips["train"].images,
            self.task.targets(clips["train"]),
            config.model.frames,
            config.batch,
            config.seed,
            config.augment,
            self.task,
        )
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._load()
        if not self.history and start is None:
            clips_of_one_batch, _ = next(self.batches.epoch(0))
            self.model.network.settle(clips_of_one_batch)

    @property
    def best(self) -> dict[str, float]:
        """The epoch with the lowest val loss so far."""
        return min(self.history, key=lambda row: row["val_loss"])

    def go_on(self) -> None:
        """Train what is left, and end with the weights of the best epoch."""
        while not self._finished():
            started = time.perf_counter()
            row = self._epoch(len(self.history))
            self.history.append(row)
            self.seconds += time.perf_counter() - started
            self._save()
        self.fitted.load_weights(self._weights(int(self.best["epoch"])))

    def _finished(self) -> bool:
        done = len(self.history)
        if done >= self.config.epochs:
            return True
        return done > 0 and done - self.best["epoch"] >= self.config.patience

    def _epoch(self, number: int) -> dict[str, float]:
        total = len(self.batches)
        what = f"epoch {number + 1} of {self.config.epochs}"
        sums = dict.fromkeys(self.names, 0.0)
        for done, (clips, targets) in enumerate(self.batches.epoch(number), 1):
            self.fitted.optimizer.learning_rate = self._rate(number + (done - 1) / total)
            found = self.fitted.train_on_batch(clips, *self._asked(targets), return_dict=True)
            sums = {name: sums[name] + float(found[name]) for name in sums}
            if done < total:
                self.progress(what, done, total, f"loss {sums['loss'] / done:.3f}")
        row = {"epoch": number + 1, "learning_rate": self._rate(number)}
        row |= {f"train_{name}": value / total for name, value in sums.items()}
        val = self.measure("val")
        row |= {f"val_{name}": val[name] for name in self.names}
        figure = row[f"val_{self.task.figure}"]
        self.progress(what, total, total, f"loss {row['train_loss']:.3f}, val {figure:.3f}")
        if not math.isfinite(row["train_loss"]):
            raise BadInput(f"the loss is {row['train_loss']}; use a lower learning_rate")
        return row

    def measure(self, split: str) -> dict[str, Any]:
        """The task's figures of ``split``, without augmentation, at each clip's last frame."""
        clips = self.clips[split]
        outputs = last_outputs(self.model, clips.images)
        return self.task.figures(outputs, self.task.targets(clips), clips.classes)

    def _asked(self, targets: NDArray[Any]) -> tuple[Any, Any]:
        """Targets and weights (B, T): all frames but the first few, for a window the later more."""
        import numpy as np

        frames = self.config.model.frames
        asked = np.maximum(np.arange(frames) - min(AHEAD, frames - 1) + 1, 0).astype(np.float32)
        if self.config.model.temporal == "carry":
            asked = np.minimum(asked, 1)
        asked /= asked.mean()
        shape = (len(targets), frames)
        each = np.broadcast_to(targets[:, None], (*shape, *targets.shape[1:]))
        return each, np.broadcast_to(asked, shape)

    def _rate(self, epochs: float) -> float:
        """The learning rate after ``epochs``: half an epoch up, then down along a cosine."""
        warm = min(1.0, (epochs + 0.05) / 0.5)
        down = 0.5 * (1 + math.cos(math.pi * epochs / self.config.epochs))
        return self.config.learning_rate * warm * max(down, 0.01)

    def _weights(self, epoch: int) -> Path:
        return self.part / f"epoch-{epoch}.weights.h5"

    def _save(self) -> None:
        """Keep the weights of the last and the best epoch; the state names them, and comes last."""
        number = len(self.history)
        with writing(self._weights(number)) as aside:
            whole = aside.with_suffix(".weights.h5")  # keras insists on the ending
            self.fitted.save_weights(whole)
            whole.replace(aside)
        write_json(self.part / STATE_FILE, {"history": self.history, "train_seconds": self.seconds})
        kept = {self._weights(number), self._weights(int(self.best["epoch"]))}
        for old in set(self.part.glob("epoch-*.weights.h5")) - kept:
            old.unlink()

    def _load(self) -> None:
        """Take up an unfinished run."""
        try:
            state = json.loads((self.part / STATE_FILE).read_text())
        except FileNotFoundError:
            return
        self.history, self.seconds = state["history"], state["train_seconds"]
        self.fitted.load_weights(self._weights(len(self.history)))


def _finish(
    run: _Run,
    tree: Tree,
    split: Split,
    out: Path,
    wall_seconds: float,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """Write what the run is remembered by, and sweep what it no longer needs."""
    from edgevid.training.models import build

    config, part = run.config, run.part
    lean = build(config.model)  # without the optimizer's memory, twice the size of the weights
    lean.network.set_weights(run.model.network.get_weights())
    lean.training.save_weights(part / WEIGHTS_FILE)
    assert config.rate_fps is not None
    contract = run.model.contract(tree.classes, config.rate_fps, config.fit)
    metrics = {name: run.measure(name) for name in ("train", "val")}
    left_out = [*run.clips["train"].left_out, *run.clips["val"].left_out]
    write_json(part / CONTRACT_FILE, contract.to_json())
    write_json(part / "metrics.json", metrics)
    write_json(
        part / RUN_FILE,
        {
            "model": config.model.to_json(),
            "train": _plain(config),
            "labels": list(tree.classes),
            "data": str(tree.root.resolve()),
            "split": split,
            "left_out": left_out,
            "epochs": len(run.history),
            "best_epoch": int(run.best["epoch"]),
            "train_seconds": round(run.seconds, 1),
            "versions": _versions(),
            **origin,
        },
    )
    _write_history(part / "history.csv", run.history, run.names)
    draw_curves(part / "curves.png", run.history, run.names)
    run.task.draw(part, metrics["val"])
    for spent in (*part.glob("epoch-*.weights.h5"), part / STATE_FILE, part / ARGUMENTS_FILE):
        spent.unlink()
    return {
        "run": str(out),
        "model": config.model.model,
        "task": contract.task,
        "classes": list(tree.classes),
        "epochs": len(run.history),
        "metrics": {name: _short(found, run.task.figure) for name, found in metrics.items()},
        "left_out": left_out,
        "seconds": round(wall_seconds, 1),
    }


def _short(found: Mapping[str, Any], figure: str) -> dict[str, Any]:
    return {key: found[key] for key in (figure, "loss", "n")}


def _forget_other(part: Path, arguments: dict[str, Any]) -> None:
    """Empty ``part`` if it was begun with other arguments."""
    path = part / ARGUMENTS_FILE
    known = json.loads(json.dumps(arguments))
    if path.exists() and json.loads(path.read_text()) == known:
        return
    for entry in part.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    write_json(path, known)


def _plain(config: TrainConfig) -> dict[str, Any]:
    loss = open_training(config.model.task).loss
    return {"optimizer": "adam", "loss": loss} | asdict(config)


def _write_history(path: Path, history: Sequence[dict[str, float]], names: Sequence[str]) -> None:
    figures = [f"{split}_{name}" for split in ("train", "val") for name in names]
    with writing(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["epoch", "learning_rate", *figures])
        writer.writeheader()
        writer.writerows(history)


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "machine": platform.machine()}
