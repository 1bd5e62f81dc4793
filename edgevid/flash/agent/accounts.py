"""The runner's user account, which is root only if the signed manifest says so."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress

from .manifest import Manifest
from .transport import Refused

NO_NEW_PRIVILEGES = 38
"""PR_SET_NO_NEW_PRIVS: from then on no program that is started gains privileges (`man prctl`)."""
_MAKERS = (
    ("useradd", "--system --user-group --no-create-home --home-dir /nonexistent --shell {shell}"),
    ("adduser", "-S -D -H -h /nonexistent -s {shell}"),  # busybox
)


def account_of(manifest: Manifest) -> tuple[int, int] | None:
    """The user and group of the runner; None: it keeps the current user.

    Raises:
        Refused: It would run as root, which the manifest does not permit.
    """
    if os.geteuid():
        return None
    with suppress(KeyError):
        found = pwd.getpwnam(manifest.user)
        return (found.pw_uid, found.pw_gid) if found.pw_uid else None
    raise Refused(
        "permission",
        f"this device has no user {manifest.user} for the service, which must not run as root",
        f"on the device: useradd --system {manifest.user}; or accept it: --allow-root",
    )


def fits(manifest: Manifest) -> None:
    """Check that the runner has a user, or that `make` can make one; raises `Refused` if not."""
    if _maker() is None:
        account_of(manifest)


def make(manifest: Manifest) -> list[str]:
    """Create the runner's user if this device has none; returns notes to show.

    Raises:
        Refused: It cannot be created.
    """
    try:
        account = account_of(manifest)
    except Refused:
        _make(manifest.user)
        account = account_of(manifest)
        return [f"the service runs as {manifest.user}, a new system user"]
    if account is None and os.geteuid() == 0:
        return ["the service runs as root: a bug in a decoder could expose the whole device"]
    return []


def _maker() -> list[str] | None:
    for name, options in _MAKERS:
        program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is not None and (name == "useradd" or "busybox" in os.path.realpath(program)):
            shell = "/usr/sbin/nologin" if os.path.exists("/usr/sbin/nologin") else "/bin/false"
            return [program, *options.format(shell=shell).split()]
    return None


def _make(user: str) -> None:
    command = _maker()
    if command is not None:
        subprocess.run(
            [*command, user],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def group_numbers(names: Iterable[str]) -> set[int]:
    """The numbers of the groups that this device has."""
    return {group.gr_gid for group in grp.getgrall() if group.gr_name in set(names)}


def lowering(account: tuple[int, int] | None, more: Iterable[str] = ()) -> Callable[[], None]:
    """Return a function with which a child process switches its user irrevocably.

    Args:
        account: The user and the group; None: it keeps the current user.
        more: Names of supplementary groups.

    Returns:
        The function, to be called in the child; afterwards it cannot gain privileges.
    """
    groups: set[int] = set()
    if account is not None:
        groups = {account[1]} | group_numbers(more)
        with suppress(KeyError):
            groups |= set(os.getgrouplist(pwd.getpwuid(account[0]).pw_name, account[1]))
    control = _prctl()

    def lower() -> None:
        if account is not None:
            os.setgroups(sorted(groups))
            os.setgid(account[1])
            os.setuid(account[0])
        if control is not None:
            control(NO_NEW_PRIVILEGES, 1, 0, 0, 0)

    return lower


def _prctl() -> Callable[..., int] | None:
    """The C library's ``prctl``; None where Python has no ctypes."""
    try:
        import ctypes

        control: Callable[..., int] = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    return control
