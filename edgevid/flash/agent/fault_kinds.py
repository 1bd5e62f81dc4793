"""Kinds of refusal, by who must fix them; they decide the exit code here and on the host."""

from __future__ import annotations

GATES = frozenset({"health", "rolled-back"})
"""A release is not healthy."""
WRONG_USE = frozenset(
    {
        "architecture",
        "python",
        "glibc",
        "signature",
        "key",
        "device",
        "downgrade",
        "locked",
        "replay",
        "revoked",
        "manifest",
        "hash",
        "use",
        "root",
        "package",
    }
)
"""The user must change something; all other kinds are the device's."""
