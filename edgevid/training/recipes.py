"""Recipes: amounts of synthetic data with the options to train on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevid.data.synthesis import synth_motion
from edgevid.progress import Progress, silent
from edgevid.training.config import TrainConfig, configure


@dataclass(frozen=True)
class Recipe:
    """An amount of data, and how to train on it.

    Attributes:
        train: Training clips per class.
        val: Validation clips per class.
        test: Test clips per class.
        options: Options of `edgevid.training.config.TrainConfig`.
    """

    train: int
    val: int
    test: int
    options: dict[str, Any] = field(default_factory=dict)

    def data(
        self, out: Path, *, workers: int | None = None, progress: Progress = silent
    ) -> dict[str, Any]:
        """Write the dataset; see `edgevid.data.synthesis.synth_motion`."""
        return synth_motion(
            out, train=self.train, val=self.val, test=self.test, workers=workers, progress=progress
        )

    def config(self, model: str = "cnn-lstm", temporal: str | None = None) -> TrainConfig:
        """The configuration of a model for this recipe."""
        return TrainConfig(configure(model, temporal=temporal), **self.options)


DEMO = Recipe(train=500, val=60, test=100, options={"epochs": 7})
"""Data and training in about three minutes on two cores."""

FULL = Recipe(train=1200, val=60, test=100, options={"epochs": 14})
"""The same test clips with more training data."""
