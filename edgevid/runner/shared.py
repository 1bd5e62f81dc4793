"""The tensors of one step in memory that two processes share.

The memory has no name: it is inherited by descriptor and ends with the last process that maps it,
however that one ends.
"""

from __future__ import annotations

import math
import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors

ALIGNED_BYTES = 64


class Block:
    """A frame, a memory, an answer and the next memory, one after the other.

    Both processes lay it out alike from the contract. ``fd`` is another process's block.
    """

    def __init__(self, contract: Contract, fd: int | None = None) -> None:
        import numpy as np

        frame = contract.frame
        parts: list[tuple[Any, tuple[int, ...]]] = [(np.uint8, (1, frame.height, frame.width, 3))]
        states = [(np.float32, state.shape) for state in contract.states]
        parts += [*states, *((np.float32, output.shape) for output in contract.outputs), *states]
        starts, size = [], 0
        for kind, shape in parts:
            starts.append(size)
            size += -(-math.prod(shape) * np.dtype(kind).itemsize // ALIGNED_BYTES) * ALIGNED_BYTES
        if fd is None:
            self.fd = os.memfd_create("edgevid-step")
            os.ftruncate(self.fd, size)
        else:
            self.fd = fd
        self._memory = mmap.mmap(self.fd, size)
        views: list[NDArray[Any]] = [
            np.ndarray(shape, kind, self._memory, start)
            for (kind, shape), start in zip(parts, starts, strict=True)
        ]
        count = len(states)
        names = [state.name for state in contract.states]
        self.frame: NDArray[np.uint8] = views[0]
        self.state: dict[str, NDArray[np.float32]] = dict(zip(names, views[1:], strict=False))
        answers = views[1 + count : len(views) - count]
        self.answer = {o.name: view for o, view in zip(contract.outputs, answers, strict=True)}
        self.following = dict(zip(names, views[len(views) - count :], strict=True))

    def put(self, frame: NDArray[np.uint8], state: Tensors) -> None:
        """Write what a step takes."""
        self.frame[...] = frame
        for name, view in self.state.items():
            view[...] = state[name]

    def answered(self, answer: Tensors, following: Tensors) -> None:
        """Write what a step gave."""
        for name, view in self.answer.items():
            view[...] = answer[name]
        for name, view in self.following.items():
            view[...] = following[name]

    def take(self) -> tuple[Tensors, Tensors]:
        """Copy out what a step gave."""
        answer = {name: view.copy() for name, view in self.answer.items()}
        return answer, {name: view.copy() for name, view in self.following.items()}

    def forget_descriptor(self) -> None:
        """Close the descriptor, once the other process has its own; the memory stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Let go of the memory."""
        self.forget_descriptor()
        self.state, self.answer, self.following = {}, {}, {}
        del self.frame
        with suppress(BufferError):  # somebody still looks at it, and ends it by looking away
            self._memory.close()
