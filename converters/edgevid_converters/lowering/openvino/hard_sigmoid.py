"""Hard sigmoids whose factor is nearly one sixth.

OpenVINO replaces ``clamp(x + 3, 0, 6) * c`` by its operator HSigmoid, which multiplies by exactly
one sixth, wherever ``c`` is within 1e-4 of that. In a model that was once stored in half precision
``c`` is 0.16662598: each of these layers is then off by 2.4e-4, and what follows by more.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Node: TypeAlias = Any
"""A node of OpenVINO's graph; the library's types are generated at run time."""

SIXTH = 1 / 6


def with_exact_factors(model: Node) -> int:
    """Write such products as ``HSigmoid(x) * 6c``, which is the same and has nothing to replace.

    Args:
        model: A model before OpenVINO's common transformations; it is changed in place.

    Returns:
        How many were written anew.
    """
    import numpy as np
    from openvino import opset13

    count = 0
    for node in model.get_ordered_ops():
        found = _hard_sigmoid(node)
        if found is not None:
            argument, factor = found
            exact = opset13.multiply(opset13.hsigmoid(argument), np.float32(6) * factor)
            node.output(0).replace(exact.output(0))
            count += 1
    return count


def _hard_sigmoid(node: Node) -> tuple[Any, Any] | None:
    """Return the argument and the factor of ``clamp(x + 3, 0, 6) * c``, unless c is one sixth."""
    if node.get_type_name() != "Multiply":
        return None
    factor, clamp = _constant_and_other(node)
    if factor is None or factor.dtype != "float32" or clamp.get_type_name() != "Clamp":
        return None
    limits = clamp.get_attributes()
    total = clamp.input(0).get_source_output().get_node()
    if (limits["min"], limits["max"]) != (0.0, 6.0) or total.get_type_name() != "Add":
        return None
    three, _ = _constant_and_other(total)
    if three is None or three != 3.0 or factor == factor.dtype.type(SIXTH):
        return None
    arguments = [port.get_source_output() for port in total.inputs()]
    return next(one for one in arguments if not _is_constant(one.get_node())), factor


def _constant_and_other(node: Node) -> tuple[Any, Node]:
    """Return a node's input that is a constant of one value (else None), and its other input."""
    first, second = (port.get_source_output().get_node() for port in node.inputs())
    constant, other = (first, second) if _is_constant(first) else (second, first)
    single = _is_constant(constant) and not _is_constant(other) and constant.data.size == 1
    return (constant.data if single else None), other


def _is_constant(node: Node) -> bool:
    return bool(node.get_type_name() == "Constant")
