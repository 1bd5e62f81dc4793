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

    from edgevid.contract import Contract, Inputs, Tensors

ALIGNED_BYTES = 64


class Block:
    """Inputs, state, outputs and next state of one step, one after the other.

    Both processes derive the same layout from the contract.

    Args:
        contract: Names, shapes and dtypes of the tensors.
        fd: Descriptor of the block that another process made; None makes a new one.
    """

    def __init__(self, contract: Contract, fd: int | None = None) -> None:
        import numpy as np

        states = [(state.name, "float32", state.shape) for state in contract.states]
        groups: list[list[tuple[str, str, tuple[int, ...]]]] = [
            [(one.name, one.dtype, one.shape) for one in contract.inputs],
            states,
            [(output.name, "float32", output.shape) for output in contract.outputs],
            states,
        ]
        size = sum(_aligned_bytes(dtype, shape) for group in groups for _, dtype, shape in group)
        if fd is None:
            self.fd = os.memfd_create("edgevid-step")
            os.ftruncate(self.fd, size)
        else:
            self.fd = fd
        self._memory = mmap.mmap(self.fd, size)
        start = 0
        views: list[dict[str, NDArray[Any]]] = []
        for group in groups:
            views.append({})
            for name, dtype, shape in group:
                views[-1][name] = np.ndarray(shape, dtype, self._memory, start)
                start += _aligned_bytes(dtype, shape)
        self.inputs: dict[str, NDArray[Any]]
        self.state: dict[str, NDArray[np.float32]]
        self.outputs: dict[str, NDArray[np.float32]]
        self.next_state: dict[str, NDArray[np.float32]]
        self.inputs, self.state, self.outputs, self.next_state = views

    def write_inputs(self, inputs: Inputs, state: Tensors) -> None:
        """Write the arguments of a step.

        Raises:
            ValueError: An array has another shape than the contract's.
            KeyError: An input or a state is missing.
        """
        for name, view in self.inputs.items():
            view[...] = inputs[name]
        for name, view in self.state.items():
            view[...] = state[name]

    def write_outputs(self, outputs: Tensors, next_state: Tensors) -> None:
        """Write the results of a step."""
        for name, view in self.outputs.items():
            view[...] = outputs[name]
        for name, view in self.next_state.items():
            view[...] = next_state[name]

    def read_outputs(self) -> tuple[Tensors, Tensors]:
        """Return copies of the outputs and the next state."""
        outputs = {name: view.copy() for name, view in self.outputs.items()}
        return outputs, {name: view.copy() for name, view in self.next_state.items()}

    def forget_descriptor(self) -> None:
        """Close the descriptor, once the other process has its own; the memory stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Let go of the memory."""
        self.forget_descriptor()
        self.inputs, self.state, self.outputs, self.next_state = {}, {}, {}, {}
        with suppress(BufferError):  # somebody still looks at it, and ends it by looking away
            self._memory.close()


def _aligned_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Size of a tensor, rounded up to the alignment of the next one."""
    import numpy as np

    return -(-math.prod(shape) * np.dtype(dtype).itemsize // ALIGNED_BYTES) * ALIGNED_BYTES
