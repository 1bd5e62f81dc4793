"""Classification on the host: one folder per class, top-1 accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevid.errors import BadInput
from edgevid.tasks.classification.host.accuracy import Accuracy
from edgevid.tasks.host import Annotated, HostTask

if TYPE_CHECKING:
    from pathlib import Path

    from edgevid.contract import Contract
    from edgevid.data.cache import Clips
    from edgevid.data.folders import Tree


class ClassificationHost(HostTask):
    """Clips are annotated by the folder they are in; the last frame of a clip is evaluated."""

    name = "classification"
    metric = Accuracy()
    min_agreement = 0.9

    def find(self, root: Path) -> Tree:
        """Find one folder of clips per class; see `HostTask.find`."""
        from edgevid.data.folders import find

        return find(root)

    def check_data(self, data: Tree, contract: Contract) -> None:
        """Check that every folder is one of the model's labels; see `HostTask.check_data`."""
        if unknown := sorted(set(data.classes) - set(contract.labels)):
            raise BadInput(
                f"{data.root}: class {unknown[0]!r} is not one of the model's: "
                f"{', '.join(contract.labels)}"
            )

    def annotations(self, clips: Clips) -> list[Annotated]:
        """Return each clip's class name at its last frame; see `HostTask.annotations`."""
        return [
            Annotated((len(frames) - 1,), (clips.classes[target],))
            for frames, target in zip(clips.images, clips.targets, strict=True)
        ]
