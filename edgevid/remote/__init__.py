"""Other machines, reached through the user's own OpenSSH."""

from edgevid.remote.ssh import Address, Remote, SshSession

__all__ = ["Address", "Remote", "SshSession"]
