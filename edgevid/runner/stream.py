"""One stream's memory, and the step that it takes with an engine.

The state lives here and not in the engine, so a stream can change its engine between two frames,
or take a failed step again on another one, and lose nothing.

The rule of gaps: the memory is emptied where the time since the last step is longer than half of
what it spans (`carry`: than a second) *and* more than twice the time between the two steps before.
So a dropped frame, a short reconnection or a slower camera is bridged, and a stream that comes back
after a while starts afresh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgevid.runtimes import zero_state

if TYPE_CHECKING:
    from edgevid.contract import Contract, Inputs, Tensors

CARRY_BRIDGE_S = 1.0

SavedState = tuple["Tensors", int]


class Steps(Protocol):
    """What takes a step: an engine, or the failover that one of several engines holds."""

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """See `edgevid.runtimes.Engine.step`."""


class Stream:
    """The memory of one camera, all zeros at the start; ``rate_fps`` is the rate of its steps."""

    def __init__(self, contract: Contract, rate_fps: float | None = None) -> None:
        self._contract = contract
        interval_s = 1 / (rate_fps or contract.rate_fps)
        self._bridge_s = (
            max(contract.frames / 2, 2) * interval_s
            if contract.temporal == "window"
            else CARRY_BRIDGE_S
        )
        self._last_s: float | None = None
        self._interval_s = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget everything that was seen, as after a gap in the stream."""
        self._state: Tensors = zero_state(self._contract)
        self._seen = 0

    @property
    def warm(self) -> bool:
        """Whether the last answer had seen all the frames that it can remember."""
        return self._seen >= self._contract.warm_after

    def is_gap(self, time_s: float) -> bool:
        """Take note that a frame of the stream's time ``time_s`` comes now; True after a gap."""
        last_s, before_s = self._last_s, self._interval_s
        interval_s = 0.0 if last_s is None else time_s - last_s
        self._last_s, self._interval_s = time_s, interval_s
        return bool(self._contract.states) and interval_s > max(self._bridge_s, 2 * before_s)

    def step(self, engine: Steps, inputs: Inputs) -> Tensors:
        """Return the outputs for ``inputs``; the state advances only if the engine succeeds.

        Args:
            engine: What takes the step.
            inputs: One array per input of the contract, by name.

        Raises:
            EngineFailed: The engine failed; the stream's state is what it was.
        """
        answer, self._state = engine.step(inputs, self._state)
        self._seen += 1
        return answer

    def save(self) -> SavedState:
        """The memory as it is; it costs nothing, since a state is never written to again."""
        return self._state, self._seen

    def restore(self, memory: SavedState) -> None:
        """Go back to what `save` gave; the stream's time goes on."""
        self._state, self._seen = memory
