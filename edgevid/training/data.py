"""Batches for training: the same for the same seed and epoch, made while the last is learned."""

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

    Pictures = NDArray[np.uint8]
    Batch = tuple[Pictures, NDArray[Any]]


@dataclass(frozen=True)
class Batches:
    """Cuts ``frames`` frames out of each clip, at a place of its own in every epoch.

    ``pictures`` are clips uint8 (N, H, W, 3) of at least ``frames`` frames, ``targets`` (N, ...)
    what the network should output for them; ``task`` changes clips together with their targets.
    Clips come in random order; those that do not fill a last batch are left for another epoch, as a
    batch of another size would have the whole unrolled graph traced anew.
    """

    pictures: Sequence[Pictures]
    targets: NDArray[Any]
    frames: int
    batch: int = 32
    seed: int = 0
    augment: Augment | None = None
    task: TrainingTask | None = None

    def __len__(self) -> int:
        return max(1, len(self.pictures) // self.batch)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch: clips uint8 (B, T, H, W, 3) and targets (B, ...)."""
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

        pairs = [self._cut(int(n), number) for n in part]
        return np.stack([clip for clip, _ in pairs]), np.stack([target for _, target in pairs])

    def _cut(self, index: int, number: int) -> tuple[Pictures, Any]:
        import numpy as np

        rng = np.random.default_rng((self.seed, number, index))
        clip, target = self.pictures[index], self.targets[index]
        start = int(rng.integers(len(clip) - self.frames + 1))
        cut = np.asarray(clip[start : start + self.frames])
        if self.augment is None:
            return cut, target
        if self.task is None:
            return self.augment.apply(cut, rng), target
        return self.task.augment(cut, target, self.augment, rng)


def shuffled(pictures: Sequence[Pictures], seed: int = 0) -> list[Pictures]:
    """Each clip with its frames in disorder: the control for whether time is what was learned."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return [np.asarray(clip)[rng.permutation(len(clip))] for clip in pictures]
