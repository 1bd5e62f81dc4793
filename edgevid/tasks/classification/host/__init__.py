"""Classification on the host: one folder per class, top-1 accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgevid.errors import BadInput
from edgevid.settings import shown
from edgevid.tasks.classification.device import SCORES
from edgevid.tasks.classification.host.accuracy import Accuracy
from edgevid.tasks.host import Annotated, HostTask
from edgevid.tasks.host.importing import (
    ImportedOutput,
    OutputDescription,
    OutputDraft,
    OutputFault,
    Shape,
)

if TYPE_CHECKING:
    from pathlib import Path

    from edgevid.contract import Contract
    from edgevid.data.cache import Clips
    from edgevid.data.folders import Tree

MAX_DRAFTED_LABELS = 20
"""Most labels that are drafted in the contract file; more go into a file of their own."""
SUM_TOLERANCE = 1e-2
"""How far from 1 the sum of a softmax may be."""


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
            Annotated((len(frames) - 1,), (label,))
            for frames, label in zip(clips.images, clips.annotations, strict=True)
        ]

    def default_output_names(self, count: int) -> tuple[str, ...] | None:
        """Return ``scores`` for the only output; see `HostTask.default_output_names`."""
        return (SCORES,) if count == 1 else None

    def check_outputs(
        self, outputs: Sequence[ImportedOutput], labels: Sequence[str]
    ) -> OutputFault | None:
        """Check that there is a softmax over the labels; see `HostTask.check_outputs`."""
        scores = next((one for one in outputs if one.name == SCORES), None)
        if scores is None:
            return OutputFault("task", 'a classification needs an [[output]] name = "scores"')
        count, own = len(labels), shown(scores.own)
        shape = ", ".join(map(str, scores.shape))
        if len(scores.shape) != 2:
            return OutputFault(
                "task",
                f"a classification reads scores of the shape (1, {count}), but the model's output "
                f'{own} has the shape ({shape}); use task = "raw"',
            )
        if scores.shape != (1, count):
            return OutputFault(
                "labels",
                f"{count} labels do not match the model's output {own} of the shape "
                f"({shape}); give one label for each score",
            )
        if twice := next((one for one in labels if labels.count(one) > 1), None):
            first, *others = (number for number, one in enumerate(labels) if one == twice)
            return OutputFault(
                "labels",
                f"classes {first} and {others[0]} are both named {shown(twice)}, so their scores "
                f"cannot be told apart; give each its own name, such as {shown(f'{twice} 2')}",
            )
        text = _softmax_fault(scores)
        return None if text is None else OutputFault("output", f"output {own} {text}")

    def draft_outputs(self, shapes: Sequence[Shape]) -> OutputDraft | None:
        """Take a single vector of two or more for scores; see `HostTask.draft_outputs`."""
        if len(shapes) != 1 or len(shapes[0]) != 2:
            return None
        count = shapes[0][1]
        if count is None or count < 2:
            return None
        softmax = (("softmax", False, "true where it gives logits"),)
        if count > MAX_DRAFTED_LABELS:
            file = ("labels_file", "labels.txt", f"where the {count} labels are, one a line")
            return OutputDraft((SCORES,), missing=(file,), output_settings=softmax)
        names = [f"class {index}" for index in range(count)]
        return OutputDraft((SCORES,), settings=(("labels", names),), output_settings=softmax)

    def describe_output(self, name: str, contract: Contract) -> OutputDescription:
        """Describe the scores; see `HostTask.describe_output`."""
        if name != SCORES or not contract.labels:
            return super().describe_output(name, contract)
        return OutputDescription("The probability of each label.", (0.0, 1.0), contract.labels)

    def model_api_type(self, contract: Contract) -> str | None:
        """Return ``Classification`` if the scores are all there is; see `HostTask`."""
        return "Classification" if [one.name for one in contract.outputs] == [SCORES] else None


def _softmax_fault(scores: ImportedOutput) -> str | None:
    """Find out by several samples whether softmax is set as the scores need it; a phrase if not.

    Quantised probabilities do not sum to 1 exactly: each is rounded to a level.
    """
    import numpy as np

    rounding = scores.step / 2
    values = np.stack([sample.astype(np.float64) for sample in scores.samples])
    totals = values.reshape(len(values), -1).sum(-1)
    shares = bool((values > -SUM_TOLERANCE - rounding).all())
    shares &= bool((values < 1 + SUM_TOLERANCE + rounding).all())
    tolerance = SUM_TOLERANCE + rounding * scores.shape[-1]
    softmax = shares and bool((np.abs(totals - 1) < tolerance).all())
    if softmax and scores.softmax:
        return "gives probabilities already (they sum to 1); remove softmax = true"
    if softmax or scores.softmax or not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    if shares and len(totals) > 1:
        total = float(totals[np.argmax(np.abs(totals - 1))])
        return (
            f"gives scores from {low:.3g} to {high:.3g} that sum to {total:.3g}, not to 1, so they "
            'are neither a softmax nor logits; use task = "raw"'
        )
    return (
        f"is logits, not a softmax (values from {low:.3g} to {high:.3g}); add "
        'softmax = true to its [[output]], or use task = "raw"'
    )
