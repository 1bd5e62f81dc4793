"""Random uses of the ONNX operators that move values, choose them, or keep states."""

from __future__ import annotations

from typing import Any

import numpy as np
from converters.onnx_cases import Case, Const, Draw, Make, ints


def concat(draw: Draw) -> Case:
    shape = list(draw.shape())
    axis = draw.whole(-len(shape), len(shape) - 1)
    parts: list[Any] = []
    for _ in range(draw.whole(1, 3)):
        shape[axis] = draw.whole(1, 3)
        parts.append(draw.const(draw.values(*shape)) if parts else draw.values(*shape))
    return Case(tuple(parts), {"axis": axis})


def split(draw: Draw) -> Case:
    shape = [*draw.shape(0, 2), 6, *draw.shape(0, 1)]
    axis = shape.index(6) - draw.one(0, len(shape))
    sizes = draw.one([2, 4], [1, 2, 3], [6])
    x = draw.values(*shape)
    if draw.one(True, False):
        return Case((x, ints(*sizes)), {"axis": axis}, len(sizes))
    return Case((x,), {"axis": axis, "split": sizes}, len(sizes), opset=11)


def sliced(draw: Draw) -> Case:
    shape = draw.shape()
    axes = [axis for axis in range(len(shape)) if draw.one(True, False)] or [0]
    starts, ends, steps = [], [], []
    for axis in axes:
        size = shape[axis]
        step = draw.one(1, 1, 2, -1, -2)
        start, end = draw.whole(0, size - 1), draw.one(size, 2**62, -1)
        if end == -1:
            start, end = 0, size
        starts.append(start if step > 0 else size - 1)
        ends.append(end if step > 0 else draw.one(-(2**62), 0) if size > 1 else -(2**62))
        steps.append(step)
    named = [axis - draw.one(0, len(shape)) for axis in axes]
    return Case((draw.values(*shape), ints(*starts), ints(*ends), ints(*named), ints(*steps)))


def pad(draw: Draw) -> Case:
    shape = tuple(draw.whole(3, 5) for _ in range(draw.whole(1, 4)))
    mode = draw.one("constant", "reflect", "edge", "wrap")
    low = -1 if mode == "constant" else 0
    pads = ints(*(draw.whole(low, 2) for _ in range(2 * len(shape))))
    fill = Const(np.array(draw.one(0, 1.5), np.float32)) if mode == "constant" else None
    return Case((draw.values(*shape), pads, fill), {"mode": mode}, opset=19)


def expand(draw: Draw) -> Case:
    shape = draw.shape()
    x = draw.values(*(draw.one(size, 1) for size in shape))
    return Case((x, ints(*draw.one(shape, (2, *shape), shape[1:] or shape))))


def tile(draw: Draw) -> Case:
    shape = draw.shape()
    return Case((draw.values(*shape), ints(*(draw.whole(1, 3) for _ in shape))))


def blocks(kinds: bool) -> Make:
    def case(draw: Draw) -> Case:
        size = draw.one(2, 3)
        attributes: dict[str, Any] = {"blocksize": size}
        if kinds:
            attributes["mode"] = draw.one("DCR", "CRD")
            return Case((draw.values(1, 2 * size * size, 2, 3),), attributes)
        return Case((draw.values(1, 2, 2 * size, 3 * size),), attributes)

    return case


def triangle(draw: Draw) -> Case:
    offset = draw.maybe(Const(np.array(draw.whole(-2, 2), np.int64)))
    return Case((draw.values(*draw.shape(0, 2), 3, 4), offset), {"upper": draw.one(0, 1)})


def reshape(draw: Draw) -> Case:
    """Splits and joins of neighbouring axes, and mixtures of both."""
    old, new = draw.one(
        ((2, 3, 4), (6, 4)),
        ((2, 6, 4), (2, 2, 3, 4)),
        ((1, 4, 3, 5), (1, 4, 15)),
        ((1, 4, 3, 5), (1, 2, 2, 3, 5)),
        ((1, 2, 2, 3, 5), (1, 4, 3, 5)),
        ((2, 3, 4), (4, 6)),
        ((1, 4, 1, 1), (1, 4)),
        ((2, 4), (2, 1, 4, 1)),
        ((2, 3, 4), (-1,)),
        ((2, 3, 4), (0, -1)),
        ((1, 6, 2, 2), (3, 2, 4)),
    )
    return Case((draw.values(*old), ints(*new)))


def flatten(draw: Draw) -> Case:
    shape = draw.shape()
    return Case((draw.values(*shape),), {"axis": draw.whole(-len(shape), len(shape))})


def transpose(draw: Draw) -> Case:
    shape = draw.shape()
    order = [int(one) for one in draw.rng.permutation(len(shape))]
    return Case((draw.values(*shape),), draw.one({}, {"perm": order}))


def squeeze(draw: Draw) -> Case:
    axes = draw.one([0], [2], [0, 2], [-2])
    x = draw.values(1, 3, 1, 4)
    return draw.one(
        Case((x, ints(*axes))),
        Case((x,), {"axes": [axis % 4 for axis in axes]}, opset=11),
        Case((x, None)),
    )


