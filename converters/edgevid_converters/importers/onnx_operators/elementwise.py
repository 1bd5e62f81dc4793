"""Arithmetic, comparisons and functions of single values."""

from __future__ import annotations

from functools import reduce

from edgevid_converters.importers.onnx_operators.node import Lowering, OnnxNode, Table
from edgevid_converters.importers.onnx_operators.value import (
    NARROWED,
    Operand,
    Tensor,
    Unsupported,
    Value,
    elementwise,
    narrow,
)


def _unary(name: str) -> Lowering:
    """Lower by the function of this name in tf.math."""

    def lower(node: OnnxNode) -> Value:
        import tensorflow as tf

        return elementwise(getattr(tf.math, name), node.value())

    return lower


def _binary(name: str) -> Lowering:
    """Lower by the function of this name in tf.math, which broadcasts."""

    def lower(node: OnnxNode) -> Value:
        import tensorflow as tf

        return elementwise(getattr(tf.math, name), node.operand(0), node.operand(1))

    return lower


def _variadic(name: str, mean: bool = False) -> Lowering:
    """Lower by a binary function in tf.math, over any number of inputs."""

    def lower(node: OnnxNode) -> Value:
        import tensorflow as tf

        function = getattr(tf.math, name)
        if len(node.inputs) == 1:
            return node.value()
        operands = [node.operand(index) for index in range(len(node.inputs))]
        # Values come first, so that every partial result is a value.
        operands.sort(key=lambda one: not isinstance(one, Value))
        total = reduce(lambda one, other: elementwise(function, one, other), operands)
        assert isinstance(total, Value)
        return elementwise(lambda x: x * (1.0 / len(operands)), total) if mean else total

    return lower


def _is_number(operand: Operand, number: float) -> bool:
    return not isinstance(operand, Value) and operand.size == 1 and operand.item() == number


def _divide(node: OnnxNode) -> Value:
    """Divide; integers are truncated, a constant divisor becomes a factor (which quantises)."""
    import numpy as np
    import tensorflow as tf

    one, other = node.operand(0), node.operand(1)
    kind = one.dtype if isinstance(one, Value) else narrow(one).dtype.name
    if kind != "float32":
        return elementwise(_truncated, one, other)
    if not isinstance(other, Value) and np.all(other != 0):
        inverse = (1.0 / other.astype(np.float64)).astype(np.float32)
        if np.all(np.isfinite(inverse)):
            return elementwise(tf.multiply, one, inverse)
    return elementwise(tf.divide, one, other)


def _truncated(one: Tensor, other: Tensor) -> Tensor:
    """Divide integers as C does."""
    import tensorflow as tf

    whole = tf.abs(one) // tf.abs(other)
    return tf.where((one < 0) == (other < 0), whole, 0 - whole)


def _power(node: OnnxNode) -> Value:
    """Small whole exponents become products, which quantise."""
    import numpy as np
    import tensorflow as tf

    base, exponent = node.operand(0), node.operand(1)
    if isinstance(base, Value):
        if _is_number(exponent, 1):
            return base
        if _is_number(exponent, 2):
            return elementwise(lambda x: x * x, base)
        if _is_number(exponent, 3):
            return elementwise(lambda x: x * x * x, base)
        if _is_number(exponent, 0.5):
            return elementwise(tf.sqrt, base)
    kind = base.dtype if isinstance(base, Value) else narrow(base).dtype.name

    def power(x: Tensor, y: Tensor) -> Tensor:
        if kind == "float32":
            return tf.pow(x, tf.cast(y, tf.float32))
        raised = tf.pow(tf.cast(x, tf.float32), tf.cast(y, tf.float32))
        return tf.cast(raised, np.dtype(kind))

    return elementwise(power, base, exponent)


def _negate(node: OnnxNode) -> Value:
    """A product with -1, which quantises; TFLite's NEG does not."""
    import numpy as np

    value = node.value()
    return elementwise(lambda x, by: x * by, value, np.array(-1, value.dtype))


def _reciprocal(node: OnnxNode) -> Value:
    return elementwise(lambda x: 1.0 / x, node.value())


def _modulo(node: OnnxNode) -> Value:
    import tensorflow as tf

    if not node.whole("fmod", 0):
        return elementwise(tf.math.floormod, node.operand(0), node.operand(1))
    return elementwise(lambda x, y: x - _toward_zero(x / y) * y, node.operand(0), node.operand(1))


