"""The meaning of a model's outputs; one package per task.

A task is a plug-in. Its registry row points to a `TaskPlugin`, a declaration that imports nothing
heavy. The modules it names are loaded separately:

    device     decode outputs to a prediction, compare predictions, draw them
    host       read annotations, measure the task's metric, describe the model to other tools
    training   the network's last layer, its loss, the figures of a training run

Devices get the first one only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from edgevid import registry
from edgevid.predictions import FrameMeta, Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors

P = TypeVar("P", bound=Prediction)

DEFAULT = "classification"
"""The task of models that edgevid trains, unless another one is named."""


@dataclass(frozen=True)
class TaskPlugin:
    """The declaration of a task: what the registry, or an entry point, points to.

    Attributes:
        name: The name that contracts use; also the registry's.
        summary: One line for listings.
        device: ``module:class`` of its `Task`.
        host: ``module:class`` of its `edgevid.tasks.host.HostTask`.
        training: ``module:class`` of its `edgevid.tasks.host.training.TrainingTask`; None if
            edgevid cannot train models for it.
    """

    name: str
    summary: str
    device: str
    host: str
    training: str | None = None


class Task(ABC, Generic[P]):
    """The device part of a task: reads the outputs of one model.

    Subclasses check in ``__init__`` that they can read the contract's outputs and raise `BadInput`
    if not.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    @abstractmethod
    def decode(self, outputs: Tensors, frame: FrameMeta) -> P:
        """Turn the outputs of one step into a prediction.

        Args:
            outputs: Output name to float32 array of the contract's shape.
            frame: The frame that was stepped; coordinates in the prediction are pixels of it.
        """

    @abstractmethod
    def same(self, reference: P, other: P) -> bool:
        """Return whether two predictions for one frame are the same to a user of the task.

        This is the one definition of "the same prediction": the proof, evaluate, bench and the
        runner use it. A prediction with non-finite values never matches any other.
        """

    def agreement(self, reference: Sequence[P], other: Sequence[P]) -> float:
        """Return how far two sequences of predictions for the same frames agree, 0 to 1.

        By default the share of frames whose predictions are the `same`.

        Raises:
            ValueError: The sequences are empty or differ in length.
        """
        pairs = list(zip(reference, other, strict=True))
        if not pairs:
            raise ValueError("no predictions to compare")
        return sum(self.same(a, b) for a, b in pairs) / len(pairs)

    def draw(self, image: NDArray[np.uint8], prediction: P) -> NDArray[np.uint8]:
        """Draw a prediction into a copy of its frame.

        Args:
            image: uint8 ``(height, width, 3)`` RGB, the source frame.
            prediction: What `decode` returned for this frame.

        Returns:
            uint8 ``(height, width, 3)`` RGB. By default the frame itself.
        """
        del prediction
        return image


def open_task(contract: Contract) -> Task[Any]:
    """Load the device part of a contract's task.

    Raises:
        BadInput: No task has this name, or it cannot read the contract's outputs.
    """
    plugin: TaskPlugin = registry.load("task", contract.task)
    task: Task[Any] = load_part(plugin, plugin.device)(contract)
    return task


def load_part(plugin: TaskPlugin, where: str) -> Any:
    """Import a class that a task's declaration names as ``module:class``.

    Raises:
        PluginFailed: The task is of another package and cannot be imported.
    """
    return registry.part("task", plugin.name, where)


def model_frame(contract: Contract) -> FrameMeta:
    """Return a frame of the size of the model's first frame input, for steps without a source.

    Its size is 0 if the contract has no frame input.
    """
    frame = next(iter(contract.frame_inputs), None)
    return FrameMeta(frame.width, frame.height) if frame else FrameMeta(0, 0)
