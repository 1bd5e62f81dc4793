"""Motion gate: no steps while the scene is still.

The gate compares the means of small blocks of the model's input with those of the last frame that
was stepped, not of the last frame that arrived, so that slow motion adds up until it is detected.
The frame with the motion is stepped. After a motion, steps continue until the recurrent state
depends on the still scene alone, so it is the same as without a gate when the next motion begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract

BLOCK = 4
"""Width and height of a block in pixels of the model's input."""
LEAST = 3.0
"""The smallest change of a block's mean that counts as motion, of 255."""
NOISE_TIMES = 8.0
"""A change must also exceed this multiple of the median change of all blocks, the noise."""
NOISE_SHARE = 0.03
REFRESH_S = 10.0
"""A still scene is stepped at this interval all the same, because light drifts."""


class Gate:
    """Decides for each frame of one stream whether it needs a step."""

    def __init__(self, contract: Contract) -> None:
        self._tail = max(contract.warm_after, contract.frames)
        self._left = self._tail
        self._reference: NDArray[Any] | None = None
        self._noise, self._compared = 0.0, 0
        self._stepped_s = 0.0

    def opens(self, pixels: NDArray[np.uint8], time_s: float) -> bool:
        """Whether a frame needs a step.

        Args:
            pixels: uint8 ``(1, height, width, 3)``, the model's input.
            time_s: The frame's time in the stream.
        """
        blocks = _blocks(pixels)
        moving = self._reference is None or self._moves(blocks, self._reference)
        self._left = self._tail if moving else self._left - 1
        due = not 0 <= time_s - self._stepped_s < REFRESH_S
        if self._left < 0 and not due:
            return False
        self._reference, self._stepped_s = blocks, time_s
        return True

    def _moves(self, blocks: NDArray[Any], reference: NDArray[Any]) -> bool:
        import numpy as np

        change = np.abs(blocks - reference)
        moving = float(change.max()) > max(LEAST, NOISE_TIMES * self._noise)
        # Most blocks change only by noise, or because the camera moves: hence the bound.
        self._compared += 1
        share = max(NOISE_SHARE, 1 / self._compared)
        self._noise += share * (min(float(np.median(change)), LEAST) - self._noise)
        return moving


def _blocks(pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """The mean of each block over all colours, float32 ``(height // 4, width // 4)``."""
    import numpy as np

    high, wide = min(BLOCK, pixels.shape[1]), min(BLOCK, pixels.shape[2])
    rows, columns = pixels.shape[1] // high, pixels.shape[2] // wide
    cut = pixels[0, : rows * high, : columns * wide]
    by_row = np.add.reduce(cut.reshape(rows, high, columns * wide * 3), axis=1, dtype=np.uint16)
    sums = np.add.reduce(by_row.reshape(rows, columns, wide * 3), axis=2, dtype=np.uint16)
    means: NDArray[Any] = sums * np.float32(1 / (high * wide * 3))
    return means