def unsqueeze(draw: Draw) -> Case:
    axes = draw.one([0], [1], [0, 3], [-1], [-1, 0])
    x = draw.values(2, 3)
    if min(axes) < 0 or draw.one(True, False):
        return Case((x, ints(*axes)))
    return Case((x,), {"axes": axes}, opset=11)


def shape_of(draw: Draw) -> Case:
    return Case((draw.values(*draw.shape()),))


def dropout(draw: Draw) -> Case:
    return Case((draw.values(*draw.shape()),))


def one_hot(draw: Draw) -> Case:
    depth = Const(np.array(4, np.int64))
    places = draw.rng.integers(-4, 4, (2, 3))
    return Case((places, depth, Const(np.float32([-1, 2]))), {"axis": draw.one(-1, 0, 1)})


def gather(draw: Draw) -> Case:
    shape = draw.shape()
    axis = draw.whole(-len(shape), len(shape) - 1)
    size = shape[axis]
    chosen = draw.rng.integers(-size, size, draw.one((), (2,), (2, 2)))
    listed = draw.one(chosen, np.arange(size))
    return Case((draw.values(*shape), draw.const(np.asarray(listed, np.int64))), {"axis": axis})


def gather_elements(draw: Draw) -> Case:
    axis = draw.one(0, 1, -1)
    places = draw.rng.integers(-2, 2, (2, 3))
    return Case((draw.values(2, 3), draw.const(places)), {"axis": axis})


def gather_nd(draw: Draw) -> Case:
    places = draw.rng.integers(-2, 2, draw.one((3, 2), (2, 1), (2, 2, 3)))
    return Case((draw.values(2, 3, 4), draw.const(places)))


def scatter_nd(draw: Draw) -> Case:
    places = np.array(draw.one([[0], [2]], [[1], [-1]]), np.int64)
    updates = draw.values(2, 4)
    attributes = {"reduction": draw.one("none", "add")}
    return Case((draw.values(3, 4), draw.const(places), updates), attributes)


def scatter_elements(draw: Draw) -> Case:
    places = np.array([[0, 2, 1]], np.int64)
    return Case(
        (draw.values(3, 3), draw.const(places), draw.values(1, 3)), {"axis": draw.one(0, 1)}
    )


def top(draw: Draw) -> Case:
    shape = (3, 4, 5)
    axis = draw.whole(-3, 2)
    count = ints(draw.whole(1, shape[axis]))
    return Case((draw.values(*shape), count), {"axis": axis, "largest": draw.one(0, 1)}, 2)


def recurrent(kind: str, gates: int) -> Make:
    def case(draw: Draw) -> Case:
        hidden, width, steps, batch = 3, 4, draw.whole(1, 3), draw.whole(1, 2)
        direction = draw.one("forward", "reverse", "bidirectional")
        count = 2 if direction == "bidirectional" else 1
        attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
        if kind == "GRU":
            attributes["linear_before_reset"] = draw.one(0, 1)
        if draw.one(True, False):
            attributes["clip"] = 1.0
        if kind == "RNN" and draw.one(True, False):
            attributes["activations"] = ["Relu"] * count
        states = [
            draw.maybe(draw.const(draw.values(count, batch, hidden)))
            for _ in range(2 if kind == "LSTM" else 1)
        ]
        inputs = [
            draw.values(steps, batch, width),
            Const(draw.values(count, gates * hidden, width)),
            Const(draw.values(count, gates * hidden, hidden)),
            draw.maybe(Const(draw.values(count, 2 * gates * hidden))),
            draw.maybe(Const(np.full(batch, steps, np.int32))),
            *states,
        ]
        if kind == "LSTM":
            inputs.append(draw.maybe(Const(draw.values(count, 3 * hidden))))
        return Case(tuple(inputs), attributes, 3 if kind == "LSTM" else 2)

    return case


def quantise(draw: Draw) -> Case:
    zero = draw.one(np.int8(-3), np.uint8(120))
    scale = Const(np.array(0.05, np.float32))
    return Case((draw.values(2, 3), scale, Const(np.array(zero))))


def restore(draw: Draw) -> Case:
    values = draw.rng.integers(0, 255, (2, 3, 4)).astype(np.uint8)
    if draw.one(True, False):
        return Case((values, Const(np.float32(0.1)), Const(np.array(7, np.uint8))))
    return Case((values, Const(draw.positive(3)), Const(np.uint8([1, 2, 3]))), {"axis": 1})


MOVES: dict[str, Make] = {
    "Concat": concat,
    "DepthToSpace": blocks(True),
    "DequantizeLinear": restore,
    "Dropout": dropout,
    "Expand": expand,
    "Flatten": flatten,
    "GRU": recurrent("GRU", 3),
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "LSTM": recurrent("LSTM", 4),
    "OneHot": one_hot,
    "Pad": pad,
    "QuantizeLinear": quantise,
    "RNN": recurrent("RNN", 1),
    "Reshape": reshape,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Shape": shape_of,
    "Size": shape_of,
    "Slice": sliced,
    "SpaceToDepth": blocks(False),
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "TopK": top,
    "Transpose": transpose,
    "Trilu": triangle,
    "Unsqueeze": unsqueeze,
}
