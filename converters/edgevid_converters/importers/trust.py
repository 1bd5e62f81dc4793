"""Who accepts the code in a model: whoever converts it, with ``--trust-model``, and nobody else.

A model of somebody else may be a program. Each importer has a check that finds code in a file
without executing any of it; what can execute code at all is loaded in a sandbox only.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from edgevid.errors import BadInput

TRUST = "accept its code with --trust-model if you trust its author"
"""The remedy that every refusal ends with."""
CREATE_RULESET, VERSION = 444, 1
"""The system call, of one number on every processor, and its flag that asks for the version."""
NOTE = "the model may execute code when it is loaded, which was accepted with --trust-model"
"""What the evidence of a bundle says of such a model."""


def has_sandbox() -> bool:
    """Whether this kernel has Landlock."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
    except OSError:
        return False
    return bool(library.syscall(CREATE_RULESET, None, 0, VERSION) > 0)


def require_sandbox(path: Path, reads: str) -> None:
    """Refuse a kind of model that can execute code where nothing would confine it.

    Args:
        path: The model.
        reads: The kinds of files of its importer, for the message.

    Raises:
        BadInput: This kernel has no sandbox.
    """
    if not has_sandbox():
        raise BadInput(
            f"{path} may execute code ({reads} can), and this kernel has no Landlock to confine it "
            f"with; convert it on Linux 5.13 or newer, or {TRUST}"
        )
