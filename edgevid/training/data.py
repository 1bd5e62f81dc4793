"""Batches for training: the same for the same seed and epoch, made while the last is learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevid.training.augment import Augment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pictures = NDArray[np.uint8]
    Batch = tuple[Pictures, NDArray[np.int64]]


@dataclass(frozen=True)
class Batches:
    """Cuts ``frames`` frames out of each clip, at a place of its own in every epoch.

    ``pictures`` are clips uint8 (N, H, W, 3) of at least ``frames`` frames, ``targets`` their
    classes. Clips come in an order by chance; those that do not fill a last batch are left for
    another epoch, as a batch of another size would have the whole unrolled graph traced anew.
    """

    pictures: Sequence[Pictures]
    targets: NDArray[np.int64]
    frames: int
    batch: int = 32
    seed: int = 0
    augment: Augment | None = None

    def __len__(self) -> int:
        return max(1, len(self.pictures) // self.batch)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch: clips uint8 (B, T, H, W, 3) and classes int64 (B,)."""
        import numpy as np

        order = np.random.default_rng((self.seed, number)).permutation(len(self.pictures))
        parts = [order[n * self.batch : (n + 1) * self.batch] for n in range(len(self))]
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._batch, parts[0], number)
            for part in [*parts[1:], None]:
                batch = coming.result()
                if part is not None:
                    coming = pool.submit(self._batch, part, number)
                yield batch

    def _batch(self, part: NDArray[np.int64], number: int) -> Batch:
        import numpy as np

        return np.stack([self._cut(int(n), number) for n in part]), self.targets[part]

    def _cut(self, index: int, number: int) -> Pictures:
        import numpy as np

        rng = np.random.default_rng((self.seed, number, index))
        clip = self.pictures[index]
        start = int(rng.integers(len(clip) - self.frames + 1))
        cut = np.asarray(clip[start : start + self.frames])
        return self.augment.apply(cut, rng) if self.augment else cut


def shuffled(pictures: Sequence[Pictures], seed: int = 0) -> list[Pictures]:
    """Each clip with its frames in disorder: the control for whether time is what was learned."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return [np.asarray(clip)[rng.permutation(len(clip))] for clip in pictures]
