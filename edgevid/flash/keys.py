"""The key that signs releases: an SSH key, the user's own or one made for this.

What is signed is verified on the device by ``ssh-keygen -Y verify``; there is no cryptography here,
and nobody is ever asked for a passphrase: a key that has one must be in the user's agent.
"""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgevid.errors import BadInput, EnvironmentFailed
from edgevid.files import sync_folder, user_folder

NAMESPACE = "edgevid"
"""What a signature is for; one made for anything else is not taken."""
_PIN = b"edgevid pin\n"

_TIMEOUT_S = 60.0  # a key on a token waits for a touch


@dataclass(frozen=True)
class SigningKey:
    """An SSH key; ``path`` is its private part, or its public part where the agent has it."""

    path: Path
    public: str
    """Kind and key as in ``authorized_keys``, without the comment."""
    fingerprint: str

    def sign(self, content: bytes) -> bytes:
        """Give the signature of ``content``; raises `BadInput` where the key cannot be used."""
        return _keygen("-Y", "sign", "-n", NAMESPACE, "-f", self.path, stdin=content, key=self.path)

    def hand_over(self, to: SigningKey) -> dict[str, str]:
        """Give the words by which a device that trusts this key trusts another from now on."""
        signature = self.sign(_PIN + to.public.encode())
        return {"key": to.public, "signature": signature.decode()}

    @property
    def allowed_signer(self) -> str:
        """The line by which a device knows this key."""
        return f'{NAMESPACE} namespaces="{NAMESPACE}" {self.public}\n'


def key_file() -> Path:
    """Where the key is that edgevid made."""
    return user_folder("XDG_CONFIG_HOME", ".config") / "edgevid" / "signing-key"


def load(path: Path) -> SigningKey:
    """Read the key at ``path``; raises `BadInput` where it is none."""
    if not path.is_file():
        raise BadInput(f"{path}: no such key; make one with: edgevid keys")
    beside = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    if beside.is_file():
        text = beside.read_text(errors="replace")
    else:
        text = _keygen("-y", "-f", path, key=path).decode(errors="replace")
    words = text.split()
    if len(words) < 2:
        raise BadInput(f"{path}: is no SSH key; make one with: edgevid keys")
    public = " ".join(words[:2])
    told = _keygen("-l", "-f", "-", stdin=f"{public}\n".encode(), key=path).decode().split()
    return SigningKey(path, public, told[1])


def own_key() -> tuple[SigningKey, bool]:
    """Give the key that edgevid made for this user, and whether it was made just now."""
    path = key_file()
    made = not path.exists()
    if made:
        _make(path)
    return load(path), made


def _make(path: Path) -> None:
    """Make the pair aside; the private part takes its place last, and never another's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".signing-key.") as folder:
        part = Path(folder) / "key"
        comment = f"edgevid signing key of {_user()}@{platform.node()}"
        _keygen("-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", part, key=path)
        for name in (part, part.with_name("key.pub")):
            with name.open("rb") as written:
                os.fsync(written.fileno())
        with suppress(FileExistsError):  # another edgevid was faster: its key is the key
            path.hardlink_to(part)
            part.with_name("key.pub").replace(path.with_name(f"{path.name}.pub"))
    sync_folder(path.parent)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def _keygen(*words: object, key: Path, stdin: bytes = b"") -> bytes:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise BadInput("ssh-keygen is not installed; run: apt-get install openssh-client")
    never = {**os.environ, "SSH_ASKPASS_REQUIRE": "never", "DISPLAY": ""}
    try:
        done = subprocess.run(
            [program, *map(str, words)],
            input=stdin,
            capture_output=True,
            env=never,
            timeout=_TIMEOUT_S,
            start_new_session=True,  # without a terminal it cannot ask for a passphrase
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(f"{key}: ssh-keygen waits for something; is it a token?") from None
    if done.returncode:
        raise BadInput(f"{key}: cannot be used: {_reason(done.stderr, key)}")
    return done.stdout


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
    return f"{lines[-1] if lines else 'no reason given'}; make one with: edgevid keys"
