"""The locked mode: an SSH login that can only run this agent, by a forced command.

Every request except those in `UNSIGNED` must be signed for this device and this session. That is a
boundary only if the login cannot remove its own forced command, so the agent checks the files from
which sshd reads the keys. The host imports this module, too.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from .transport import Refused

MARK = "edgevid-agent-locked"
"""The line that a locked agent begins with, followed by JSON: protocol, device and nonce."""
PROTOCOL = 1
UNSIGNED = frozenset({"probe", "status", "history"})
"""The requests that a locked agent accepts without a signature."""
SIGNED = frozenset({"revoke"})
"""The requests that even an agent that is not locked accepts only when signed."""
_SSHD = "/usr/sbin:/usr/local/sbin:/sbin"
_SEE = "set the login up as edgevid keys --forced-command says"


def check(config: Path | None = None) -> None:
    """Check that the login cannot change its own forced command.

    Args:
        config: The configuration of sshd; None: the system's.

    Raises:
        Refused: It can, or that cannot be determined.
    """
    user = os.environ.get("SUDO_USER") or "root"
    if os.geteuid() != 0 or user == "root":
        what = "a locked login needs a user of its own, who runs the agent as root by sudo"
        raise Refused("locked", what, _SEE)
    for path in _key_files(user, config):
        loose = _writable(path, user)
        if loose is not None:
            raise Refused(
                "locked",
                f"{user} could write {path} and so remove the forced command: {loose} is not "
                "owned and writable by root alone",
                _SEE,
            )


def _key_files(user: str, config: Path | None) -> list[Path]:
    """The files from which sshd reads the keys of a user."""
    sshd = shutil.which("sshd", path=_SSHD)
    if sshd is None:
        raise Refused("locked", "sshd is not installed, so its files cannot be checked", _SEE)
    command = [sshd, "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1"]
    command += ["-f", str(config)] if config else []
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=20,
        )
        home = Path(pwd.getpwnam(user).pw_dir)
    except (OSError, KeyError, subprocess.TimeoutExpired) as error:
        raise Refused("locked", f"sshd's configuration cannot be read: {error}", _SEE) from None
    lines = done.stdout.decode(errors="replace").splitlines()
    named = [line.split()[1:] for line in lines if line.startswith("authorizedkeysfile ")]
    if done.returncode or not named:
        raise Refused("locked", f"sshd -T failed: {' '.join(lines[-1:])}", _SEE)
    return [_expanded(name, user, home) for name in named[0] if name != "none"]


def _expanded(name: str, user: str, home: Path) -> Path:
    """The path of a file of keys, expanded as sshd does."""
    signs = {"%%": "%", "%h": str(home), "%u": user, "%U": str(pwd.getpwnam(user).pw_uid)}
    text, at = "", 0
    while at < len(name):
        text += signs.get(name[at : at + 2], name[at])
        at += 2 if name[at : at + 2] in signs else 1
    return home / text


def _writable(path: Path, user: str) -> Path | None:
    """The first part of a path that others than root can change; None if there is none."""
    for one in [*reversed(Path(os.path.realpath(str(path))).parents), path]:
        try:
            found = one.lstat() if one == path else one.stat()
        except FileNotFoundError:
            continue  # only root can create it, because its folder is only root's
        if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return one
    return None