def _toward_zero(x: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.where(x < 0, tf.math.ceil(x), tf.math.floor(x))


def _clip(node: OnnxNode) -> Value:
    """Clip; the bounds 0 and 6 give RELU6 and so on."""
    import tensorflow as tf

    value = node.value()
    if any(node.has(index) and isinstance(node.operand(index), Value) for index in (1, 2)):
        for index, function in ((1, tf.maximum), (2, tf.minimum)):
            value = elementwise(function, value, node.operand(index)) if node.has(index) else value
        return value
    low, high = node.setting("min", 1), node.setting("max", 2)
    if value.dtype == "float32":
        least = float("-inf") if low is None else float(low.item())
        most = float("inf") if high is None else float(high.item())
        if least == 0 and most == 6:
            return elementwise(tf.nn.relu6, value)
        if least == 0 and most >= 3.4e38:
            return elementwise(tf.nn.relu, value)
        low = low if least > -3.4e38 else None
        high = high if most < 3.4e38 else None
    result = value
    if low is not None:
        result = elementwise(tf.maximum, result, low)
    if high is not None:
        result = elementwise(tf.minimum, result, high)
    return result


def _where(node: OnnxNode) -> Value:
    import tensorflow as tf

    return elementwise(tf.where, *(node.operand(index) for index in range(3)))


def chosen(test: Value, one: Operand, other: Operand) -> Value:
    """Choose between two tensors of one shape by a test of one element."""
    import tensorflow as tf

    scalar = Value.natural(tf.reshape(test.tensor, []))
    return elementwise(tf.where, scalar, one, other)


def _cast(node: OnnxNode) -> Value:
    """Cast; float16, float64 and int64 are computed as float32 and int32."""
    import tensorflow as tf
    from onnx import helper

    value = node.value()
    if node.kind == "CastLike":
        like = node.operand(1)
        name = like.dtype if isinstance(like, Value) else like.dtype.name
    else:
        name = str(helper.tensor_dtype_to_np_dtype(node.whole("to", 1)).name)
    name = NARROWED.get(name, name)
    if name in ("object", "str"):
        raise Unsupported("it produces strings")
    if name == value.dtype:
        return value
    if name == "bool":
        return elementwise(lambda x: tf.not_equal(x, tf.zeros([], x.dtype)), value)
    return elementwise(lambda x: tf.cast(x, name), value)


def _not_a_number(node: OnnxNode) -> Value:
    return elementwise(lambda x: x != x, node.value())


def _infinite(node: OnnxNode) -> Value:
    import tensorflow as tf

    up, down = node.whole("detect_positive", 1), node.whole("detect_negative", 1)

    def found(x: Tensor) -> Tensor:
        large = tf.constant(3.4028235e38, tf.float32)
        above, below = x > large, x < 0 - large
        return above | below if up and down else (above if up else below)

    return elementwise(found, node.value())


def erf(x: Tensor) -> Tensor:
    """The error function from operators that TFLite has, to within 1.5e-7.

    Abramowitz and Stegun, Handbook of Mathematical Functions, formula 7.1.26.
    """
    import tensorflow as tf

    size = tf.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * size)
    series = 1.061405429
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + factor
    return tf.sign(x) * (1.0 - series * t * tf.exp(0.0 - size * size))


def _erf(node: OnnxNode) -> Value:
    return elementwise(erf, node.value())


def _round(node: OnnxNode) -> Value:
    import tensorflow as tf

    return elementwise(tf.round, node.value())


def _tan(node: OnnxNode) -> Value:
    import tensorflow as tf

    return elementwise(lambda x: tf.sin(x) / tf.cos(x), node.value())


def _hyperbolic(sign: float) -> Lowering:
    def lower(node: OnnxNode) -> Value:
        import tensorflow as tf

        return elementwise(lambda x: (tf.exp(x) + sign * tf.exp(0.0 - x)) * 0.5, node.value())

    return lower


def _arc(name: str) -> Lowering:
    """Write inverse functions by atan2, which TFLite has."""

    def arc(x: Tensor) -> Tensor:
        import tensorflow as tf

        if name == "atan":
            return tf.math.atan2(x, tf.ones_like(x))
        beside = tf.sqrt((1.0 - x) * (1.0 + x))
        return tf.math.atan2(x, beside) if name == "asin" else tf.math.atan2(beside, x)

    def lower(node: OnnxNode) -> Value:
        return elementwise(arc, node.value())

    return lower


def _xor(node: OnnxNode) -> Value:
    import tensorflow as tf

    return elementwise(tf.math.not_equal, node.operand(0), node.operand(1))


OPERATORS: Table = {
    "Abs": _unary("abs"),
    "Acos": _arc("acos"),
    "Add": _binary("add"),
    "And": _binary("logical_and"),
    "Asin": _arc("asin"),
    "Atan": _arc("atan"),
    "Cast": _cast,
    "CastLike": _cast,
    "Ceil": _unary("ceil"),
    "Clip": _clip,
    "Cos": _unary("cos"),
    "Cosh": _hyperbolic(1.0),
    "Div": _divide,
    "Equal": _binary("equal"),
    "Erf": _erf,
    "Exp": _unary("exp"),
    "Floor": _unary("floor"),
    "Greater": _binary("greater"),
    "GreaterOrEqual": _binary("greater_equal"),
    "IsInf": _infinite,
    "IsNaN": _not_a_number,
    "Less": _binary("less"),
    "LessOrEqual": _binary("less_equal"),
    "Log": _unary("log"),
    "Max": _variadic("maximum"),
    "Mean": _variadic("add", mean=True),
    "Min": _variadic("minimum"),
    "Mod": _modulo,
    "Mul": _binary("multiply"),
    "Neg": _negate,
    "Not": _unary("logical_not"),
    "Or": _binary("logical_or"),
    "Pow": _power,
    "Reciprocal": _reciprocal,
    "Round": _round,
    "Sign": _unary("sign"),
    "Sin": _unary("sin"),
    "Sinh": _hyperbolic(-1.0),
    "Sqrt": _unary("sqrt"),
    "Sub": _binary("subtract"),
    "Sum": _variadic("add"),
    "Tan": _tan,
    "Where": _where,
    "Xor": _xor,
}
