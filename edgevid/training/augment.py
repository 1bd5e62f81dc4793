"""Changes to a clip that leave its label true: light, colour, noise, a small shift of the whole.

Every change is one and the same over all frames of a clip, but for the noise. There are no flips
and no turns: left and right, clockwise and counter-clockwise are labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pictures = NDArray[np.uint8]

NOISE_POOL = 1 << 20


@dataclass(frozen=True)
class Augment:
    """How far clips are changed.

    ``contrast`` is the largest factor (and its inverse the smallest), ``brightness`` and ``colour``
    are in grey levels of 255, ``shift`` in widths of the picture, ``noise`` in grey levels (the
    highest standard deviation); ``invert`` is the share of clips shown as negatives.
    """

    contrast: float = 1.3
    brightness: float = 20.0
    colour: float = 10.0
    shift: float = 0.06
    noise: float = 4.0
    invert: float = 0.0

    def apply(self, clip: Pictures, rng: np.random.Generator) -> Pictures:
        """A changed copy of ``clip``, uint8 (T, H, W, 3)."""
        import numpy as np

        changed = np.empty_like(clip)
        shifted = self._shifted(clip, rng)
        for channel, curve in enumerate(self._curves(rng)):
            changed[..., channel] = curve[shifted[..., channel]]
        return self._noisy(changed, rng)

    def _curves(self, rng: np.random.Generator) -> Pictures:
        """One table per channel from old level to new, uint8 (3, 256)."""
        import numpy as np

        gain = np.exp(rng.uniform(-1, 1) * np.log(self.contrast))
        offset = rng.uniform(-1, 1) * self.brightness + rng.uniform(-1, 1, (3, 1)) * self.colour
        levels = np.arange(256.0)
        if rng.random() < self.invert:
            levels = 255 - levels
        return np.asarray(np.clip((levels - 128) * gain + 128 + offset, 0, 255), np.uint8)

    def _shifted(self, clip: Pictures, rng: np.random.Generator) -> Pictures:
        """The whole clip moved by a few pixels; what comes in repeats the edge."""
        import numpy as np

        height, width = clip.shape[1:3]
        down, right = np.rint(rng.uniform(-1, 1, 2) * self.shift * (height, width)).astype(int)
        rows = np.clip(np.arange(height) - down, 0, height - 1)
        columns = np.clip(np.arange(width) - right, 0, width - 1)
        return np.asarray(clip[:, rows][:, :, columns])

    def _noisy(self, clip: Pictures, rng: np.random.Generator) -> Pictures:
        """Noise that is new in every frame, cut from a pool: drawing it is the slow part."""
        import numpy as np

        strength = np.float32(rng.uniform(0, self.noise) / 32)
        start = int(rng.integers(NOISE_POOL))
        table = np.rint(np.arange(-128, 128, dtype=np.float32) * strength).astype(np.int16)
        pool = _noise_pool()
        noise = np.take(pool, np.arange(start, start + clip.size), mode="wrap")
        changed = clip.reshape(-1).astype(np.int16) + table[noise]
        return np.asarray(np.clip(changed, 0, 255), np.uint8).reshape(clip.shape)


@cache
def _noise_pool() -> NDArray[np.uint8]:
    """Normal noise with a deviation of 32 levels around 128, uint8 (NOISE_POOL,)."""
    import numpy as np

    normal = np.random.default_rng(0).standard_normal(NOISE_POOL, np.float32)
    return np.asarray(np.clip(normal * 32 + 128, 0, 255), np.uint8)
