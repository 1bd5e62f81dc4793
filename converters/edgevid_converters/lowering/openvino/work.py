"""How much a node of OpenVINO's graph computes, from the shapes of its ports."""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

Node: TypeAlias = Any


def work_of(node: Node) -> int:
    """Count the multiply-adds of a product; of another node the elements that it goes over."""
    kind = node.get_type_name()
    given = sum(_elements(port) for port in node.outputs())
    if kind in ("Convolution", "GroupConvolution"):  # weights [G,] O, I, kernel
        weights = _shape(node.input(1))
        return given * prod(weights[2 if kind == "GroupConvolution" else 1 :])
    if kind in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):  # [G,] I, O, kernel
        weights = _shape(node.input(1))
        return _elements(node.input(0)) * prod(weights[2 if kind.startswith("Group") else 1 :])
    if kind == "MatMul":
        transposed = bool(node.get_attributes().get("transpose_a"))
        shape = _shape(node.input(0))
        return given * (shape[-2] if transposed and len(shape) > 1 else shape[-1])
    return max(given, _elements(node.input(0)) if node.inputs() else 0)


def _shape(port: Node) -> list[int]:
    shape = port.get_partial_shape()
    return [max(1, n.get_max_length()) if n.is_dynamic else n.get_length() for n in shape]


def _elements(port: Node) -> int:
    return prod(_shape(port))
