"""Secrets on the command line, which every user of a machine can read in the process list."""

from __future__ import annotations

import sys
from contextlib import suppress

WARNING = (
    "a secret on the command line is in the shell's history, and in the process list until "
    "edgevid has started; use password_file or credential in a --config"
)


def hide_secrets() -> str:
    """Overwrite the secrets in this process's command line, as other users see it.

    They are visible from the start of the process until this call.

    Returns:
        A warning; empty if there are no secrets.
    """
    from edgevid.media.secrets import argument_without_secrets

    if all(argument_without_secrets(one) == one for one in sys.argv):
        return ""
    from edgevid.system.arguments import overwrite

    with suppress(OSError, ValueError):
        overwrite(argument_without_secrets)
    return WARNING
