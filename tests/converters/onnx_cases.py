"""Random uses of each ONNX operator: `CASES` has one function per operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st


@dataclass(frozen=True)
class Const:
    """An input that is a weight of the model."""

    array: np.ndarray


@dataclass(frozen=True)
class Case:
    """One node: its inputs (None: left out), attributes and number of outputs."""

    inputs: tuple[np.ndarray | Const | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 17


class Draw:
    """Draws what cases are made of."""

    def __init__(self, data: st.DataObject) -> None:
        self._draw = data.draw
        self.rng = np.random.default_rng(self._draw(st.integers(0, 2**31)))

    def whole(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def one(self, *choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def maybe(self, value: Any) -> Any:
        return value if self.one(True, False) else None

    def shape(self, low: int = 1, high: int = 4) -> tuple[int, ...]:
        return tuple(self.whole(1, 4) for _ in range(self.whole(low, high)))

    def values(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape).astype(np.float32) * 2

    def positive(self, *shape: int) -> np.ndarray:
        return self.rng.uniform(0.2, 3, shape).astype(np.float32)

    def whole_values(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-5, 6, shape).astype(np.int64)

    def const(self, array: np.ndarray) -> Any:
        """An array as a weight, or as an input."""
        return self.one(Const(array), array)


Make = Callable[[Draw], Case]


def ints(*values: int) -> Const:
    return Const(np.array(values, np.int64))


def broadcast(draw: Draw, make: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of which one broadcasts to the other, or both to each other."""
    shape = draw.shape()
    other = tuple(draw.one(size, size, 1) for size in shape)[draw.whole(0, len(shape)) :]
    shape = tuple(draw.one(size, size, 1) for size in shape) if other else shape
    full = tuple(np.broadcast_shapes(shape, other))
    return make(*draw.one(shape, full)), make(*other)


def unary(make: str = "values", opset: int = 17, **attributes: Any) -> Make:
    def case(draw: Draw) -> Case:
        drawn = {name: draw.one(*choices) for name, choices in attributes.items()}
        kept = {name: value for name, value in drawn.items() if value is not None}
        return Case((getattr(draw, make)(*draw.shape()),), kept, opset=opset)

    return case


def binary(make: str = "values") -> Make:
    def case(draw: Draw) -> Case:
        one, other = broadcast(draw, getattr(draw, make))
        first, second = draw.one((one, other), (other, one))
        return Case(draw.one((first, second), (Const(first), second), (first, Const(second))))

    return case


def logical(draw: Draw) -> Case:
    one, other = broadcast(draw, lambda *shape: draw.rng.random(shape) > 0.5)
    return Case((one, draw.const(other)))


def variadic(draw: Draw) -> Case:
    arrays = [draw.values(*draw.one((2, 3, 4), (1, 4), (3, 1), (2, 1, 1)))]
    arrays += [draw.const(draw.values(*draw.one((2, 3, 4), (4,), (2, 1, 4)))) for _ in range(2)]
    return Case(tuple(arrays[: draw.whole(1, 3)]))


def divide(draw: Draw) -> Case:
    if draw.one(True, False):
        one, other = broadcast(draw, draw.whole_values)
        return Case((one, draw.const(np.where(other == 0, 3, other))))
    one, other = broadcast(draw, draw.positive)
    return Case((one, draw.const(other)))


def power(draw: Draw) -> Case:
    base = draw.positive(*draw.shape())
    exponent = draw.one(0.5, 1, 2, 3, -1.5)
    return Case((base, Const(np.array(exponent, np.float32))))


def modulo(draw: Draw) -> Case:
    one, other = broadcast(draw, draw.positive)
    return Case((one, draw.const(other)), {"fmod": 1})


def clip(draw: Draw) -> Case:
    low, high = draw.one((0, 6), (0, None), (None, 1), (-1, 1), (0, 1), (None, None))
    bounds = [None if one is None else draw.const(np.array(one, np.float32)) for one in (low, high)]
    return Case((draw.values(*draw.shape()), *bounds))


def cast(draw: Draw) -> Case:
    make = draw.one(draw.values, draw.whole_values)
    return Case((make(*draw.shape()),), {"to": draw.one(1, 6, 7, 9, 11)})


def where(draw: Draw) -> Case:
    shape = draw.shape()
    test = draw.rng.random(shape) > 0.5
    one, other = (draw.values(*draw.one(shape, (1,), shape[1:])) for _ in range(2))
    return Case((test, draw.const(one), draw.const(other)))


