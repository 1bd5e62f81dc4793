"""Random changes of a clip that keep its label: light, colour, noise, a small shift.

All frames of a clip change alike, except for the noise. Clips are never flipped or rotated, because
left and right, clockwise and counter-clockwise are labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = NDArray[np.uint8]

NOISE_POOL = 1 << 20


@dataclass(frozen=True)
class Augment:
    """The ranges of the changes.

    Attributes:
        contrast: Largest factor; the smallest one is its inverse.
        brightness: Largest offset, in grey levels of 255.
        colour: Largest offset of a single channel, in grey levels.
        shift: Largest shift, in widths of the image.
        noise: Largest standard deviation, in grey levels.
        invert: Share of clips shown as negatives.
    """

    contrast: float = 1.3
    brightness: float = 20.0
    colour: float = 10.0
    shift: float = 0.06
    noise: float = 4.0
    invert: float = 0.0

    def apply(self, clip: Images, rng: np.random.Generator) -> Images:
        """Change a clip.

        Args:
            clip: RGB, uint8 (T, H, W, 3).
            rng: Source of randomness.

        Returns:
            A changed copy, uint8 (T, H, W, 3).
        """
        import numpy as np

        changed = np.empty_like(clip)
        shifted = self._shifted(clip, rng)
        for channel, curve in enumerate(self._curves(rng)):
            changed[..., channel] = curve[shifted[..., channel]]
        return self._noisy(changed, rng)

    def _curves(self, rng: np.random.Generator) -> Images:
        """A lookup table from old to new level per channel, uint8 (3, 256)."""
        import numpy as np

        gain = np.exp(rng.uniform(-1, 1) * np.log(self.contrast))
        offset = rng.uniform(-1, 1) * self.brightness + rng.uniform(-1, 1, (3, 1)) * self.colour
        levels = np.arange(256.0)
        if rng.random() < self.invert:
            levels = 255 - levels
        return np.asarray(np.clip((levels - 128) * gain + 128 + offset, 0, 255), np.uint8)

    def _shifted(self, clip: Images, rng: np.random.Generator) -> Images:
        """The clip shifted by a few pixels, with repeated edges."""
        import numpy as np

        height, width = clip.shape[1:3]
        down, right = np.rint(rng.uniform(-1, 1, 2) * self.shift * (height, width)).astype(int)
        rows = np.clip(np.arange(height) - down, 0, height - 1)
        columns = np.clip(np.arange(width) - right, 0, width - 1)
        return np.asarray(clip[:, rows][:, :, columns])

    def _noisy(self, clip: Images, rng: np.random.Generator) -> Images:
        """Add noise that differs in every frame, cut from a pool because drawing it is slow."""
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
