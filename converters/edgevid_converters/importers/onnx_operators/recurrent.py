"""LSTM, GRU and RNN, unrolled: a loop does not quantise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid_converters.importers.onnx_operators.node import OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import (
    Operand,
    Tensor,
    Unsupported,
    Value,
    narrow,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 128
"""Time steps that are unrolled; more make a graph that takes minutes to convert."""
USUAL = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
    "RNN": ("Tanh",),
}
ACTIVATIONS = ("Elu", "HardSigmoid", "Relu", "Sigmoid", "Softsign", "Tanh")


@dataclass(frozen=True)
class Cell:
    """One direction of a recurrent layer.

    Attributes:
        kind: ``LSTM``, ``GRU`` or ``RNN``.
        w: Weights of the input, ``(gates * hidden, input)``.
        r: Weights of the state, ``(gates * hidden, hidden)``.
        b: Biases of both, ``(2, gates * hidden)``.
        p: Peepholes of an LSTM, ``(3, hidden)``; None if it has none.
        squash: Its activation functions.
        clip: Bound of what activation functions get; 0 for none.
        reset_after: Whether a GRU resets after the product (``linear_before_reset``).
        coupled: Whether an LSTM forgets what it doesn't take in (``input_forget``).
    """

    kind: str
    w: NDArray[Any]
    r: NDArray[Any]
    b: NDArray[Any]
    p: NDArray[Any] | None
    squash: Sequence[Callable[[Tensor], Tensor]]
    clip: float
    reset_after: bool
    coupled: bool

    @property
    def hidden(self) -> int:
        """Size of the state."""
        return int(self.r.shape[1])

    def apply(self, which: int, x: Tensor) -> Tensor:
        """Apply an activation function."""
        import tensorflow as tf

        if self.clip:
            x = tf.minimum(tf.maximum(x, -self.clip), self.clip)
        return self.squash[which](x)

    def gate(self, gates: Tensor, place: int) -> Tensor:
        """Take one gate out of all: ``(batch, hidden)``."""
        return gates[:, place * self.hidden : (place + 1) * self.hidden]

    def product(self, state: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Multiply a state by the weights of some gates."""
        import tensorflow as tf

        rows = self.r[first * self.hidden : None if last is None else last * self.hidden]
        return tf.matmul(state, rows.T)

    def step(self, new: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take one time step.

        Args:
            new: The input's share of all gates, ``(batch, gates * hidden)``, with its biases.
            states: The hidden state, and the cell of an LSTM.
        """
        return {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.kind](new, states)

    @property
    def bias(self) -> NDArray[Any]:
        """The biases added to the input's share at once, ``(gates * hidden,)`` float32."""
        if self.kind != "GRU":
            both: NDArray[Any] = self.b[0] + self.b[1]
            return both
        both = self.b[0].copy()
        both[: 2 * self.hidden] += self.b[1][: 2 * self.hidden]
        if not self.reset_after:
            both[2 * self.hidden :] += self.b[1][2 * self.hidden :]
        return both

    def _rnn(self, new: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.apply(0, new + self.product(states[0])),)

    def _lstm(self, new: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Gates in the order i, o, f, c."""
        state, before = states
        gates = new + self.product(state)
        into, out, keep, fresh = (self.gate(gates, place) for place in range(4))
        if self.p is not None:
            into, keep = into + before * self.p[0], keep + before * self.p[2]
        into = self.apply(0, into)
        keep = 1.0 - into if self.coupled else self.apply(0, keep)
        after = keep * before + into * self.apply(1, fresh)
        if self.p is not None:
            out = out + after * self.p[1]
        # as in ONNX Runtime, the cell's own activation is not clipped
        return self.apply(0, out) * self.squash[2](after), after

    def _gru(self, new: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Gates in the order z, r, h."""
        (state,) = states
        two = 2 * self.hidden
        both = new[:, :two] + self.product(state, 0, 2)
        keep, reset = (self.apply(0, self.gate(both, place)) for place in (0, 1))
        if self.reset_after:
            past = reset * (self.product(state, 2) + self.b[1][two:])
        else:
            past = self.product(reset * state, 2)
        fresh = self.apply(1, new[:, two:] + past)
        return (fresh + keep * (state - fresh),)


def _recurrent(node: OnnxNode) -> tuple[Operand | None, ...]:
    """Any direction, initial states, peepholes; up to 128 time steps.

    Raises:
        Unsupported: The sequence is too long, or its lengths are given.
    """
    import tensorflow as tf

    batch_first = bool(node.whole("layout", 0))
    value = node.value(0)
    x = value.stored((1, 0, 2) if batch_first else (0, 1, 2))
    steps, batch, _ = (int(one) for one in x.shape)
    if steps > LONGEST:
        raise Unsupported(
            f"it has {steps} time steps and {LONGEST} can be unrolled; export the model for "
            "shorter inputs, with its states as inputs and outputs"
        )
    if node.has(4) and any(int(one) != steps for one in node.array(4, "sequence_lens")):
        raise Unsupported("its sequence_lens are shorter than the sequence")
    direction = node.text("direction", "forward")
    count = 2 if direction == "bidirectional" else 1
    made = []
    for index in range(count):
        states = _initial(node, index, batch, batch_first)
        backwards = direction == "reverse" or index == 1
        made.append(_run(_cell(node, index), x, states, backwards))
    every = tf.stack([tf.stack(one[0]) for one in made], 1)  # (T, directions, batch, hidden)
    lasts = [
        tf.stack([one[1][at] for one in made]) for at in range(2 if node.kind == "LSTM" else 1)
    ]
    if batch_first:
        every = tf.transpose(every, [2, 0, 1, 3])
        lasts = [tf.transpose(one, [1, 0, 2]) for one in lasts]
    found = [every, *lasts]
    return tuple(
        Value.natural(one) if used else None for one, used in zip(found, node.outputs, strict=False)
    )


def _run(
    cell: Cell, x: Tensor, states: tuple[Tensor, ...], backwards: bool
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Take all steps; returns the hidden states in the order of the input, and the last states."""
    import tensorflow as tf

    steps, batch, width = (int(one) for one in x.shape)
    flat = tf.reshape(x, [steps * batch, width])
    shares = tf.nn.bias_add(tf.matmul(flat, cell.w.T), cell.bias)
    parts = tf.split(shares, steps) if steps > 1 else [shares]
    given = []
    for part in reversed(parts) if backwards else parts:
        states = cell.step(part, states)
        given.append(states[0])
    return (given[::-1] if backwards else given), states


def _initial(node: OnnxNode, index: int, batch: int, batch_first: bool) -> tuple[Tensor, ...]:
    """Return the states to begin with: inputs of the node, or zeros."""
    import numpy as np
    import tensorflow as tf

    hidden = int(node.operand(2).shape[-1])
    found = []
    for place in (5, 6) if node.kind == "LSTM" else (5,):
        if node.has(place):
            stored = node.value(place).stored((1, 0, 2) if batch_first else (0, 1, 2))
            found.append(stored[index])
        else:
            found.append(tf.constant(np.zeros((batch, hidden), np.float32)))
    return tuple(found)


def _cell(node: OnnxNode, index: int) -> Cell:
    import numpy as np

    w, r = (narrow(node.array(place, "weight"))[index] for place in (1, 2))
    b = np.zeros((2, w.shape[0]), np.float32)
    if node.has(3):
        b = narrow(node.array(3, "bias"))[index].reshape(2, -1)
    peepholes = None
    if node.has(7):
        peepholes = narrow(node.array(7, "peephole weight"))[index].reshape(3, -1)
    return Cell(
        node.kind,
        w,
        r,
        b,
        peepholes,
        _squash(node, index),
        node.number("clip", 0.0),
        bool(node.whole("linear_before_reset", 0)),
        bool(node.whole("input_forget", 0)),
    )


def _squash(node: OnnxNode, index: int) -> list[Callable[[Tensor], Tensor]]:
    """Return the activation functions of one direction."""
    import tensorflow as tf

    usual = USUAL[node.kind]
    listed = [
        one.decode() if isinstance(one, bytes) else str(one)
        for one in node.attributes.get("activations", ())
    ] or list(usual) * 2
    names = listed[index * len(usual) : (index + 1) * len(usual)]
    if node.attributes.get("activation_alpha") or node.attributes.get("activation_beta"):
        raise Unsupported("its activations have parameters")
    known: dict[str, Callable[[Tensor], Tensor]] = {
        "Elu": tf.nn.elu,
        "HardSigmoid": lambda x: tf.minimum(tf.nn.relu(x * 0.2 + 0.5), 1.0),
        "Relu": tf.nn.relu,
        "Sigmoid": tf.sigmoid,
        "Softsign": lambda x: x / (1.0 + tf.abs(x)),
        "Tanh": tf.tanh,
    }
    for name in names:
        if name not in known:
            raise Unsupported(f"its activation is {name}; it can be {', '.join(ACTIVATIONS)}")
    return [known[name] for name in names]


OPERATORS: Table = {"GRU": _recurrent, "LSTM": _recurrent, "RNN": _recurrent}
