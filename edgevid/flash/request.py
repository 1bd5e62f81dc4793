"""What a user asks for: what a device is to serve, and how it is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgevid.flash.activation import Health, Log, quiet
from edgevid.flash.keys import SigningKey, own_key
from edgevid.flash.package import Package
from edgevid.flash.signed_request import sign
from edgevid.progress import Progress, silent
from edgevid.targets import Target


@dataclass(frozen=True)
class DeployRequest:
    """What to serve.

    Attributes:
        bundles: The bundles.
        sources: Where frames come from.
        config: A service configuration in place of sources.
        add: Keep what the device serves already.
        replace: Remove what the device serves already.
        kind: The name of a target; None finds the one that fits.
        wheels: The wheels of the plug-ins of other packages.
        allow_root: Run the service as root on a device without systemd.
    """

    bundles: tuple[Path, ...] = ()
    sources: tuple[str, ...] = ()
    config: Path | None = None
    add: bool = False
    replace: bool = False
    kind: str | None = None
    wheels: tuple[Path, ...] = ()
    allow_root: bool = False

    def adapt(self, target: Target) -> Target:
        """Return the target with the service's user that was requested."""
        if not self.allow_root:
            return target
        return replace(target, service=replace(target.service, user="root"))


@dataclass(frozen=True)
class DeployOptions:
    """How to deploy.

    Attributes:
        key: The key that signs; None: the one that edgevid made for this user.
        old_key: The public key that the device trusts so far, if ``pin`` changes it.
        pin: The change to another key, signed by the one that the device trusts so far.
        health: What the release must show before it is kept.
        trust_new: Accept an unknown host key.
        allow_downgrade: Permit the device, once, to go below its floor of serials.
        device: Of an archive: the id of the device that it is for; None: any of its target.
        stage: Leave the release beside the one that serves.
        dry_run: Only find out what would change.
        limit_kbit: The largest rate of the transfer, kilobits a second.
        root: edgevid's folder on the device; None: as the inventory or the device has it.
        progress: Receives progress.
        log: Receives messages.
    """

    key: SigningKey | None = None
    old_key: str | None = None
    pin: Mapping[str, str] | None = None
    health: Health = field(default_factory=Health)
    trust_new: bool = False
    allow_downgrade: bool = False
    device: str | None = None
    stage: bool = False
    dry_run: bool = False
    limit_kbit: float | None = None
    root: str | None = None
    progress: Progress = silent
    log: Log = quiet

    def signer(self) -> SigningKey:
        """The key that signs, made now if it is edgevid's own and there is none.

        Raises:
            BadInput: The key cannot be used.
        """
        return self.key if self.key is not None else own_key()[0]

    def sign(self, package: Package, device: str) -> dict[str, Any]:
        """Sign a package, with the permissions and the change of key that were requested.

        Args:
            package: The package.
            device: The id of the device that it is for.

        Returns:
            The fields of the agent's requests ``check`` and ``stage``.

        Raises:
            BadInput: The key cannot be used.
        """
        return sign(
            package,
            self.signer(),
            device=device,
            reset_floor=self.allow_downgrade,
            pin=self.pin,
        )

    def signers(self) -> tuple[str, ...]:
        """The public keys of this user: what they have signed was made or checked here."""
        key = self.signer()
        return (key.public,) if self.old_key is None else (key.public, self.old_key)
