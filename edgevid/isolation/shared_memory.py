"""Named arrays in memory that two processes share.

The memory has no name: a child inherits its descriptor, and it is freed with the last process that
maps it, however that process ends.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIGNED_BYTES = 64


@dataclass(frozen=True)
class ArraySpec:
    """Name, NumPy dtype and shape of an array."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def aligned_bytes(self) -> int:
        """Size in bytes, rounded up to the alignment of the next array."""
        import numpy as np

        size = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        return -(-size // ALIGNED_BYTES) * ALIGNED_BYTES


class SharedArrays:
    """Groups of named arrays in one block of shared memory.

    Both processes derive the same layout from the same groups.

    Args:
        groups: What each group holds; names are unique within a group.
        fd: Descriptor of the block that another process made; None makes a new one.
    """

    def __init__(self, groups: Sequence[Sequence[ArraySpec]], fd: int | None = None) -> None:
        import numpy as np

        size = sum(spec.aligned_bytes for group in groups for spec in group)
        if fd is None:
            self.fd = os.memfd_create("edgevid-arrays")
            os.ftruncate(self.fd, size)
        else:
            self.fd = fd
        self._memory = mmap.mmap(self.fd, size)
        start = 0
        self.groups: list[dict[str, NDArray[Any]]] = []
        for group in groups:
            views: dict[str, NDArray[Any]] = {}
            for spec in group:
                # Unlike `np.ndarray`, `frombuffer` keeps the memory mapped while the array lives.
                flat = np.frombuffer(self._memory, spec.dtype, math.prod(spec.shape), start)
                views[spec.name] = flat.reshape(spec.shape)
                start += spec.aligned_bytes
            self.groups.append(views)

    def close_descriptor(self) -> None:
        """Close the descriptor once the other process has its own; the memory stays mapped."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Unmap the memory; arrays that are still referenced keep it mapped until they are gone."""
        self.close_descriptor()
        for views in self.groups:
            views.clear()
        with suppress(BufferError):
            self._memory.close()
