"""The tensors of one step in memory that the runner shares with a worker process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevid.isolation.shared_memory import ArraySpec, SharedArrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Inputs, Tensors


class StepMemory:
    """Inputs, state, outputs and next state of one step.

    Args:
        contract: Names, shapes and dtypes of the tensors.
        fd: Descriptor of the memory that another process made; None makes a new one.
    """

    def __init__(self, contract: Contract, fd: int | None = None) -> None:
        states = [ArraySpec(state.name, "float32", state.shape) for state in contract.states]
        self._shared = SharedArrays(
            [
                [ArraySpec(one.name, one.dtype, one.shape) for one in contract.inputs],
                states,
                [ArraySpec(output.name, "float32", output.shape) for output in contract.outputs],
                states,
            ],
            fd,
        )
        self.inputs: dict[str, NDArray[Any]]
        self.state: dict[str, NDArray[np.float32]]
        self.outputs: dict[str, NDArray[np.float32]]
        self.next_state: dict[str, NDArray[np.float32]]
        self.inputs, self.state, self.outputs, self.next_state = self._shared.groups

    @property
    def fd(self) -> int:
        """Descriptor of the memory, for a child to inherit; -1 once it is closed."""
        return self._shared.fd

    def write_inputs(self, inputs: Inputs, state: Tensors) -> None:
        """Write the arguments of a step.

        Args:
            inputs: Arrays of the contract's shapes and dtypes, by name.
            state: float32 arrays of the contract's shapes, by bare name.

        Raises:
            ValueError: An array has another shape than the contract's.
            KeyError: An input or a state is missing.
        """
        for name, view in self.inputs.items():
            view[...] = inputs[name]
        for name, view in self.state.items():
            view[...] = state[name]

    def write_outputs(self, outputs: Tensors, next_state: Tensors) -> None:
        """Write the results of a step.

        Args:
            outputs: float32 arrays of the contract's shapes, by name.
            next_state: float32 arrays of the contract's shapes, by bare name.
        """
        for name, view in self.outputs.items():
            view[...] = outputs[name]
        for name, view in self.next_state.items():
            view[...] = next_state[name]

    def read_outputs(self) -> tuple[Tensors, Tensors]:
        """Return copies of the outputs and the next state: float32 of the contract's shapes."""
        outputs = {name: view.copy() for name, view in self.outputs.items()}
        return outputs, {name: view.copy() for name, view in self.next_state.items()}

    def close_descriptor(self) -> None:
        """Close the descriptor once the child has inherited it; the memory stays mapped."""
        self._shared.close_descriptor()

    def close(self) -> None:
        """Unmap the memory."""
        self._shared.close()
