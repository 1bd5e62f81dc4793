"""The training part of a task: what `edgevid.training` leaves to it.

A model that edgevid trains has one output tensor, computed from the features of each frame by the
task's last layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.tasks import TaskPlugin, load_part
from edgevid.tasks.host.metrics import ChanceTest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Output
    from edgevid.data.cache import Clips
    from edgevid.data.folders import Tree


class ClipChange(Protocol):
    """A random change of a whole clip, such as `edgevid.training.augment.Augment`."""

    def apply(self, clip: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return a changed copy of a clip, uint8 ``(frames, height, width, 3)``."""


class TrainingTask(ABC):
    """The training part of a task.

    Attributes:
        name: The task's name.
        figure: The figure that is reported next to the loss after each epoch.
        higher_is_better: Whether the figure rises as the model gets better.
        loss: The name of the loss in the record of a run.
    """

    name: ClassVar[str]
    figure: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    loss: ClassVar[str]

    @abstractmethod
    def output(self, classes: int) -> Output:
        """Return the output tensor of a step, its batch axis included."""

    @abstractmethod
    def last_layer(self, classes: int) -> Any:
        """Return the Keras layer from features ``(..., features)`` to the output ``(..., *)``."""

    @abstractmethod
    def compile_options(self) -> dict[str, Any]:
        """Return ``loss`` and ``weighted_metrics`` for `keras.Model.compile`.

        ``weighted_metrics`` has `figure`.
        """

    @abstractmethod
    def targets(self, clips: Clips) -> NDArray[Any]:
        """Return what the network should output for each clip, ``(clips, *)``.

        The dtype is what the loss takes: int64 for class indices, float32 for values.
        """

    @abstractmethod
    def figures(
        self, outputs: NDArray[np.float32], targets: NDArray[Any], labels: Sequence[str]
    ) -> dict[str, Any]:
        """Return what a model has learned, as plain data.

        Args:
            outputs: float32 ``(clips, *)``, the output at each clip's last frame.
            targets: What `targets` returned for the clips.
            labels: The names of the classes.

        Returns:
            `figure`, ``loss`` and ``n``, the number of clips, and whatever else the task reports.
        """

    @abstractmethod
    def check_learnable(self, clips: Mapping[str, Clips], data: Tree, frames: int) -> None:
        """Check that there is something to learn from.

        Args:
            clips: The decoded clips of ``train`` and ``val``.
            data: Where they were found.
            frames: How many frames a usable clip has at least.

        Raises:
            BadInput: There is not.
        """

    def chance_test(self, figures: Mapping[str, Any]) -> ChanceTest | None:
        """Compare with a guess that ignores the clips; None, the default, if there is no test.

        Args:
            figures: What `figures` returned.

        Returns:
            The test.
        """
        del figures
        return None

    def augment(
        self, clip: NDArray[np.uint8], target: Any, change: ClipChange, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Any]:
        """Change a clip at random so that its annotation stays true.

        By default the clip changes and its target does not; a task whose targets are coordinates
        moves them with the pixels.

        Args:
            clip: uint8 ``(frames, height, width, 3)``.
            target: What the network should output for it.
            change: Changes light, colour and noise, and shifts the clip by a few pixels.
            rng: The source of randomness.

        Returns:
            The changed clip and its target.
        """
        return change.apply(clip, rng), target

    def draw(self, folder: Path, figures: Mapping[str, Any]) -> None:
        """Draw what `figures` returned for ``val`` into files of a run folder; nothing by default.

        Raises:
            OSError: A file cannot be written.
        """
        del folder, figures


def open_training(name: str) -> TrainingTask:
    """Load the training part of a task.

    Raises:
        BadInput: No task has this name, or it has no training part.
    """
    plugin: TaskPlugin = registry.load("task", name)
    if plugin.training is None:
        raise BadInput(
            f"the task {name} cannot be trained; train elsewhere and use edgevid convert"
        )
    training: TrainingTask = load_part(plugin, plugin.training)()
    return training
