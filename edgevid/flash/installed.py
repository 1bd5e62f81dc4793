"""What is on a device already: its facts, the release that serves, and the files of that.

A device may be compromised. What it returns is reused in a new release only if this user's own key
has signed it before: `Installed.verified`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from edgevid.errors import DeviceFailed, EnvironmentFailed
from edgevid.files import sha256_of, user_folder, write_bytes
from edgevid.flash import keys, replies
from edgevid.flash.agent import statement
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.device_facts import DeviceFacts, probe_request
from edgevid.flash.package import same_release
from edgevid.flash.replies import PROBE, READ, AgentFault, InstalledReply, Journal
from edgevid.progress import Progress, silent
from edgevid.remote.ssh import LEAST_BYTES_S

_MOST_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class InstalledBlob:
    """A file of a release that is installed."""

    sha256: str
    size: int


@dataclass(frozen=True)
class InstalledFile(InstalledBlob):
    """A bundle or wheel of a release that is installed."""

    name: str


@dataclass(frozen=True)
class InstalledRunner:
    """The runner of a release that is installed."""

    id: str
    wheels: tuple[InstalledFile, ...] = ()


@dataclass(frozen=True)
class InstalledManifest:
    """The fields used from the manifest of an installed release."""

    site: InstalledBlob
    runner: InstalledRunner
    bundles: tuple[InstalledFile, ...] = ()
    target: str | None = None


@dataclass(frozen=True)
class Installed:
    """What is installed on a device, as it reports it.

    Attributes:
        current: The release that serves; None if there is none.
        manifest: Its manifest.
        signature: The manifest's signature.
        journal: The state of its deployment; see `edgevid.flash.agent.deployment`.
        fingerprint: Of the key that the device trusts.
        second: Why a deployment would make a second installation; None if it would not.
        device: The device's name, for messages.
        id: The device's id; before the first installation, the one that it will have.
        statement: The signed statement about the manifest.
        changed: How the active release differs from what was signed; None if it doesn't.
    """

    current: str | None = None
    manifest: bytes | None = None
    signature: str | None = None
    journal: Journal = field(default_factory=Journal)
    fingerprint: str | None = None
    second: AgentFault | None = None
    device: str = "the device"
    id: str = ""
    statement: str | None = None
    changed: str | None = None

    @classmethod
    def of(cls, reply: InstalledReply, second: AgentFault | None, device: str) -> Installed:
        """Build it from the agent's reply to ``probe`` or ``status``."""
        text = None if reply.manifest is None else reply.manifest.encode()
        if text is not None and len(text) > _MOST_MANIFEST_BYTES:
            replies.unreadable(device, "its manifest is too large")
        made = cls(
            reply.current,
            text,
            reply.signature,
            reply.journal,
            reply.fingerprint,
            second,
            device,
            reply.device,
            reply.statement,
            reply.changed,
        )
        made.content  # noqa: B018 - read now, so that it is known to be readable
        return made

    @cached_property
    def content(self) -> InstalledManifest | None:
        """The manifest's content; None if nothing is installed.

        Raises:
            DeviceFailed: It cannot be read.
        """
        if self.manifest is None:
            return None
        return replies.read(
            InstalledManifest, replies.frame(self.manifest, self.device), self.device
        )

    @property
    def is_consistent(self) -> bool:
        """Whether the manifest is that of the release that serves."""
        return self.manifest is not None and self.current == sha256_of(self.manifest)[:16]

    def serves(self, manifest: bytes) -> bool:
        """Whether the release that serves is the same, apart from the time it was made."""
        return (
            self.manifest is not None
            and self.is_consistent
            and self.changed is None
            and same_release(self.manifest, manifest)
        )

    def verified(self, signers: Sequence[str]) -> bool:
        """Whether one of these public keys has signed the manifest of the release that serves."""
        if self.manifest is None or self.signature is None or not self.is_consistent:
            return False
        said, signature = (self.statement or "").encode(), self.signature
        try:
            about = statement.read(said.decode())
        except ValueError:
            return False
        return about.sha256 == sha256_of(self.manifest) and any(
            keys.verify(said, signature, public, statement.RELEASE) for public in signers
        )


def look(device: AgentClient) -> tuple[DeviceFacts, Installed]:
    """Read a device's facts and what it serves; writes nothing there.

    Raises:
        DeviceFailed: The device cannot be reached, or its answer cannot be read.
    """
    reply = device.call(PROBE, probe_request())
    return reply.facts(), Installed.of(reply.installed, reply.second, device.name)


def read_back(
    device: AgentClient, name: str, sha256: str, size: int, progress: Progress = silent
) -> Path:
    """Fetch a bundle that the device serves, so that it can be kept; returns a file in the cache.

    The hash and the size are those of a manifest that `Installed.verified` has accepted.

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
        DeviceFailed: The device cannot be reached, or takes too long.
        EnvironmentFailed: The file is damaged on the device.
    """
    content = bytearray()
    until = time.monotonic() + READ.seconds + size / LEAST_BYTES_S
    while len(content) < size:
        if time.monotonic() > until:
            raise DeviceFailed(f"{device.name}: took too long to send a file; try again", "slow")
        reply = device.call(READ, {"sha256": sha256, "offset": len(content)})
        content += replies.part(reply, size - len(content), device.name)
        received(len(content))
    if sha256_of(bytes(content)) != sha256:
        raise EnvironmentFailed(
            f"{device.name}: {sha256[:16]} is damaged there; flash with --replace"
        )
    return bytes(content)
