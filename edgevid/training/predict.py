"""Outputs of a model for whole clips, through its training form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgevid.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.training.models import VideoModel

    Outputs = NDArray[np.float32]


def predict(model: VideoModel, clips: Sequence[NDArray[np.uint8]], batch: int = 64) -> Outputs:
    """The outputs of a model for clips of its length.

    Args:
        model: The model.
        clips: RGB, each uint8 (frames, height, width, 3). For ``carry`` all have the same number of
            frames; otherwise only the last ones are used.
        batch: Clips per batch.

    Returns:
        float32 (clips, ...), the output at each clip's last frame; for ``carry`` (clips, frames,
        ...), the outputs at all frames.

    Raises:
        BadInput: A clip is too short, or for ``carry`` the clips differ in length.
    """
    import numpy as np

    lengths = {len(clip) for clip in clips}
    if model.config.temporal == "carry":
        if len(lengths) != 1:
            raise BadInput("clips of several lengths have no common shape; use last_outputs")
        frames = lengths.pop()
        form = model.training if frames == model.config.frames else model.unrolled(frames)
    else:
        frames, form = model.config.frames, model.training
        if min(lengths, default=0) < frames:
            raise BadInput(f"a clip has fewer than the {frames} frames of the model's window")
    parts = [
        form.predict_on_batch(np.stack([clip[-frames:] for clip in clips[n : n + batch]]))
        for n in range(0, len(clips), batch)
    ]
    return np.concatenate(parts)


def last_outputs(model: VideoModel, clips: Sequence[NDArray[np.uint8]]) -> Outputs:
    """The output at each clip's last frame, for every temporal mode.

    Args:
        model: The model.
        clips: RGB, each uint8 (frames, height, width, 3), of any lengths.

    Returns:
        float32 (clips, ...).
    """
    import numpy as np

    if model.config.temporal != "carry":
        return predict(model, clips)
    shape = model.network.task.output(model.config.classes).shape[1:]
    outputs = np.empty((len(clips), *shape), np.float32)
    lengths = np.array([len(clip) for clip in clips])
    for length in sorted(set(lengths.tolist())):
        where = np.flatnonzero(lengths == length)
        outputs[where] = predict(model, [clips[n] for n in where.tolist()])[:, -1]
    return outputs
