"""Checks of calibration clips and of the source model's outputs.

An int8 artifact cannot tell apart what calibration never showed. Images that are of no use are
rejected; notes point out those that are too few, too uniform or implausible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput
from edgevid_converters.importers.source_model import SourceModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Clip = NDArray[np.uint8]

FEW_FRAMES = 32
PLAIN = 2.0
"""Standard deviation, of 255, below which all images together are one plain colour."""
STILL = 0.5
"""Mean difference from frame to frame, of 255, below which nothing moves."""
ALIKE = 0.2
"""Correlation of neighbouring pixels; above 0.8 in images, 0 in noise."""
NARROW = 0.35
"""Share of the range 0..255 that most images fill at least."""
SWAPPED = 2.0
"""Factor by which swapped colours must be nearer to the held-out images' for a note."""
LEAST_TINT = 8.0
"""Difference of the means of red and blue, of 255, that distinguishes them."""


def check(
    recordings: Sequence[Mapping[str, Clip]], source: SourceModel, held_out: Sequence[Clip] = ()
) -> list[str]:
    """Check the images of recordings; other inputs are not checked.

    Args:
        recordings: Each has for each input by name one row per step; images are uint8 RGB
            ``(N, H, W, 3)``.
        source: The model to calibrate.
        held_out: Images, uint8 RGB ``(N, H, W, 3)``, of other clips for a model whose only input is
            a frame.

    Returns:
        One line for each finding.

    Raises:
        BadInput: The images are of no use.
    """
    found: list[str] = []
    for frame in source.contract.frame_inputs:
        clips = [one[frame.name] for one in recordings]
        pixels = _sample(clips)
        _refuse(pixels, clips)
        found += [*_few(clips), *_range(pixels), *_noise(clips), *_tint(clips, held_out)]
        if source.contract.states:
            found += _still(clips)
    return [f"calibration: {text}" for text in dict.fromkeys(found)]


def check_outputs(outputs: Mapping[str, NDArray[Any]]) -> list[str]:
    """Check the model's outputs for different images.

    Args:
        outputs: Output name -> float32 ``(N, *shape)``, one row per step.

    Returns:
        One line for each output that is always the same.

    Raises:
        BadInput: A value is not a number.
    """
    import numpy as np

    for name, values in outputs.items():
        if values.size and not np.isfinite(values).all():
            raise BadInput(
                f"the model's output {name} is not a number: its weights are damaged, or its "
                "input is not what it expects; check the model, then its contract"
            )
    even = [
        name
        for name, values in outputs.items()
        if len(values) > 1 and float(np.ptp(values, axis=0).max(initial=0)) < 1e-6
    ]
    return [
        f"the model gives the same {name} for every image; check scale, mean, std and colour in "
        "its contract"
        for name in even
    ]


def check_states(recorded: Mapping[str, NDArray[Any]], source: SourceModel) -> None:
    """Check that recorded steps have a state at all.

    Args:
        recorded: Inputs and states of the recorded steps by full name, uint8 or float32
            ``(N, *shape)``.
        source: The model.

    Raises:
        BadInput: Every state is zero, since each clip has one frame only.
    """
    states = [recorded[state.input_name] for state in source.contract.states]
    if states and not any(values.any() for values in states):
        raise BadInput(
            "the model's state stays zero in all calibration clips, so int8 cannot be calibrated "
            "for any other; give clips of more than one frame"
        )


def _refuse(pixels: Clip, clips: Sequence[Clip]) -> None:
    top = int(pixels.max())
    if float(pixels.std()) < PLAIN and top > 1:
        raise BadInput(
            f"the {len(clips)} calibration clips show one plain colour; give clips of what the "
            "camera will see"
        )
    if top <= 1:
        raise BadInput(
            "the calibration clips are black, or have values of 0 and 1 instead of 0 to 255; "
            "give clips as the camera records them"
        )


def _few(clips: Sequence[Clip]) -> Iterator[str]:
    frames = sum(map(len, clips))
    if frames < FEW_FRAMES:
        yield (
            f"only {frames} frames of {len(clips)} clips; int8 learns its ranges from these alone; "
            "give a hundred or more"
        )


def _range(pixels: Clip) -> Iterator[str]:
    import numpy as np

    low, high = (int(value) for value in np.percentile(pixels, (0.5, 99.5)))
    if high - low < NARROW * 255:
        yield (
            f"the images stay within {low} to {high} of 0 to 255, and darker or brighter ones will "
            "be clipped; give clips in other light"
        )


def _noise(clips: Sequence[Clip]) -> Iterator[str]:
    import numpy as np

    found = sorted(_alike(clip[len(clip) // 2]) for clip in clips)
    if found[len(found) // 2] < ALIKE:
        yield (
            "the images look like noise: neighbouring pixels hardly correlate "
            f"({np.median(found):.2f}); give clips of what the camera will see"
        )


def _alike(frame: Clip) -> float:
    """Return the correlation of each pixel's brightness with that of its right neighbour."""
    import numpy as np

    grey = frame.astype(np.float64).mean(-1)
    here, there = grey[:, :-1].ravel(), grey[:, 1:].ravel()
    if here.std() < 1e-9 or there.std() < 1e-9:
        return 1.0
    return float(np.corrcoef(here, there)[0, 1])


def _still(clips: Sequence[Clip]) -> Iterator[str]:
    import numpy as np

    moves = [
        float(np.abs(np.diff(clip.astype(np.int16), axis=0)).mean())
        for clip in clips
        if len(clip) > 1
    ]
    if not moves or max(moves) < STILL:
        yield "nothing moves, so the state is hardly exercised; give clips with motion"


def _tint(clips: Sequence[Clip], held_out: Sequence[Clip]) -> Iterator[str]:
    """Find swapped red and blue channels, as when OpenCV's BGR images are taken for RGB."""
    import numpy as np

    if not held_out:
        return
    ours, theirs = (_sample(some).mean(axis=0) for some in (clips, held_out))
    apart = float(np.abs(ours - theirs).sum())
    swapped = float(np.abs(ours[::-1] - theirs).sum())
    tinted = abs(float(ours[0] - ours[2])) > LEAST_TINT
    if tinted and apart > SWAPPED * swapped:
        yield (
            "red and blue seem to be swapped: the colours match the held-out clips better the "
            "other way round; write the clips as RGB"
        )


def _sample(clips: Sequence[Clip], most: int = 1 << 20) -> Clip:
    """Return pixels ``(N, 3)``, evenly from all clips."""
    import numpy as np

    share = max(1, most // len(clips))
    rows = [clip.reshape(-1, 3) for clip in clips]
    return np.concatenate([row[:: max(1, len(row) // share)] for row in rows])
