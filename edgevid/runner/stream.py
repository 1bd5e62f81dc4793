"""The recurrent state of one stream, and its steps on an engine.

The state belongs to the stream and not to the engine, so a stream can change its engine between two
frames, or rerun a failed step on another one, without losing anything.

A gap resets the state: the time since the last step is longer than half of what the state spans
(for ``carry``: longer than a second) *and* more than twice the previous interval. So a dropped
frame, a short reconnection or a slower camera is bridged, and a stream that returns after a longer
pause starts from an empty state. In a file, where another recording begins is a gap too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgevid.runtimes import zero_state

if TYPE_CHECKING:
    from edgevid.contract import Contract, Inputs, Tensors

CARRY_BRIDGE_S = 1.0

SavedState = tuple["Tensors", int]


class Steps(Protocol):
    """What takes a step: an engine, or a failover between several engines."""

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """See `edgevid.runtimes.Engine.step`."""


class Stream:
    """The recurrent state of one stream, zero at the start.

    Args:
        contract: The model's contract.
        rate_fps: Steps per second; by default the contract's.
    """

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
        """Set the state to zero, as after a gap in the stream."""
        self._state: Tensors = zero_state(self._contract)
        self._seen = 0

    @property
    def warm(self) -> bool:
        """Whether the last outputs depend on as many steps as the model can use."""
        return self._seen >= self._contract.warm_after

    def is_gap(self, time_s: float, *, cut: bool = False) -> bool:
        """Record the stream time of the next frame; return whether it follows a gap.

        Args:
            time_s: Presentation time of the frame in seconds.
            cut: Another recording begins, so the time since the last frame says nothing.
        """
        last_s, before_s = self._last_s, self._interval_s
        interval_s = 0.0 if last_s is None else time_s - last_s
        self._last_s, self._interval_s = time_s, interval_s
        too_long = interval_s > max(self._bridge_s, 2 * before_s)
        return bool(self._contract.states) and (too_long or cut)

    def step(self, engine: Steps, inputs: Inputs) -> Tensors:
        """Return the outputs for ``inputs``; the state advances only if the engine succeeds.

        Args:
            engine: What takes the step.
            inputs: One array per input of the contract, by name, of its shape and dtype.

        Returns:
            float32 arrays of the contract's shapes, by name.

        Raises:
            EngineFailed: The engine failed; the stream's state is what it was.
        """
        outputs, self._state = engine.step(inputs, self._state)
        self._seen += 1
        return outputs

    def save(self) -> SavedState:
        """Return the state; this costs nothing, since states are never written to again."""
        return self._state, self._seen

    def restore(self, saved: SavedState) -> None:
        """Go back to a state that `save` returned; the stream's time continues."""
        self._state, self._seen = saved
