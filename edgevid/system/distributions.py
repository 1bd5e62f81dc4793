"""Versions of installed distributions, without the start-up cost of `importlib.metadata`."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def installed_version(project: str) -> str | None:
    """Return the version of an installed distribution; None if it is not installed.

    The name of a ``.dist-info`` folder holds the version (Binary distribution format of PyPA), so
    usually no file is read: importing `importlib.metadata` takes longer than the whole of this.

    Args:
        project: Name of the distribution, in any spelling.
    """
    stem = re.sub(r"[-_.]+", "_", project).lower()
    for entry in sys.path:
        folder = Path(entry or ".")
        if folder.is_dir():
            for found in folder.glob("*.dist-info"):
                name, _, version = found.name.removesuffix(".dist-info").partition("-")
                if version and re.sub(r"[-_.]+", "_", name).lower() == stem:
                    return version
    return _from_metadata(project)


def _from_metadata(project: str) -> str | None:
    """Ask the standard library, which also knows eggs and custom importers."""
    from importlib import metadata

    try:
        return metadata.version(project)
    except metadata.PackageNotFoundError:
        return None
