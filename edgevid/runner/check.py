"""``edgevid run --check``: everything about a configuration that can be known without a camera."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgevid import targets
from edgevid.bundle import Bundle
from edgevid.errors import EdgevidError
from edgevid.media.secrets import without_secrets
from edgevid.media.sources import resolve
from edgevid.runner import engines
from edgevid.runner.config import BundleUse, CameraUse, RunConfig, read_password
from edgevid.settings import shown


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; ``fail`` keeps the service from doing its work, ``warn`` does not.

    ``text`` is one line that says what is wrong and how to mend it.
    """

    where: str
    state: Literal["warn", "fail"]
    text: str


def check(config: RunConfig) -> list[Finding]:
    """Give all that is wrong with what a configuration names; no camera is contacted."""
    found: list[Finding] = []
    for bundle in config.bundles:
        found += _bundle(bundle)
    for camera in config.cameras:
        found += _camera(camera)
    if config.output is not None and not config.output.parent.is_dir():
        found.append(Finding("output", "warn", f"the folder {config.output.parent} is not there"))
    return found


def _bundle(use: BundleUse) -> Iterator[Finding]:
    where = f"bundle {shown(use.name)}"
    try:
        bundle = Bundle.open(use.path)
        bundle.contract.require_video(str(use.path))
        engines.choices(
            bundle,
            targets.load("local"),
            artifact=use.artifact,
            runtime=use.runtime,
            accelerator=use.accelerator,
        )
    except EdgevidError as error:
        yield Finding(where, "fail", str(error))


def _camera(use: CameraUse) -> Iterator[Finding]:
    where = f"camera {shown(use.name)}"
    plugin, address = resolve(use.source)
    if plugin.local == "file":
        if fault := _unreadable(Path(address.target)):
            yield Finding(where, "fail", f"source {use.source}: {fault}")
    elif plugin.local == "device" and (fault := _unreadable(Path(address.target))):
        yield Finding(where, "warn", f"source {use.source}: {fault}; edgevid waits for it")
    elif without_secrets(use.source) != use.source:
        mend = "name the password's file instead: password_file"
        yield Finding(where, "warn", f"source holds a login or a key; {mend}")
    try:
        read_password(use)
    except EdgevidError as error:
        yield Finding(where, "fail", str(error).removeprefix(f"{where}: "))
    else:
        if use.password_file and use.password_file.stat().st_mode & stat.S_IROTH:
            mend = f"run: chmod o-r {use.password_file}"
            yield Finding(where, "warn", f"everybody here can read password_file; {mend}")


def _unreadable(path: Path) -> str | None:
    try:
        path.stat()
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or "no usable name"
    if path.is_dir():
        return "is a folder; name a video file"
    return None if os.access(path, os.R_OK) else "this user may not read it"
