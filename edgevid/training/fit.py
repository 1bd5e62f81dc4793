"""Training of a model on a dataset, into a run folder that has all that is needed to repeat it.

An interrupted training resumes at its last finished epoch when it is called again with the same
arguments, and ends with the same history as an uninterrupted one.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import FRAME, FrameInput
from edgevid.data.cache import load_clips
from edgevid.data.division import Division, divide
from edgevid.data.folders import Tree
from edgevid.data.inspection import common_rate_fps
from edgevid.errors import BadInput
from edgevid.files import write_json, writing, writing_folder
from edgevid.progress import Progress, silent
from edgevid.registry import need
from edgevid.tasks.host import open_host
from edgevid.tasks.host.metrics import ChanceTest
from edgevid.tasks.host.training import open_training
from edgevid.training import (
    CONTRACT_FILE,
    CURVES_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    RUN_FILE,
    WEIGHTS_FILE,
)
from edgevid.training.config import TrainConfig
from edgevid.training.epochs import Epochs
from edgevid.training.figures import draw_curves
from edgevid.training.predict import last_outputs
from edgevid.training.records import (
    Origin,
    RunRecord,
    SplitSummary,
    TrainSummary,
    arguments,
    versions,
)

if TYPE_CHECKING:
    from edgevid.training.models import VideoModel

ARGUMENTS_FILE = "arguments.json"


def train(config: TrainConfig, data: Path, out: Path, progress: Progress = silent) -> TrainSummary:
    """Train a model. Test clips are not opened.

    Args:
        config: The model and how to train it.
        data: The folder of the dataset.
        out: The run folder to write.
        progress: Called as clips are decoded and after each batch.

    Returns:
        What was learned.

    Raises:
        BadInput: A value is wrong, the data cannot be used, or ``out`` exists.
        MissingExtra: Keras is not installed.
    """
    need("keras", "train")
    config.check()
    out = Path(out)
    _check_free(out)
    started = time.perf_counter()
    tree = open_host(config.model.task).find(Path(data))
    division = divide(tree, config.seed, config.group)
    rate_fps = config.rate_fps or common_rate_fps(tree)
    model = replace(config.model, classes=len(tree.classes))
    config = replace(config, rate_fps=rate_fps, model=model)
    return Training(config, tree, division, out, progress).run(None, started)


class Training:
    """The training of one model on a fixed split, into one run folder."""

    def __init__(
        self,
        config: TrainConfig,
        tree: Tree,
        division: Division,
        out: Path,
        progress: Progress = silent,
        origin: Origin | None = None,
    ) -> None:
        """Decode the clips.

        Args:
            config: The model and how to train it, with its rate and number of classes.
            tree: The dataset.
            division: The clips of each split.
            out: The run folder to write.
            progress: Called as clips are decoded and after each batch.
            origin: The run that the model comes from, if any.

        Raises:
            BadInput: The data cannot be used, or ``out`` exists.
        """
        _check_free(out)
        assert config.rate_fps is not None
        self._tree, self._division, self._out = tree, division, out
        self._progress, self._origin = progress, origin
        self._rate_fps = config.rate_fps
        frame = FrameInput(FRAME, config.model.height, config.model.width, config.fit)
        least = config.model.frames
        self._clips = {
            name: load_clips(
                tree,
                division.split[name],
                frame,
                self._rate_fps,
                min_frames=least,
                progress=progress,
            )
            for name in ("train", "val")
        }
        self._task = open_training(config.model.task)
        self._task.check_learnable(self._clips, tree, least)
        self._config = config.fitted(len(self._clips["train"]))

    def summary(self, model: VideoModel, split: str) -> SplitSummary:
        """How good a model is on ``train`` or ``val``.

        Args:
            model: The model.
            split: The split.

        Returns:
            The task's figure and the loss.
        """
        clips, task = self._clips[split], self._task
        outputs = last_outputs(model, clips.images)
        figures = task.figures(outputs, task.targets(clips), self._tree.classes)
        return SplitSummary.of(figures, task.figure)

    def run(self, start: VideoModel | None, started_s: float) -> TrainSummary:
        """Train and write the run folder.

        Args:
            start: The model to continue with; None for fresh weights.
            started_s: `time.perf_counter` when the work began.

        Returns:
            What was learned.

        Raises:
            BadInput: The loss is not finite.
        """
        known = {
            "train": arguments(self._config),
            "data": str(self._tree.root),
            "split": self._division.split,
            **(asdict(self._origin) if self._origin else {}),
        }
        with writing_folder(self._out, keep=True) as folder:
            _empty_unless_same(folder, known)
            epochs = Epochs(self._config, self._clips, folder, self._progress, start)
            epochs.run()
            metrics = {name: epochs.figures(name) for name in ("train", "val")}
            chance = self._chance(metrics["val"], len(epochs.history))
            if chance:
                metrics["val"]["chance"] = chance.to_json()
            self._write(folder, epochs, metrics)
            epochs.clean_up()
            (folder / ARGUMENTS_FILE).unlink()
            figure = self._task.figure
            return TrainSummary(
                run=self._out,
                model=self._config.model.model,
                task=self._config.model.task,
                classes=self._tree.classes,
                epochs=len(epochs.history),
                best_epoch=int(epochs.best["epoch"]),
                train=SplitSummary.of(metrics["train"], figure),
                val=SplitSummary.of(metrics["val"], figure),
                left_out=self._left_out(),
                seconds=time.perf_counter() - started_s,
                recordings=self._division.recordings,
                notes=self._division.notes,
                chance=chance,
                higher_is_better=self._task.higher_is_better,
            )

    def _chance(self, val: Mapping[str, Any], epochs: int) -> ChanceTest | None:
        """Compare the kept epoch with a guess; it is the best of so many on the same clips."""
        found = self._task.chance_test(val)
        return replace(found, tries=epochs) if found else None

    def _left_out(self) -> tuple[Mapping[str, str], ...]:
        return (*self._clips["train"].left_out, *self._clips["val"].left_out)

    def _write(self, folder: Path, epochs: Epochs, metrics: Mapping[str, Any]) -> None:
        """Write the files of the run folder."""
        from edgevid.training.models import build

        config = self._config
        lean = build(config.model)  # without the optimizer's state, twice the size of the weights
        lean.network.set_weights(epochs.model.network.get_weights())
        lean.training.save_weights(folder / WEIGHTS_FILE)
        contract = epochs.model.contract(self._tree.classes, self._rate_fps, config.fit)
        record = RunRecord(
            config=config,
            labels=self._tree.classes,
            data=self._tree.root.resolve(),
            split=self._division.split,
            recordings=self._division.recordings,
            left_out=self._left_out(),
            epochs=len(epochs.history),
            best_epoch=int(epochs.best["epoch"]),
            train_seconds=epochs.seconds,
            versions=versions(),
            origin=self._origin,
        )
        write_json(folder / CONTRACT_FILE, contract.to_json())
        write_json(folder / METRICS_FILE, metrics)
        write_json(folder / RUN_FILE, record.to_json())
        _write_history(folder / HISTORY_FILE, epochs.history, epochs.names)
        draw_curves(folder / CURVES_FILE, epochs.history, epochs.names)
        self._task.draw(folder, metrics["val"])


def _check_free(out: Path) -> None:
    if out.exists():
        raise BadInput(f"{out} exists already; remove it, or use another folder")


def _empty_unless_same(folder: Path, known: Mapping[str, Any]) -> None:
    """Empty the folder of an unfinished training that had other arguments."""
    path = folder / ARGUMENTS_FILE
    plain = json.loads(json.dumps(known))
    if path.exists() and json.loads(path.read_text()) == plain:
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    write_json(path, plain)


def _write_history(path: Path, history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    figures = [f"{split}_{name}" for split in ("train", "val") for name in names]
    with writing(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["epoch", "learning_rate", *figures])
        writer.writeheader()
        writer.writerows(history)
