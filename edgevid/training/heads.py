"""Temporal heads: what turns embeddings over time into one feature vector per frame.

A head is a keras layer with two forms that share its weights:

    step(embedding (B, D), state) -> feature (B, F), state'     one frame, memory in and out
    call(embeddings (B, T, D))    -> features (B, T, F)         the whole clip, memory from zero

``call`` is ``step`` taken T times from a zero state, to the last bit that arithmetic allows; a head
overrides it only to do the same with fewer products. Both are unrolled: T is static, there is no
loop in the graph, so every converter and every accelerator takes it. Another head is one class and
one row: a GRU has one state less, attention keeps the last T keys and values, a temporal shift
keeps a slice of the last embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import keras
from keras import ops

from edgevid.training import Tensor

State = Mapping[str, Tensor]
"""Bare state name -> tensor (B, ...)."""


SEEN = "seen"
Rounding = Callable[[Tensor], Tensor]


def exact(values: Tensor) -> Tensor:
    """No rounding at all."""
    return values


class Head(keras.layers.Layer):  # type: ignore[misc]
    """The form of every head."""

    _round: Rounding = staticmethod(exact)

    def products(self) -> list[keras.Variable]:
        """The weights of its matrix products, inputs first, outputs last."""
        raise NotImplementedError

    @contextmanager
    def rounding(self, how: Rounding) -> Iterator[None]:
        """Let ``how`` round every tensor that a converter gives a range of its own."""
        self._round = how
        try:
            yield
        finally:
            self._round = exact

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name of each state tensor -> its shape without the batch axis."""
        raise NotImplementedError

    def step(self, embedding: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Take ``embedding`` (B, D) and the state; give the feature (B, F) and the new state."""
        raise NotImplementedError

    def zeros(self, like: Tensor) -> dict[str, Tensor]:
        """The state at the start of a stream, for the batch of ``like`` (B, ...)."""
        batch = like.shape[0] or ops.shape(like)[0]
        return {name: ops.zeros((batch, *shape)) for name, shape in self.state_shapes().items()}

    def call(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, T, D) -> features (B, T, F), from a zero state."""
        state = self.zeros(embeddings)
        features = []
        for t in range(embeddings.shape[1]):
            feature, state = self.step(embeddings[:, t], state)
            features.append(feature)
        return ops.stack(features, axis=1)


class LstmLayer(keras.layers.Layer):  # type: ignore[misc]
    """One LSTM: gates i, f, g, o from the input and the last output, the cell carried on."""

    def __init__(self, units: int, **options: object) -> None:
        super().__init__(**options)
        self.units = units

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights for inputs whose last axis is ``shape[-1]``."""
        gates = 4 * self.units
        self.kernel = self.add_weight(
            (shape[-1], gates), initializer="glorot_uniform", name="kernel"
        )
        self.recurrent = self.add_weight(
            (self.units, gates), initializer="orthogonal", name="recurrent"
        )
        self.bias = self.add_weight((gates,), initializer=_remember, name="bias")

    def take_in(self, inputs: Tensor) -> Tensor:
        """The share of the gates that comes from ``inputs`` (..., D): (..., 4 * units).

        It does not depend on the memory, so it can be taken for all T inputs in one product.
        """
        return ops.matmul(inputs, self.kernel) + self.bias

    def advance(
        self, taken: Tensor, hidden: Tensor, cell: Tensor, rounding: Rounding = exact
    ) -> tuple[Tensor, Tensor]:
        """One moment: ``taken`` (B, 4 * units), memory (B, units) twice -> the new memory."""
        gates = rounding(taken + ops.matmul(hidden, self.recurrent))
        enter, keep, candidate, leave = ops.split(gates, 4, axis=-1)
        cell = rounding(ops.sigmoid(keep) * cell + ops.sigmoid(enter) * ops.tanh(candidate))
        return rounding(ops.sigmoid(leave) * ops.tanh(cell)), cell


class Lstm(Head):
    """LSTM layers one upon the other, two as in the source article.

    The first sees each embedding beside its change since the last one, enlarged. From embeddings
    alone a memory must first learn to subtract: in our trials it answered by chance for two epochs,
    and after ten it could not yet tell the sense of a turn.
    """

    def __init__(self, width: int, units: int, depth: int = 2, **options: object) -> None:
        super().__init__(**options)
        self.width = width
        self.units = units
        self.layers = [LstmLayer(units, name=f"lstm{n + 1}") for n in range(depth)]

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """``h1, c1, h2, c2, ...``, each (units,), and ``seen``, the last embedding, (D,)."""
        pairs = range(1, len(self.layers) + 1)
        memory: dict[str, tuple[int, ...]] = {SEEN: (self.width,)}
        return memory | {f"{kind}{n}": (self.units,) for n in pairs for kind in "hc"}

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights for embeddings (..., D)."""
        self.gain = self.add_weight(
            (self.width,), initializer=keras.initializers.Constant(3.0), name="gain"
        )
        for n, layer in enumerate(self.layers):
            layer.build((None, 2 * self.width if n == 0 else self.units))

    def products(self) -> list[keras.Variable]:
        """Two of each layer: for what comes in, and for its own last output."""
        return [kernel for layer in self.layers for kernel in (layer.kernel, layer.recurrent)]

    def _with_change(self, embedding: Tensor, seen: Tensor) -> Tensor:
        both = ops.concatenate([embedding, (embedding - seen) * self.gain], axis=-1)
        return self._round(both)

    def step(self, embedding: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """One frame through every layer; the feature is the last layer's output."""
        after: dict[str, Tensor] = {SEEN: embedding}
        feature = self._with_change(embedding, state[SEEN])
        for n, layer in enumerate(self.layers, 1):
            memory = state[f"h{n}"], state[f"c{n}"]
            feature, cell = layer.advance(layer.take_in(feature), *memory, self._round)
            after |= {f"h{n}": feature, f"c{n}": cell}
        return feature, after

    def call(self, embeddings: Tensor) -> Tensor:
        """The same, layer by layer, with one input product per layer in place of T."""
        seen = ops.pad(embeddings[:, :-1], ((0, 0), (1, 0), (0, 0)))
        features = self._with_change(embeddings, seen)
        for layer in self.layers:
            features = self._whole(layer, features)
        return features

    def _whole(self, layer: LstmLayer, inputs: Tensor) -> Tensor:
        batch = inputs.shape[0] or ops.shape(inputs)[0]
        hidden = cell = ops.zeros((batch, self.units))
        taken = layer.take_in(inputs)
        outputs = []
        for t in range(inputs.shape[1]):
            hidden, cell = layer.advance(taken[:, t], hidden, cell, self._round)
            outputs.append(hidden)
        return ops.stack(outputs, axis=1)


HEADS: dict[str, Callable[..., Head]] = {"cnn-lstm": Lstm}
"""Name of model -> its head, made from width of embedding and units; no row, no head."""


def _remember(shape: tuple[int, ...], dtype: str | None = None) -> Tensor:
    """Bias of 1 on the gate that keeps the cell, so that memory lasts before training."""
    units = shape[0] // 4
    one = ops.ones((units,), dtype=dtype)
    zero = ops.zeros((units,), dtype=dtype)
    return ops.concatenate([zero, one, zero, zero])
