"""Trust in models that contain code: only the user grants it, with ``--trust-model``.

An untrusted model may be a program. Each importer has a check that finds code in a file without
executing it; a format that can execute code is loaded only in a sandbox.
"""

from __future__ import annotations

from pathlib import Path

from edgevid.errors import BadInput
from edgevid.isolation import sandbox

TRUST = "accept its code with --trust-model if you trust its author"
"""The remedy that every refusal ends with."""
NOTE = "the model may execute code when it is loaded, which was accepted with --trust-model"
"""What the evidence of a bundle says of such a model."""


def require_sandbox(path: Path, reads: str) -> None:
    """Reject a kind of model that can execute code if nothing would confine it.

    Args:
        path: The model.
        reads: The kinds of files of its importer, for the message.

    Raises:
        BadInput: This kernel has no sandbox.
    """
    if not sandbox.supported().files:
        raise BadInput(
            f"{path} may execute code ({reads} can), and this kernel has no Landlock to confine it "
            f"with; convert it on Linux 5.13 or newer, or {TRUST}"
        )
