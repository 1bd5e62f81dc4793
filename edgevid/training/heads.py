"""Temporal heads: from embeddings over time to one feature vector per frame.

A head is a Keras layer with two forms that share its weights:

    step(embedding (B, D), state) -> feature (B, F), state'     one frame
    call(embeddings (B, T, D))    -> features (B, T, F)         a whole clip, from a zero state

``call`` equals T calls of ``step`` within floating-point accuracy; a head overrides it only to
compute the same with fewer products. Both are unrolled: T is static and the graph has no loop, so
every converter and accelerator supports it. To add a head, write one class and one row of `HEADS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import keras
from keras import ops

from edgevid.training import Tensor

State = Mapping[str, Tensor]
"""Name of a state tensor -> float32 (B, ...)."""


SEEN = "seen"
Rounding = Callable[[Tensor], Tensor]


def exact(values: Tensor) -> Tensor:
    """No rounding: the values, of any shape and dtype."""
    return values


class Head(keras.layers.Layer):  # type: ignore[misc]
    """The base class of temporal heads."""

    _round: Rounding = staticmethod(exact)

    def products(self) -> list[keras.Variable]:
        """The kernels of its matrix products, with the output axis last."""
        raise NotImplementedError

    @contextmanager
    def rounding(self, how: Rounding) -> Iterator[None]:
        """Round every tensor that has its own range after conversion, within a ``with`` block."""
        self._round = how
        try:
            yield
        finally:
            self._round = exact

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each state tensor by name, without the batch axis."""
        raise NotImplementedError

    def step(self, embedding: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """One frame.

        Args:
            embedding: float32 (B, D).
            state: The state tensors by name.

        Returns:
            The feature, float32 (B, F), and the next state.
        """
        raise NotImplementedError

    def zeros(self, like: Tensor) -> dict[str, Tensor]:
        """The state at the start of a stream, for the batch size of ``like``, (B, ...)."""
        batch = like.shape[0] or ops.shape(like)[0]
        return {name: ops.zeros((batch, *shape)) for name, shape in self.state_shapes().items()}

    def call(self, embeddings: Tensor) -> Tensor:
        """A whole clip from a zero state: float32 (B, T, D) to (B, T, F)."""
        state = self.zeros(embeddings)
        features = []
        for t in range(embeddings.shape[1]):
            feature, state = self.step(embeddings[:, t], state)
            features.append(feature)
        return ops.stack(features, axis=1)


class LstmLayer(keras.layers.Layer):  # type: ignore[misc]
    """One LSTM layer with the gates i, f, g, o.

    Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; with the forget gate of Gers,
    Schmidhuber and Cummins, "Learning to Forget", 2000.
    """

    def __init__(self, units: int, **options: object) -> None:
        super().__init__(**options)
        self.units = units

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the weights for inputs whose last axis is ``shape[-1]``."""
        gates = 4 * self.units
        self.kernel = self.add_weight(
            (shape[-1], gates), initializer="glorot_uniform", name="kernel"
        )
        self.recurrent = self.add_weight(
            (self.units, gates), initializer="orthogonal", name="recurrent"
        )
        self.bias = self.add_weight((gates,), initializer=_forget_bias, name="bias")

    def take_in(self, inputs: Tensor) -> Tensor:
        """The contribution of the inputs to the gates.

        It does not depend on the state, so one product computes it for all T inputs.

        Args:
            inputs: float32 (..., D).

        Returns:
            float32 (..., 4 * units).
        """
        return ops.matmul(inputs, self.kernel) + self.bias

    def advance(
        self, taken: Tensor, hidden: Tensor, cell: Tensor, rounding: Rounding = exact
    ) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            taken: What `take_in` returned, float32 (B, 4 * units).
            hidden: The last output, float32 (B, units).
            cell: The cell state, float32 (B, units).
            rounding: Rounds intermediate tensors.

        Returns:
            The output and the next cell state.
        """
        gates = rounding(taken + ops.matmul(hidden, self.recurrent))
        enter, keep, candidate, leave = ops.split(gates, 4, axis=-1)
        cell = rounding(ops.sigmoid(keep) * cell + ops.sigmoid(enter) * ops.tanh(candidate))
        return rounding(ops.sigmoid(leave) * ops.tanh(cell)), cell


class Lstm(Head):
    """Stacked LSTM layers, two by default.

    The first layer gets each embedding together with its change since the last one, amplified.
    From embeddings alone it first has to learn to subtract: in our trials its predictions stayed at
    chance level for two epochs, and after ten epochs it still confused the directions of rotation.
    """

    def __init__(self, width: int, units: int, depth: int = 2, **options: object) -> None:
        super().__init__(**options)
        self.width = width
        self.units = units
        self.layers = [LstmLayer(units, name=f"lstm{n + 1}") for n in range(depth)]

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """``h1``, ``c1``, ``h2``, ``c2``, ..., each (units,); ``seen``, the last embedding (D,)."""
        pairs = range(1, len(self.layers) + 1)
        shapes: dict[str, tuple[int, ...]] = {SEEN: (self.width,)}
        return shapes | {f"{kind}{n}": (self.units,) for n in pairs for kind in "hc"}

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the weights for embeddings (..., D)."""
        self.gain = self.add_weight(
            (self.width,), initializer=keras.initializers.Constant(3.0), name="gain"
        )
        for n, layer in enumerate(self.layers):
            layer.build((None, 2 * self.width if n == 0 else self.units))

    def products(self) -> list[keras.Variable]:
        """Two kernels per layer: for its input and for its last output."""
        return [kernel for layer in self.layers for kernel in (layer.kernel, layer.recurrent)]

    def _with_change(self, embedding: Tensor, seen: Tensor) -> Tensor:
        both = ops.concatenate([embedding, (embedding - seen) * self.gain], axis=-1)
        return self._round(both)

    def step(self, embedding: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """One frame through every layer; see `Head.step`."""
        after: dict[str, Tensor] = {SEEN: embedding}
        feature = self._with_change(embedding, state[SEEN])
        for n, layer in enumerate(self.layers, 1):
            before = state[f"h{n}"], state[f"c{n}"]
            feature, cell = layer.advance(layer.take_in(feature), *before, self._round)
            after |= {f"h{n}": feature, f"c{n}": cell}
        return feature, after

    def call(self, embeddings: Tensor) -> Tensor:
        """A whole clip, with one input product per layer instead of T; see `Head.call`."""
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
"""Name of a model -> its head, built from the widths of embedding and layers."""


def _forget_bias(shape: tuple[int, ...], dtype: str | None = None) -> Tensor:
    """Bias of 1 for the forget gate, so that an untrained layer keeps its cell state.

    Jozefowicz, Zaremba and Sutskever, "An Empirical Exploration of Recurrent Network
    Architectures", ICML 2015.
    """
    units = shape[0] // 4
    one = ops.ones((units,), dtype=dtype)
    zero = ops.zeros((units,), dtype=dtype)
    return ops.concatenate([zero, one, zero, zero])
