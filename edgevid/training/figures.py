"""The curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgevid.tasks.host.figures import new_figure, save_png


def draw_curves(path: Path, history: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
    """Draw each of ``names`` over the epochs, for train and val, as PNG.

    Raises:
        OSError: The file cannot be written.
    """
    figure, axes = new_figure(len(names), (4.5 * len(names), 3.4))
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes, names, strict=True):
        for split in ("train", "val"):
            axis.plot(epochs, [row[f"{split}_{name}"] for row in history], label=split)
        axis.set(xlabel="epoch", title=name)
        axis.grid(alpha=0.3)
        axis.legend()
    save_png(figure, path)
