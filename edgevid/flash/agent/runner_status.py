"""The status document of the runner that serves on this device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import untrusted
from .store import Store

LIMIT = 4 << 20
"""The longest status document, bytes."""
DEADLINE_S = 2.0


def configured_status(store: Store) -> Path | None:
    """The status folder that the service configuration names; None if it names none."""
    current = store.root / "current"
    try:
        lines = (current / "site.toml").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, sign, value = line.partition("=")
        if line.lstrip().startswith("["):
            return None
        if sign and key.strip() == "status" and value.strip()[:1] in "\"'":
            return current.resolve() / value.strip()[1:].partition(value.strip()[0])[0]
    return None


def ask(folder: Path, owner: int, timeout_s: float = DEADLINE_S) -> dict[str, Any] | None:
    """Get the status document of a runner, from its socket or else from its file.

    Args:
        folder: The status folder, which the runner's user may write.
        owner: That user; files and sockets of other users are not read.
        timeout_s: How long to wait.

    Returns:
        The document; None if there is none.
    """
    content = untrusted.read_socket(folder / "status.sock", owner, LIMIT, timeout_s)
    if not content:
        content = untrusted.read_file(folder, "status.json", owner, LIMIT)
    try:
        document = json.loads((content or b"").decode())
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
