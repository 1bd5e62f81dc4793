"""What stays the same of a machine while something is measured on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def machine(root: Path = Path("/")) -> dict[str, Any]:
    """Board, processor, clock rates, memory, system, versions, limits and sensors."""
    raise NotImplementedError
