"""Recipes: how much made data, and how it is learned, by name; the figures are in the README."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.data.synthesis import synth_motion
from edgevid.progress import Progress, silent

if TYPE_CHECKING:
    from edgevid.training.fit import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """Clips per class and split, and the options of `fit.TrainConfig`."""

    train: int
    val: int
    test: int
    options: dict[str, Any] = field(default_factory=dict)

    def data(
        self, out: Path, *, workers: int | None = None, progress: Progress = silent
    ) -> dict[str, Any]:
        """Make the clips in ``out``, or go on with them; gives the settings."""
        return synth_motion(
            out, train=self.train, val=self.val, test=self.test, workers=workers, progress=progress
        )

    def config(self, model: str = "cnn-lstm", temporal: str | None = None) -> TrainConfig:
        """How to train ``model`` by this recipe; needs the training extra."""
        from edgevid.training.fit import TrainConfig
        from edgevid.training.models import configure

        return TrainConfig(configure(model, temporal=temporal), **self.options)


DEMO = Recipe(train=500, val=60, test=100, options={"epochs": 7})
"""Data and training in about three minutes on two cores."""

FULL = Recipe(train=1200, val=60, test=100, options={"epochs": 14})
"""The same test clips, more to learn from."""
