"""What the stages of one conversion share: a temporary folder and the progress."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevid.progress import Progress


class ProgressReport:
    """Counts the steps of a conversion.

    Args:
        progress: Called for each step and note.
        total: Number of steps.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, note: str) -> None:
        """Report the start of the next step."""
        self._progress("converting", self._done, self._total, note)
        self._done += 1

    def finish(self) -> None:
        """Report the end; steps of refused artifacts were left out."""
        self._progress("converting", self._total, self._total, "done")

    def note(self, note: str) -> None:
        """Report something within the current step."""
        self._progress("converting", self._done - 1, self._total, note)


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
