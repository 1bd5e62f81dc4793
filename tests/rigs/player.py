"""A small scheduler: one stream on a failover, with a journal of what is not confirmed yet."""

import numpy as np

from edgevid.errors import EngineFailed
from edgevid.runtimes import zero_state


class Player:
    """Steps frames on a failover; whatever fails is taken again from the last confirmed moment."""

    def __init__(self, failover, contract) -> None:
        self.failover = failover
        self.answers: list[dict[str, np.ndarray]] = []
        self._state = self._confirmed = zero_state(contract)
        self._journal: list[np.ndarray] = []

    def play(self, frames) -> None:
        for frame in frames:
            self.step(frame)

    def step(self, frame) -> None:
        self._step(frame)
        self.settle(self.failover.check())

    def settle(self, confirmed) -> None:
        if confirmed is False:
            self._redo()
        elif confirmed or not self.failover.guarded:
            self._confirmed, self._journal = self._state, []

    def _step(self, frame) -> None:
        while True:
            try:
                answer, self._state = self.failover.step({"frame": frame}, self._state)
                break
            except EngineFailed as error:
                self.failover.lost(error)
                self._redo()
        self.answers.append(answer)
        self._journal.append(frame)

    def _redo(self) -> None:
        frames, self._journal, self._state = self._journal, [], self._confirmed
        del self.answers[len(self.answers) - len(frames) :]
        for frame in frames:
            self._step(frame)


def furthest(some, others) -> float:
    """The largest difference between two runs' answers."""
    assert len(some) == len(others)
    return max(
        float(np.abs(one[name] - other[name]).max())
        for one, other in zip(some, others, strict=True)
        for name in other
    )


def noise(contract, count: int, seed: int = 0) -> np.ndarray:
    """Frames of the contract's size: uint8 (count, 1, height, width, 3), each in another tint."""
    rng = np.random.default_rng(seed)
    shape = (count, 1, contract.frame.height, contract.frame.width, 3)
    tint = rng.integers(0, 150, (count, 1, 1, 1, 3))
    return (rng.integers(0, 90, shape) + tint).astype(np.uint8)
