"""The status document of the runner that serves on this device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .store import Store


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


def ask(folder: Path, timeout_s: float = 2.0) -> dict[str, Any] | None:
    """Get the status document of a runner, from its socket or else from its file."""
    import socket

    parts = []
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(timeout_s)
            channel.connect(str(folder / "status.sock"))
            for part in iter(lambda: channel.recv(1 << 16), b""):
                parts.append(part)
        content = b"".join(parts)
    except OSError:
        try:
            content = (folder / "status.json").read_bytes()
        except OSError:
            return None
    try:
        document = json.loads(content.decode())
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
