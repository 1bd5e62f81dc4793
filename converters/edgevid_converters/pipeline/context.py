"""What the stages of one conversion share: a temporary folder and the progress."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevid.progress import Progress

READ, CLIPS, LOWER, BUILD, PROVE, PAGE = 8, 2, 7, 5, 2, 4
"""How long steps take, relative to each other; measured on MobileNetV3-Small. Building is for each
artifact."""


class ProgressReport:
    """Reports the steps of a conversion by their measured weights, so that an estimate is right.

    Args:
        progress: Called for each step and note.
        total: Sum of the weights of all steps.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._done = self._step = 0

    def __call__(self, note: str, weight: int = 0) -> None:
        """Report the start of the next step, and how long it takes."""
        self._done, self._step = self._done + self._step, weight
        self.note(note)

    def more(self, note: str, weight: int) -> None:
        """Report the start of a step that was not planned."""
        self._total += weight
        self(note, weight)

    def finish(self) -> None:
        """Report the end; steps of refused artifacts were left out."""
        self._progress("converting", self._total, self._total, "done")

    def note(self, note: str) -> None:
        """Report something within the current step."""
        self._progress("converting", min(self._done, self._total - 1), self._total, note)


@dataclass(frozen=True)
class ConversionRun:
    """What the stages share.

    Attributes:
        folder: Temporary folder of this conversion.
        report: Reports steps and notes.
        progress: For the details of a step.
    """

    folder: Path
    report: ProgressReport
    progress: Progress
