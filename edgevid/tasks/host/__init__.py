"""The host part of a task: annotations, the metric, and what other tools need to know.

Nothing here is shipped to devices.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.tasks import TaskPlugin, load_part
from edgevid.tasks.host.importing import (
    ImportedOutput,
    OutputDescription,
    OutputDraft,
    OutputFault,
    Shape,
)
from edgevid.tasks.host.metrics import Metric

if TYPE_CHECKING:
    from pathlib import Path

    from edgevid.contract import Contract
    from edgevid.data.cache import Clips
    from edgevid.data.folders import Tree


@dataclass(frozen=True)
class Annotated:
    """The annotated frames of one clip.

    Attributes:
        frames: Indices of the frames to evaluate, ascending.
        truths: One annotation for each of them, of the type that the task's metric takes.
    """

    frames: tuple[int, ...]
    truths: tuple[Any, ...]


class HostTask(ABC):
    """The host part of a task.

    Attributes:
        name: The task's name.
        metric: The figure of merit; None if the task has none, as annotations mean nothing to it.
        min_agreement: Lowest agreement with its source on all available frames that an artifact may
            have if its metric could not be measured, 0 to 1; None for no limit.
    """

    name: ClassVar[str]
    metric: Metric[Any] | None = None
    min_agreement: ClassVar[float | None] = None

    def evidence(self, contract: Contract) -> dict[str, Any]:
        """Return what the task adds to the evidence of a conversion, as plain data for JSON."""
        del contract
        return {}

    def find(self, root: Path) -> Tree:
        """Find the clips under a folder, with their annotations.

        Raises:
            BadInput: There are none, or this task has no annotation format.
        """
        raise BadInput(f"{root}: the task {self.name} has no labelled data; give none")

    def check_data(self, data: Tree, contract: Contract) -> None:
        """Check that annotations fit a model.

        Raises:
            BadInput: The data has a class that the model does not know.
        """
        del data, contract

    def annotations(self, clips: Clips) -> list[Annotated]:
        """Return what is annotated in each clip, in the order of the clips.

        Raises:
            BadInput: This task has no annotation format.
        """
        del clips
        raise BadInput(f"the task {self.name} has no labelled data")

    # ------------------------------------------------------------ models and tools from elsewhere

    def default_output_names(self, count: int) -> tuple[str, ...] | None:
        """Return the contract's names of a model's outputs if its contract file names none.

        Args:
            count: How many outputs the model has, states not counted.

        Returns:
            ``count`` names, or None to keep the model's own.
        """
        del count
        return None

    def check_outputs(
        self, outputs: Sequence[ImportedOutput], labels: Sequence[str]
    ) -> OutputFault | None:
        """Check that this task can read an imported model; return the first fault."""
        del outputs, labels
        return None

    def draft_outputs(self, shapes: Sequence[Shape]) -> OutputDraft | None:
        """Draft the contract of a model that takes one frame.

        Args:
            shapes: The shapes of its outputs, states not counted.

        Returns:
            None if the outputs do not look like this task's.
        """
        del shapes
        return None

    def describe_output(self, name: str, contract: Contract) -> OutputDescription:
        """Describe an output to readers of an artifact's metadata."""
        del name, contract
        return OutputDescription()

    def model_api_type(self, contract: Contract) -> str | None:
        """Return the ``model_type`` with which OpenVINO's Model API reads this model; None if none.

        It knows no state, so it is only asked about models without one.
        """
        del contract
        return None


def open_host(name: str) -> HostTask:
    """Load the host part of a task.

    Raises:
        BadInput: No task has this name.
    """
    plugin: TaskPlugin = registry.load("task", name)
    host: HostTask = load_part(plugin, plugin.host)()
    return host


def flat(annotated: Sequence[Annotated]) -> list[Any]:
    """Return the truths of all clips, one after the other."""
    return [truth for one in annotated for truth in one.truths]
