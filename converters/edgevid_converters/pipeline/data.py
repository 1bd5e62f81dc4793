"""The third stage: the clips to calibrate on and to measure on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid.data.video_files import count_left_out
from edgevid.errors import BadInput
from edgevid.evidence import HeldOutRecord, LeftOutClip
from edgevid_converters.calibration import calibration_data
from edgevid_converters.pipeline.context import CLIPS, ConversionRun
from edgevid_converters.pipeline.plan import Plan
from edgevid_converters.pipeline.source import ConversionSource

if TYPE_CHECKING:
    from edgevid.data.cache import Clips


@dataclass(frozen=True)
class ConversionData:
    """The clips of a conversion.

    Attributes:
        names: The calibration clips, below their folder.
        clips: The calibration clips as `calibration_data.calibration_clips` decodes them.
        held_out: Labelled clips that the model was not trained on; None if there are none.
        reason: Why there are none.
        notes: Which files are left out, one line for each reason.
    """

    names: tuple[str, ...]
    clips: tuple[Any, ...]
    held_out: Clips | None
    reason: str
    notes: tuple[str, ...] = ()

    def held_out_record(self) -> HeldOutRecord:
        """Return what evidence says of the labelled clips."""
        if self.held_out is None:
            return HeldOutRecord(reason=self.reason)
        left_out = tuple(LeftOutClip(**one) for one in self.held_out.left_out)
        return HeldOutRecord(clips=len(self.held_out), left_out=left_out)


def read_data(plan: Plan, source: ConversionSource, run: ConversionRun) -> ConversionData:
    """Decode the clips.

    Raises:
        BadInput: There are no clips to calibrate on, or none to measure on for ``min_metric``.
    """
    options = plan.options
    run.report("reading clips", CLIPS)
    names, clips, notes = calibration_data.calibration_clips(source.model, options.calibrate)
    held_out, reason = calibration_data.held_out(
        source.model, options.calibrate, options.data, names, run.progress
    )
    if options.min_metric is not None and held_out is None:
        raise BadInput(f"--min-metric needs labelled clips ({reason}); give them with --data")
    if held_out is not None:
        found = (*held_out.ignored, *count_left_out(held_out.left_out))
        notes += [f"labelled clips: {one}" for one in found]
    return ConversionData(tuple(names), tuple(clips), held_out, reason, tuple(notes))
