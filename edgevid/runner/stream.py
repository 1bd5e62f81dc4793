"""One stream's memory, and the step that it takes with an engine.

The state lives here and not in the engine, so a stream can change its engine between two frames,
or take a failed step again on another one, and lose nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevid.runtimes import Engine, zero_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors


class Stream:
    """The memory of one camera, all zeros at the start."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self.reset()

    def reset(self) -> None:
        """Forget everything, as after a gap in the stream."""
        self._state: Tensors = zero_state(self._contract)
        self._seen = 0

    @property
    def warm(self) -> bool:
        """Whether the last answer had seen all the frames that it can remember."""
        return self._seen >= self._contract.warm_after

    def step(self, engine: Engine, frame: NDArray[np.uint8]) -> Tensors:
        """Give the answer to ``frame``; the memory moves on only if the engine did not fail."""
        answer, self._state = engine.step(frame, self._state)
        self._seen += 1
        return answer
