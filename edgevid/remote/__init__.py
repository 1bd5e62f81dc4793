"""Reaching other machines through the user's own OpenSSH."""

from edgevid.remote.ssh import Address, Remote, Session

__all__ = ["Address", "Remote", "Session"]
