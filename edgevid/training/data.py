"""Batches for training, prepared in the background; equal seeds give equal batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid.tasks.host.training import TrainingTask
from edgevid.training.augment import Augment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = NDArray[np.uint8]
    Batch = tuple[Images, NDArray[Any]]

Turn = tuple[int, ...]
"""Number of an epoch, and of the pass in it after the first."""


@dataclass(frozen=True)
class Batches:
    """Cuts a part out of each clip, at a random time in every epoch, in random order.

    Clips that do not fill the last batch are left for another epoch, because a batch of another
    size would trace the whole unrolled graph again.

    Attributes:
        images: RGB frames of each clip, uint8 (frames, height, width, 3).
        targets: What the network should output for each clip, (clips, ...).
        frames: Length of the parts; clips are at least as long.
        batch: Clips per batch.
        seed: Seed of the order, the times and the changes.
        augment: Random changes; None for none.
        task: Changes clips together with their targets; None changes the clips only.
        passes: How often an epoch passes through the clips.
    """

    images: Sequence[Images]
    targets: NDArray[Any]
    frames: int
    batch: int = 32
    seed: int = 0
    augment: Augment | None = None
    task: TrainingTask | None = None
    passes: int = 1

    def __len__(self) -> int:
        return self.passes * self._steps

    @property
    def _steps(self) -> int:
        """Batches of one pass."""
        return max(1, len(self.images) // self.batch)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            number: Number of the epoch, from 0.

        Yields:
            Clips, uint8 (B, T, H, W, 3), and their targets, (B, ...).
        """
        parts = [
            (part, turn)
            for turn in [(number,), *((number, again) for again in range(1, self.passes))]
            for part in self._parts(turn)
        ]
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._batch, *parts[0])
            for following in [*parts[1:], None]:
                batch = coming.result()
                if following is not None:
                    coming = pool.submit(self._batch, *following)
                yield batch

    def _parts(self, turn: Turn) -> list[NDArray[np.int64]]:
        """The clips of each batch of one pass."""
        import numpy as np

        order = np.random.default_rng((self.seed, *turn)).permutation(len(self.images))
        return [order[n * self.batch : (n + 1) * self.batch] for n in range(self._steps)]

    def _batch(self, part: NDArray[np.int64], turn: Turn) -> Batch:
        import numpy as np

        pairs = [self._cut(int(n), turn) for n in part]
        return np.stack([clip for clip, _ in pairs]), np.stack([target for _, target in pairs])

    def _cut(self, index: int, turn: Turn) -> tuple[Images, Any]:
        import numpy as np

        epoch, *later = turn
        rng = np.random.default_rng((self.seed, epoch, index, *later))
        clip, target = self.images[index], self.targets[index]
        start = int(rng.integers(len(clip) - self.frames + 1))
        cut = np.asarray(clip[start : start + self.frames])
        if self.augment is None:
            return cut, target
        if self.task is None:
            return self.augment.apply(cut, rng), target
        return self.task.augment(cut, target, self.augment, rng)


def shuffled(images: Sequence[Images], seed: int = 0) -> list[Images]:
    """Shuffle the frames of each clip: a control that a model has learned from their order.

    Args:
        images: RGB frames of each clip, uint8 (frames, height, width, 3).
        seed: Seed of the orders.

    Returns:
        Shuffled copies of the same shapes.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    return [np.asarray(clip)[rng.permutation(len(clip))] for clip in images]
