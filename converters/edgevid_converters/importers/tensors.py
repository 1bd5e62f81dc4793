"""Inputs and outputs of a model as its own file records them, and names for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgevid.settings import shown
from edgevid_converters.importers.preprocessing import Layout

Shape = tuple[int | None, ...]
"""Sizes by axis; None for one that the model leaves open."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model as its file records it.

    Attributes:
        name: The model's own name.
        shape: Sizes by axis; None for one that the file leaves open.
        dtype: Name of the numpy type.
    """

    name: str
    shape: Shape
    dtype: str

    def __str__(self) -> str:
        return f"{shown(self.name)} {self.dtype} {sizes(self.shape)}"


def sizes(shape: Shape) -> str:
    """Format a shape, such as ``(1, 3, ?, ?)``."""
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def layout_of(shape: Shape) -> Layout | None:
    """Guess where the three channels of an image are; None if that is ambiguous."""
    if len(shape) != 4 or (shape[1] == 3) == (shape[3] == 3):
        return None
    return "nchw" if shape[1] == 3 else "nhwc"


def plain_name(name: str) -> str:
    """Turn a model's name of a tensor into a valid name for a contract."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name.partition(":")[0]).strip("_").lower() or "tensor"
    taken = plain[0].isdigit() or plain == "frame" or plain.startswith(("state_", "next_"))
    return f"of_{plain}" if taken else plain


def plain_names(names: Sequence[str]) -> list[str]:
    """Turn a model's names of tensors into valid and distinct names for a contract."""
    found: list[str] = []
    for name in names:
        plain = base = plain_name(name)
        count = 1
        while plain in found:
            count += 1
            plain = f"{base}_{count}"
        found.append(plain)
    return found
