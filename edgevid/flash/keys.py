"""The key that signs releases: an SSH key, the user's own or one that edgevid makes.

Devices verify signatures with ``ssh-keygen -Y verify``. edgevid never asks for a passphrase: a key
that has one must be in the user's SSH agent.
"""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgevid.errors import BadInput, EnvironmentFailed
from edgevid.files import sync_folder, user_folder
from edgevid.flash.agent.statement import IDENTITY
from edgevid.text import read_text

_TIMEOUT_S = 60.0  # a key on a token waits for a touch


@dataclass(frozen=True)
class SigningKey:
    """An SSH key.

    Attributes:
        path: Its private part, or its public part if the private one is in the SSH agent.
        public: Kind and key as in ``authorized_keys``, without the comment.
        fingerprint: As ``ssh-keygen -l`` shows it.
    """

    path: Path
    public: str
    fingerprint: str

    def sign(self, content: bytes | IO[bytes], purpose: str) -> bytes:
        """Sign ``content``.

        Args:
            content: What is signed; a file is read as a stream.
            purpose: The namespace, as in `edgevid.flash.agent.statement`; devices reject a
                signature that was made for another purpose.

        Returns:
            The signature, as ``ssh-keygen -Y sign`` writes it.

        Raises:
            BadInput: The key cannot be used.
        """
        return _keygen("-Y", "sign", "-n", purpose, "-f", self.path, stdin=content, key=self.path)

    def allowed_signer(self, *purposes: str) -> str:
        """The line for ``ssh-keygen``'s file of allowed signers."""
        return f'{IDENTITY} namespaces="{",".join(purposes)}" {self.public}\n'


def verify(content: bytes, signature: str, public: str, purpose: str) -> bool:
    """Verify a signature on this host.

    Args:
        content: What was signed.
        signature: Its signature, as `SigningKey.sign` gives it.
        public: The public key.
        purpose: The namespace, as for `SigningKey.sign`.

    Returns:
        Whether the key has signed the content for that purpose.

    Raises:
        BadInput: ssh-keygen is not installed.
        EnvironmentFailed: ssh-keygen does not end.
    """
    with tempfile.TemporaryDirectory(prefix="edgevid-") as name:
        signers, signed = Path(name, "signers"), Path(name, "signature")
        signers.write_text(SigningKey(signed, public, "").allowed_signer(purpose))
        signed.write_text(signature, encoding="utf-8")
        args = ("-Y", "verify", "-I", IDENTITY, "-n", purpose, "-f", signers, "-s", signed)
        return _run(args, key=signed, stdin=content).returncode == 0


def key_file() -> Path:
    """The path of the key that edgevid makes."""
    return user_folder("XDG_CONFIG_HOME", ".config") / "edgevid" / "signing-key"


def load(path: Path) -> SigningKey:
    """Read a key.

    Raises:
        BadInput: There is no SSH key at ``path``.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such key; make one with: edgevid keys --create")
    beside = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    if beside.is_file():
        text = read_text(beside, use="an SSH key")
    else:
        text = _keygen("-y", "-f", path, key=path).decode(errors="replace")
    parts = text.split()
    if len(parts) < 2:
        raise BadInput(f"{path} is not an SSH key; make one with: edgevid keys --create")
    public = " ".join(parts[:2])
    listed = _keygen("-l", "-f", "-", stdin=f"{public}\n".encode(), key=path).decode().split()
    return SigningKey(path, public, listed[1])


def own_key() -> tuple[SigningKey, bool]:
    """Return the key that edgevid made for this user, and whether it was made just now.

    Raises:
        BadInput: The key cannot be read, or ssh-keygen is not installed.
    """
    path = key_file()
    made = not path.exists()
    if made:
        _make(path)
    return load(path), made


def _make(path: Path) -> None:
    """Make the pair in a temporary folder; the private part is moved last, and replaces nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".signing-key.") as folder:
        part = Path(folder) / "key"
        comment = f"edgevid signing key of {_user()}@{platform.node()}"
        _keygen("-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", part, key=path)
        for name in (part, part.with_name("key.pub")):
            with name.open("rb") as written:
                os.fsync(written.fileno())
        with suppress(FileExistsError):  # another process was faster, and its key counts
            path.hardlink_to(part)
            part.with_name("key.pub").replace(path.with_name(f"{path.name}.pub"))
    sync_folder(path.parent)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def _keygen(*args: object, key: Path, stdin: bytes | IO[bytes] = b"") -> bytes:
    done = _run(args, key=key, stdin=stdin)
    if done.returncode:
        raise BadInput(f"{key}: cannot be used: {_reason(done.stderr, key)}")
    return done.stdout


def _run(
    args: Sequence[object], *, key: Path, stdin: bytes | IO[bytes]
) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise BadInput("ssh-keygen is not installed; run: apt-get install openssh-client")
    never = {**os.environ, "SSH_ASKPASS_REQUIRE": "never", "DISPLAY": ""}
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    try:
        return subprocess.run(
            [program, *map(str, args)],
            capture_output=True,
            env=never,
            timeout=_TIMEOUT_S,
            start_new_session=True,  # without a terminal it cannot ask for a passphrase
            **given,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(
            f"{key}: ssh-keygen did not end; if the key is on a token, touch it"
        ) from None


def _reason(stderr: bytes, key: Path) -> str:
    text = stderr.decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "passphrase" in text:
        return (
            f"it has a passphrase; put it into your agent: ssh-add {str(key).removesuffix('.pub')}"
        )
    if "agent" in text:
        return f"your agent does not have it; run: ssh-add {str(key).removesuffix('.pub')}"
    if "bad permissions" in text or "UNPROTECTED" in text:
        return f"others may read it; run: chmod 600 {key}"
    return f"{lines[-1] if lines else 'no reason given'}; make one with: edgevid keys --create"
