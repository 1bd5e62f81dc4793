"""Training a classifier: softmax, cross-entropy, accuracy and the confusion matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Output
from edgevid.errors import BadInput
from edgevid.files import write_bytes
from edgevid.report import plots, svg
from edgevid.tasks.classification.device import SCORES
from edgevid.tasks.host.metrics import ChanceTest, chance_of_counts
from edgevid.tasks.host.training import TrainingTask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.data.cache import Clips
    from edgevid.data.folders import Tree


class ClassificationTraining(TrainingTask):
    """A dense layer with a softmax over the classes."""

    name = "classification"
    figure = "accuracy"
    loss = "categorical_crossentropy"

    def output(self, classes: int) -> Output:
        """Return ``scores``, ``(1, classes)``; see `TrainingTask.output`."""
        return Output(SCORES, (1, classes))

    def last_layer(self, classes: int) -> Any:
        """Return the softmax layer; see `TrainingTask.last_layer`."""
        from keras import layers

        return layers.Dense(classes, activation="softmax", name="classifier")

    def compile_options(self) -> dict[str, Any]:
        """Return the loss and the accuracy; see `TrainingTask.compile_options`."""
        return {"loss": "sparse_categorical_crossentropy", "weighted_metrics": [self.figure]}

    def targets(self, clips: Clips) -> NDArray[np.int64]:
        """Return the class of each clip, int64 ``(clips,)``; see `TrainingTask.targets`."""
        import numpy as np

        index = {label: number for number, label in enumerate(clips.classes)}
        return np.array([index[label] for label in clips.annotations], np.int64)

    def figures(
        self, outputs: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str]
    ) -> dict[str, Any]:
        """Return accuracy, loss, precision and recall by class, and the confusion matrix.

        ``confusion[i][j]`` counts clips of class i that are predicted to be j. A figure without
        clips to base it on is None. See `TrainingTask.figures`.
        """
        import numpy as np

        count = len(labels)
        predicted = np.nan_to_num(outputs, nan=-1).argmax(axis=1)
        confusion = np.bincount(targets * count + predicted, minlength=count * count)
        confusion = confusion.reshape(count, count)
        right, of_class, as_class = (
            confusion.diagonal(),
            confusion.sum(axis=1),
            confusion.sum(axis=0),
        )
        likelihood = np.maximum(outputs[np.arange(len(targets)), targets], 1e-7)
        return {
            self.figure: float(right.sum() / len(targets)),
            "loss": float(-np.log(likelihood).mean()),
            "n": len(targets),
            "classes": {
                label: {
                    "precision": _share(right[n], as_class[n]),
                    "recall": _share(right[n], of_class[n]),
                    "n": int(of_class[n]),
                }
                for n, label in enumerate(labels)
            },
            "confusion": confusion.tolist(),
        }

    def chance_test(self, figures: Mapping[str, Any]) -> ChanceTest | None:
        """Compare with always predicting the most common class; see `TrainingTask.chance_test`."""
        right = sum(row[n] for n, row in enumerate(figures["confusion"]))
        counts = {label: one["n"] for label, one in figures["classes"].items()}
        return chance_of_counts(right, counts)

    def check_learnable(self, clips: Mapping[str, Clips], data: Tree, frames: int) -> None:
        """Check that every class has a clip to train on; see `TrainingTask.check_learnable`."""
        counts = Counter(clips["train"].annotations)
        missing = [label for label in data.classes if not counts[label]]
        if not missing and len(clips["val"]):
            return
        left_out = [*clips["train"].left_out, *clips["val"].left_out]
        why = f" ({left_out[0]['path']}: {left_out[0]['reason']})" if left_out else ""
        if missing:
            raise BadInput(
                f"{data.root}: no usable clip of class {missing[0]!r} to train on{why}; add clips "
                f"of {frames} or more frames"
            )
        raise BadInput(
            f"{data.root}: no usable clip to validate on{why}; add clips, so that a class has two "
            "or more recordings, or a val folder"
        )

    def draw(self, folder: Path, figures: Mapping[str, Any]) -> None:
        """Draw the confusion matrix as ``confusion.svg``; see `TrainingTask.draw`."""
        draw_confusion(folder / "confusion.svg", figures)


def draw_confusion(path: Path, figures: Mapping[str, Any]) -> None:
    """Draw the confusion matrix of `ClassificationTraining.figures` as SVG; rows are the truth.

    Raises:
        OSError: The file cannot be written.
    """
    figure = plots.confusion(figures["confusion"], list(figures["classes"]))
    write_bytes(path, svg.standalone_svg(figure))


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