def special(draw: Draw) -> Case:
    values = draw.values(3, 4)
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -np.inf
    return Case((values,))


def infinite(draw: Draw) -> Case:
    up, down = draw.one((1, 1), (1, 0), (0, 1))
    return Case(special(draw).inputs, {"detect_positive": up, "detect_negative": down})


def prelu(draw: Draw) -> Case:
    return Case(
        (draw.values(1, 3, 2, 4), draw.const(draw.values(*draw.one((3, 1, 1), (1,), (4,)))))
    )


def softmax(draw: Draw) -> Case:
    shape = draw.shape()
    opset = draw.one(11, 17)
    axis = draw.whole(-len(shape), len(shape) - 1)
    return Case((draw.values(*shape),), {"axis": axis}, opset=opset)


def hardmax(draw: Draw) -> Case:
    shape = draw.shape()
    return Case((draw.values(*shape),), {"axis": draw.whole(-len(shape), len(shape) - 1)})


def one_unit(draw: Draw) -> Case:
    shape = draw.shape()
    axis = draw.whole(-len(shape), len(shape) - 1)
    return Case((draw.values(*shape),), {"axis": axis, "p": draw.one(1, 2)})


# ---------------------------------------------------------------- windows


def window(draw: Draw, kernel: tuple[int, ...], dilations: tuple[int, ...]) -> dict[str, Any]:
    """Padding and strides of a window; each pad is smaller than the kernel."""
    count = len(kernel)
    found: dict[str, Any] = {"strides": [draw.whole(1, 3) for _ in kernel]}
    if max(dilations) > 1:
        found["strides"], found["dilations"] = [1] * count, list(dilations)
    kind = draw.one("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    if kind == "NOTSET":
        found["pads"] = [draw.whole(0, size // 2) for size in kernel * 2]
    else:
        found["auto_pad"] = kind
    return found


def convolution(draw: Draw) -> Case:
    count = draw.whole(1, 3)
    kernel = tuple(draw.whole(1, 3) for _ in range(count))
    dilations = draw.one((1,) * count, (2,) * count)
    groups, each, out = draw.one((1, 3, 4), (2, 2, 2), (4, 1, 1), (3, 1, 2))
    sizes = [draw.whole(6, 8) for _ in kernel]
    weights = Const(draw.values(groups * out, each, *kernel))
    bias = draw.maybe(Const(draw.values(groups * out)))
    attributes = {"group": groups, **window(draw, kernel, dilations)}
    return Case((draw.values(1, groups * each, *sizes), weights, bias), attributes)


def transposed(draw: Draw) -> Case:
    count = draw.whole(1, 2)
    kernel = tuple(draw.whole(1, 4) for _ in range(count))
    strides = [draw.whole(1, 3) for _ in kernel]
    groups = draw.one(1, 1, 2)
    attributes: dict[str, Any] = {"strides": strides, "group": groups}
    kind = draw.one("pads", "pads", "shape", "dilations", "same")
    if kind == "pads":
        attributes["pads"] = [draw.whole(0, (size - 1) // 2) for size in kernel * 2]
        attributes["output_padding"] = [draw.whole(0, stride - 1) for stride in strides]
    elif kind == "dilations":
        attributes["dilations"] = [2] * count
    elif kind == "same":
        attributes["auto_pad"] = draw.one("SAME_UPPER", "SAME_LOWER")
        kernel = tuple(max(one, stride) for one, stride in zip(kernel, strides, strict=True))
    sizes = [draw.whole(3, 5) for _ in kernel]
    if kind == "shape":
        triples = zip(sizes, strides, kernel, strict=True)
        attributes["output_shape"] = [(n - 1) * s + k - draw.whole(0, k - 1) for n, s, k in triples]
    weights = Const(draw.values(groups * 2, 3, *kernel))
    bias = draw.maybe(Const(draw.values(groups * 3)))
    return Case((draw.values(1, groups * 2, *sizes), weights, bias), attributes)


def pool(**more: tuple[Any, ...]) -> Make:
    def case(draw: Draw) -> Case:
        count = draw.whole(1, 3)
        kernel = tuple(draw.whole(2, 4) for _ in range(count))
        attributes = {"kernel_shape": kernel, **window(draw, kernel, (1,) * count)}
        if "auto_pad" not in attributes:
            attributes["ceil_mode"] = draw.one(0, 1)
        attributes |= {name: draw.one(*choices) for name, choices in more.items()}
        sizes = [draw.whole(5, 8) for _ in kernel]
        return Case((draw.values(1, 2, *sizes),), attributes, opset=19)

    return case


def power_pool(draw: Draw) -> Case:
    kernel = (2, 3)
    attributes = {"kernel_shape": kernel, "p": draw.one(1, 2, 3), **window(draw, kernel, (1, 1))}
    return Case((draw.values(1, 2, 6, 7),), attributes)


def whole_image(draw: Draw) -> Case:
    return Case((draw.values(1, 3, *draw.shape(1, 3)),))


def resize(draw: Draw) -> Case:
    mode = draw.one("nearest", "linear", "cubic")
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": draw.one(
            "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"
        ),
    }
    if mode == "nearest":
        roundings = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        attributes["nearest_mode"] = draw.one(*roundings)
    if mode == "cubic":
        attributes["cubic_coeff_a"] = draw.one(-0.5, -0.75)
    x = draw.values(1, 2, draw.whole(2, 5), draw.whole(3, 6))
    if draw.one(True, False):
        scales = Const(np.array([1, 1, draw.one(1, 2, 3), draw.one(2, 1.5, 0.6)], np.float32))
        return Case((x, None, scales), attributes)
    sizes = ints(1, 2, draw.whole(2, 9), draw.whole(2, 9))
    return Case((x, None, None, sizes), attributes)


def upsample(draw: Draw) -> Case:
    scales = Const(np.array([1, 1, draw.one(1, 2, 3), 2], np.float32))
    x = draw.values(1, 2, 3, 4)
    return Case((x, scales), {"mode": draw.one("nearest", "linear")}, opset=9)


# ---------------------------------------------------------------- normalisations, products


def per_channel(draw: Draw, count: int, kinds: int) -> list[Const]:
    return [Const(draw.positive(count)) for _ in range(kinds)]


def batch_norm(draw: Draw) -> Case:
    x = draw.values(2, 3, *draw.shape(1, 3))
    return Case((x, *per_channel(draw, 3, 4)), {"epsilon": draw.one(1e-5, 1e-3)})


def instance_norm(draw: Draw) -> Case:
    return Case((draw.values(1, 3, 4, 5), *per_channel(draw, 3, 2)))


def group_norm(draw: Draw) -> Case:
    return Case((draw.values(1, 4, 3, 5), *per_channel(draw, 4, 2)), {"num_groups": 2}, opset=21)


def layer_norm(draw: Draw) -> Case:
    x = draw.values(2, 3, 4, 5)
    axis = draw.one(-1, -2, 1, 3)
    scale, bias = (draw.positive(*x.shape[axis:]) for _ in range(2))
    return Case((x, draw.const(scale), draw.maybe(Const(bias))), {"axis": axis})


def rms_norm(draw: Draw) -> Case:
    return Case((draw.values(2, 3, 6), draw.const(draw.positive(6))), {"axis": -1}, opset=23)


def mean_variance(draw: Draw) -> Case:
    return Case((draw.values(2, 3, 4, 5),), {"axes": draw.one([0, 2, 3], [2, 3])})


def local_response(draw: Draw) -> Case:
    return Case((draw.values(1, 6, 3, 3),), {"size": draw.one(3, 5), "alpha": 0.1, "bias": 1.5})


def product(draw: Draw) -> Case:
    left, right = draw.one(
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (3, 4, 2)),
        ((4,), (4, 3)),
        ((3, 4), (4,)),
        ((2, 3, 4), (4,)),
    )
    one, other = draw.values(*left), draw.values(*right)
    return Case(draw.one((one, other), (one, Const(other)), (Const(one), other)))


def general(draw: Draw) -> Case:
    a, b = draw.one(0, 1), draw.one(0, 1)
    left, right = draw.values(3, 4), draw.values(4, 5)
    bias = draw.maybe(draw.const(draw.values(*draw.one((5,), (3, 5), (1, 5), (3, 1)))))
    attributes = {"transA": a, "transB": b, "alpha": draw.one(1.0, 0.5), "beta": draw.one(1.0, 2.0)}
    right = right.T.copy() if b else right
    return Case((left.T.copy() if a else left, draw.const(right), bias), attributes)


def einsum(draw: Draw) -> Case:
    equation, *shapes = draw.one(
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("bhid,bhjd->bhij", (1, 2, 3, 4), (1, 2, 5, 4)),
        ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
        ("ij->ji", (2, 3)),
    )
    return Case(tuple(draw.values(*shape) for shape in shapes), {"equation": equation})


# ---------------------------------------------------------------- reductions


def axes_of(draw: Draw, rank: int) -> list[int]:
    chosen = [axis for axis in range(rank) if draw.one(True, False)]
    return [axis - draw.one(0, rank) for axis in chosen]


def reduction(make: str = "values") -> Make:
    def case(draw: Draw) -> Case:
        shape = draw.shape()
        axes, keep = axes_of(draw, len(shape)), draw.one(0, 1)
        x = getattr(draw, make)(*shape)
        if draw.one(True, False):
            attributes = {"keepdims": keep} | ({"axes": axes} if axes else {})
            return Case((x,), attributes, opset=11)
        noop = draw.one(0, 1)
        attributes = {"keepdims": keep, "noop_with_empty_axes": noop}
        return Case((x, ints(*axes) if axes else None), attributes, opset=18)

    return case


def extreme(draw: Draw) -> Case:
    shape = draw.shape()
    attributes = {"axis": draw.whole(-len(shape), len(shape) - 1), "keepdims": draw.one(0, 1)}
    attributes["select_last_index"] = draw.one(0, 1)
    return Case((draw.whole_values(*shape).astype(np.float32),), attributes)


def cumulated(draw: Draw) -> Case:
    shape = draw.shape()
    axis = Const(np.array(draw.whole(0, len(shape) - 1), np.int64))
    attributes = {"exclusive": draw.one(0, 1), "reverse": draw.one(0, 1)}
    return Case((draw.values(*shape), axis), attributes)


CASES: dict[str, Make] = {
    **dict.fromkeys(
        [
            "Abs",
            "Atan",
            "Ceil",
            "Cos",
            "Cosh",
            "Erf",
            "Exp",
            "Floor",
            "HardSwish",
            "Identity",
            "Neg",
            "Relu",
            "Round",
            "Sigmoid",
            "Sign",
            "Sin",
            "Sinh",
            "Softplus",
            "Softsign",
            "Tanh",
        ],
        unary(),
    ),
    **dict.fromkeys(("Log", "Reciprocal", "Sqrt"), unary("positive")),
    **dict.fromkeys(("Add", "Mul", "Sub"), binary()),
    **dict.fromkeys(
        ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), binary("whole_values")
    ),
    **dict.fromkeys(("And", "Or", "Xor"), logical),
    **dict.fromkeys(("Max", "Mean", "Min", "Sum"), variadic),
    **dict.fromkeys(("ArgMax", "ArgMin"), extreme),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), whole_image),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    **dict.fromkeys(
        [
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "ReduceSumSquare",
        ],
        reduction(),
    ),
    "ReduceLogSum": reduction("positive"),
    "AveragePool": pool(count_include_pad=(0, 1)),
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Celu": unary(alpha=(1.0, 0.7)),
    "Clip": clip,
    "Conv": convolution,
    "ConvTranspose": transposed,
    "CumSum": cumulated,
    "Div": divide,
    "Einsum": einsum,
    "Elu": unary(alpha=(1.0, 0.7)),
    "Gelu": unary(opset=20, approximate=("none", "tanh")),
    "Gemm": general,
    "GroupNormalization": group_norm,
    "HardSigmoid": unary(alpha=(1 / 6, 0.2), beta=(0.5, 0.4)),
    "Hardmax": hardmax,
    "InstanceNormalization": instance_norm,
    "IsInf": infinite,
    "IsNaN": special,
    "LRN": local_response,
    "LayerNormalization": layer_norm,
    "LeakyRelu": unary(alpha=(0.01, 0.3)),
    "LpNormalization": one_unit,
    "LpPool": power_pool,
    "MatMul": product,
    "MaxPool": pool(),
    "MeanVarianceNormalization": mean_variance,
    "Mish": unary(opset=18),
    "Mod": modulo,
    "PRelu": prelu,
    "Pow": power,
    "RMSNormalization": rms_norm,
    "Resize": resize,
    "Selu": unary(alpha=(1.5, 1.6732632), gamma=(1.0, 1.0507)),
    "Shrink": unary(lambd=(0.5, 1.0), bias=(0.0, 0.2)),
    "Swish": unary(opset=24, alpha=(1.0, 0.5)),
    "ThresholdedRelu": unary(alpha=(1.0, 0.3)),
    "Upsample": upsample,
    "Where": where,
}
