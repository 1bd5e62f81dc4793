"""What a training leaves behind: the record in the run folder, and the summary for the caller."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgevid.data.splits import Split
from edgevid.errors import READABLE, BadInput
from edgevid.tasks.host.metrics import ChanceTest
from edgevid.tasks.host.training import open_training
from edgevid.training import RUN_FILE
from edgevid.training.config import TrainConfig

PACKAGES = ("edgevid", "keras", "tensorflow", "numpy", "av")
LeftOut = tuple[Mapping[str, str], ...]
"""``path`` and ``reason`` of each clip that could not be used."""


@dataclass(frozen=True)
class Origin:
    """The run that a fine-tuned model started from.

    Attributes:
        tuned_from_sha256: SHA-256 of its weights.
        quantize_aware: Whether it was fine-tuned with the rounding of int8.
    """

    tuned_from_sha256: str
    quantize_aware: bool = True


@dataclass(frozen=True)
class RunRecord:
    """The content of ``run.json``: all that is needed to repeat a run.

    Attributes:
        config: The model and how it was trained.
        labels: Names of the classes.
        data: The folder of the dataset.
        split: The clips of each split.
        left_out: Clips that could not be used.
        epochs: Number of epochs.
        best_epoch: The epoch whose weights were kept.
        train_seconds: Time spent in epochs.
        versions: Versions of the libraries.
        origin: The run that it started from, if any.
        recordings: How clips of one recording were recognised; see `Division.recordings`.
    """

    config: TrainConfig
    labels: tuple[str, ...]
    data: Path
    split: Split
    left_out: LeftOut
    epochs: int
    best_epoch: int
    train_seconds: float
    versions: Mapping[str, str]
    origin: Origin | None = None
    recordings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate_fps(self) -> float:
        """Steps per second of the model."""
        assert self.config.rate_fps is not None, "a run has a rate"
        return self.config.rate_fps

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.config.model.to_json(),
            "train": arguments(self.config),
            "labels": list(self.labels),
            "data": str(self.data),
            "split": self.split,
            "recordings": dict(self.recordings),
            "left_out": [dict(one) for one in self.left_out],
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "train_seconds": round(self.train_seconds, 1),
            "versions": dict(self.versions),
            **(asdict(self.origin) if self.origin else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunRecord:
        """Parse what `to_json` returned.

        Args:
            data: Plain data.

        Returns:
            The record.

        Raises:
            BadInput: The model's configuration is wrong.
            KeyError: A key is missing.
        """
        tuned = data.get("tuned_from_sha256")
        return cls(
            config=TrainConfig.from_json({**data["train"], "model": data["model"]}),
            labels=tuple(data["labels"]),
            data=Path(data["data"]),
            split=data["split"],
            left_out=tuple(data["left_out"]),
            epochs=data["epochs"],
            best_epoch=data["best_epoch"],
            train_seconds=data["train_seconds"],
            versions=data["versions"],
            recordings=data.get("recordings", {}),
            origin=Origin(tuned, data["quantize_aware"]) if tuned else None,
        )


def read_record(run: Path) -> RunRecord:
    """Read the record of a run folder.

    Args:
        run: The folder.

    Returns:
        The record.

    Raises:
        BadInput: The folder is no run, or its record cannot be read.
    """
    file = run / RUN_FILE
    try:
        return RunRecord.from_json(json.loads(file.read_text()))
    except FileNotFoundError:
        raise BadInput(
            f"{run} is not a run: it has no {RUN_FILE}; make one with edgevid train"
        ) from None
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}; {READABLE}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{file} cannot be read ({error}); train again") from error


def arguments(config: TrainConfig) -> dict[str, Any]:
    """The configuration of a training as plain data, with the names of optimizer and loss."""
    loss = open_training(config.model.task).loss
    return {"optimizer": "adam", "loss": loss} | config.to_json()


def versions() -> dict[str, str]:
    """Versions of the libraries that training depends on, and the machine's architecture."""
    found = {name: version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "machine": platform.machine()}


@dataclass(frozen=True)
class SplitSummary:
    """How good a model is on one split.

    Attributes:
        figure: Name of the task's figure, such as ``accuracy``.
        value: Its value.
        loss: The loss.
        n: Number of clips.
    """

    figure: str
    value: float
    loss: float
    n: int

    @classmethod
    def of(cls, figures: Mapping[str, Any], figure: str) -> SplitSummary:
        """Summarize the figures of a task; see `TrainingTask.figures`."""
        return cls(figure, figures[figure], figures["loss"], figures["n"])

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {self.figure: self.value, "loss": self.loss, "n": self.n}


@dataclass(frozen=True)
class RoundedSummary:
    """How good a model is on val with the rounding of int8, before and after fine-tuning."""

    before: SplitSummary
    after: SplitSummary

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"before": self.before.to_json(), "after": self.after.to_json()}


@dataclass(frozen=True)
class TrainSummary:
    """The result of a training.

    Attributes:
        run: The run folder.
        model: Name of the model.
        task: Name of the task.
        classes: Names of the classes.
        epochs: Number of epochs.
        best_epoch: The epoch that was kept: the one with the best figure on val.
        train: How good the model is on train.
        val: How good the model is on val.
        left_out: Clips that could not be used.
        seconds: Duration, decoding included.
        rounded: The same with the rounding of int8, after fine-tuning for it.
        recordings: How clips of one recording were recognised; see `Division.recordings`.
        notes: What people should know of the data, one line each.
        chance: Whether the model is better than a guess; None if the task has no such test.
        higher_is_better: Whether a better model has a higher figure.
    """

    run: Path
    model: str
    task: str
    classes: tuple[str, ...]
    epochs: int
    best_epoch: int
    train: SplitSummary
    val: SplitSummary
    left_out: LeftOut
    seconds: float
    rounded: RoundedSummary | None = None
    recordings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    chance: ChanceTest | None = None
    higher_is_better: bool = True

    @property
    def weakness(self) -> str | None:
        """Why the model is no better than chance, in one line; None if it is."""
        verdict = self.chance.verdict() if self.chance else None
        if verdict is None:
            return None
        val = self.val
        return (
            f"val {val.figure} {val.value:.3f} on {val.n} clips {verdict}; add clips, or check "
            "that the classes look different at the model's size"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = {
            "run": str(self.run),
            "model": self.model,
            "task": self.task,
            "classes": list(self.classes),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "metrics": {"train": self.train.to_json(), "val": self.val.to_json()},
            "left_out": [dict(one) for one in self.left_out],
            "recordings": dict(self.recordings),
            "notes": list(self.notes),
            "chance": self.chance.to_json() if self.chance else None,
            "seconds": round(self.seconds, 1),
        }
        return data | ({"rounded": self.rounded.to_json()} if self.rounded else {})
