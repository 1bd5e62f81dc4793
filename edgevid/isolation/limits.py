"""Limits on what this process may use."""

from __future__ import annotations

import sys


def limit_memory(memory_mb: int | None) -> None:
    """Limit the private memory of this process; does nothing for None, or outside Linux.

    Mapped files and address space that is only reserved do not count: TensorFlow and OpenVINO
    reserve a lot of it. A process that is limited already gets no more than it has.

    Args:
        memory_mb: The limit in MB.
    """
    if memory_mb is not None and sys.platform == "linux":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        size = memory_mb << 20
        size = size if most == resource.RLIM_INFINITY else min(size, most)
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
