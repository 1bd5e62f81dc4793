"""What is on a device already: its facts, the release that serves, and the files of that."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevid.errors import EnvironmentFailed
from edgevid.files import sha256_of, user_folder, write_bytes
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.device_facts import DeviceFacts, probe_request, read_facts
from edgevid.progress import Progress, silent


@dataclass(frozen=True)
class Installed:
    """What is installed on a device.

    Attributes:
        current: The release that serves; None if there is none.
        manifest: Its manifest.
        journal: The state of its deployment; see `edgevid.flash.agent.deployment`.
        fingerprint: Of the key that the device trusts.
        second: Why a deployment would make a second installation; None if it would not.
    """

    current: str | None = None
    manifest: bytes | None = None
    journal: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None
    second: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, reply: Mapping[str, Any]) -> Installed:
        """Read the agent's reply to ``probe`` or ``status``."""
        installed = reply.get("installed") or {}
        text = installed.get("manifest")
        return cls(
            installed.get("current"),
            None if text is None else text.encode(),
            installed.get("journal") or {},
            installed.get("fingerprint"),
            reply.get("second"),
        )


def look(device: AgentClient) -> tuple[DeviceFacts, Installed]:
    """Read a device's facts and what it serves; writes nothing there.

    Raises:
        DeviceFailed: The device cannot be reached.
    """
    reply = device.call({"do": "probe", **probe_request()})
    return read_facts(reply), Installed.read(reply)


def read_back(
    device: AgentClient, name: str, sha256: str, size: int, progress: Progress = silent
) -> Path:
    """Fetch a bundle that the device serves, so that it can be kept; returns a file in the cache.

    Raises:
        DeviceFailed: The device cannot be reached.
        EnvironmentFailed: The file is damaged on the device.
    """
    folder = user_folder("XDG_CACHE_HOME", ".cache") / "edgevid" / "bundles" / sha256
    path = folder / Path(name).name
    if path.is_file() and sha256_of(path) == sha256:
        return path
    content = fetch(device, sha256, size, lambda n: progress(f"reading {name}", n, size))
    write_bytes(path, content)
    return path


def fetch(
    device: AgentClient, sha256: str, size: int, received: Callable[[int], None] = lambda _: None
) -> bytes:
    """Fetch a file of the release that serves; ``received`` gets the number of bytes so far.

    Raises:
        DeviceFailed: The device cannot be reached.
        EnvironmentFailed: The file is damaged on the device.
    """
    content = b""
    while len(content) < size:
        request = {"do": "read", "sha256": sha256, "offset": len(content)}
        part = base64.b64decode(device.call(request)["content"])
        if not part:
            break
        content += part
        received(len(content))
    if sha256_of(content) != sha256:
        raise EnvironmentFailed(
            f"{device.name}: {sha256[:16]} is damaged there; flash with --replace"
        )
    return content
