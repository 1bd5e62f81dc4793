"""One node of an ONNX model, as the functions that lower operators see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from edgevid_converters.importers.onnx_operators.value import (
    Operand,
    Unsupported,
    Value,
    constant,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class OnnxNode:
    """One node with its inputs.

    Attributes:
        kind: Its operator.
        opset: The model's operator set.
        inputs: What it reads; None for an input that is left out.
        attributes: Its attributes by name.
        outputs: For each output whether anything reads it.
    """

    kind: str
    opset: int
    inputs: tuple[Operand | None, ...]
    attributes: Mapping[str, Any]
    outputs: tuple[bool, ...] = (True,)

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return len(self.inputs) > index and self.inputs[index] is not None

    def operand(self, index: int) -> Operand:
        """Return an input, a tensor or a constant.

        Raises:
            Unsupported: It is missing.
        """
        if not self.has(index):
            raise Unsupported(f"its input {index} is missing")
        found = self.inputs[index]
        assert found is not None
        return found

    def value(self, index: int = 0) -> Value:
        """Return an input as a tensor."""
        found = self.operand(index)
        return found if isinstance(found, Value) else Value.natural(constant(found))

    def array(self, index: int, what: str) -> NDArray[Any]:
        """Return an input that must be constant, of the model's own shape and dtype.

        Args:
            index: Its place.
            what: What it is, for the error.

        Raises:
            Unsupported: It is computed at run time.
        """
        found = self.operand(index)
        if isinstance(found, Value):
            raise Unsupported(f"its {what} is computed at run time")
        return found

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a number."""
        return float(self.attributes.get(name, default))

    def whole(self, name: str, default: int) -> int:
        """Return an attribute that is an integer."""
        return int(self.attributes.get(name, default))

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is text."""
        found = self.attributes.get(name, default)
        return found.decode() if isinstance(found, bytes) else str(found)

    def numbers(self, name: str, default: Sequence[int]) -> list[int]:
        """Return an attribute that is a list of integers."""
        return [int(one) for one in self.attributes.get(name, default)]

    def setting(self, name: str, index: int) -> NDArray[Any] | None:
        """Return what older operator sets have as an attribute and newer ones as an input.

        Its shape and dtype are the model's own.

        Raises:
            Unsupported: It is computed at run time.
        """
        import numpy as np

        if name in self.attributes:
            return np.array(self.attributes[name])
        return self.array(index, name) if self.has(index) else None


Lowering: TypeAlias = Callable[[OnnxNode], "Value | tuple[Operand | None, ...]"]
"""Writes a node in TensorFlow: returns its only output, or all of them."""
Table: TypeAlias = dict[str, Lowering]
