"""What was learned, in figures: per class, confusion, and the pictures of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.files import writing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def figures(
    scores: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, Any]:
    """Accuracy, loss, precision and recall per class, and confusion, as plain data.

    ``scores`` (N, C) are probabilities, ``targets`` (N,) classes. ``confusion[i][j]`` counts clips
    of class i that were answered j. A figure without clips to base it on is None.
    """
    import numpy as np

    count = len(labels)
    answers = np.nan_to_num(scores, nan=-1).argmax(axis=1)
    confusion = np.bincount(targets * count + answers, minlength=count * count)
    confusion = confusion.reshape(count, count)
    right, asked, said = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    likelihood = np.maximum(scores[np.arange(len(targets)), targets], 1e-7)
    return {
        "accuracy": float(right.sum() / len(targets)),
        "loss": float(-np.log(likelihood).mean()),
        "n": len(targets),
        "classes": {
            label: {
                "precision": _share(right[n], said[n]),
                "recall": _share(right[n], asked[n]),
                "n": int(asked[n]),
            }
            for n, label in enumerate(labels)
        },
        "confusion": confusion.tolist(),
    }


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def draw_curves(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write loss and accuracy over epochs, for train and val, as PNG."""
    figure, axes = _figure(2, (9, 3.4))
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for split in ("train", "val"):
            axis.plot(epochs, [row[f"{split}_{name}"] for row in history], label=split)
        axis.set(xlabel="epoch", title=name)
        axis.grid(alpha=0.3)
        axis.legend()
    _save(figure, path)


def draw_confusion(path: Path, found: Mapping[str, Any]) -> None:
    """Write the confusion of `figures` as PNG; rows are the truth."""
    figure, (axis,) = _figure(1, (6, 5.4))
    labels, confusion = list(found["classes"]), found["confusion"]
    axis.imshow(confusion, cmap="Blues")
    ticks = range(len(labels))
    axis.set_xticks(ticks, labels, rotation=45, ha="right")
    axis.set_yticks(ticks, labels)
    axis.set(xlabel="answer", ylabel="truth", title=f"accuracy {found['accuracy']:.3f} on val")
    dark = max(map(max, confusion)) / 2
    for row in ticks:
        for column in ticks:
            count = confusion[row][column]
            colour = "white" if count > dark else "black"
            axis.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    _save(figure, path)


def _figure(columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    # No pyplot: it keeps global state, and looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _save(figure: Any, path: Path) -> None:
    with writing(path) as part:
        figure.savefig(part, format="png", dpi=110)
