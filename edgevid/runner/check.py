"""``edgevid run --check``: what can be checked of a configuration without a camera."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgevid import targets
from edgevid.bundle import Bundle
from edgevid.errors import BadOutput, EdgevidError, OutputFailed
from edgevid.events import open_stage
from edgevid.media.secrets import without_secrets
from edgevid.media.sources import resolve
from edgevid.output import try_file
from edgevid.runner import engines
from edgevid.runner.config import OUTPUT, BundleUse, CameraUse, RunConfig
from edgevid.runner.credentials import login
from edgevid.runner.plugin_tables import EventUse, SinkUse
from edgevid.settings import shown


@dataclass(frozen=True)
class Finding:
    """One problem of a configuration.

    Attributes:
        where: The part of the configuration.
        state: ``fail`` if the service cannot run, ``warn`` if it can.
        text: One line: what is wrong; what to do.
    """

    where: str
    state: Literal["warn", "fail"]
    text: str


def check(config: RunConfig) -> list[Finding]:
    """Find the problems of a configuration without contacting a camera."""
    found: list[Finding] = []
    for bundle in config.bundles:
        found += _bundle(bundle)
    for camera in config.cameras:
        found += _camera(camera)
    for use in config.all_sinks():
        found += _sink(use)
    for event in config.events:
        found += _event(config, event)
    return found


def _sink(use: SinkUse) -> Iterator[Finding]:
    """Check where a sink writes."""
    if use.kind != "jsonl":
        return
    where = OUTPUT if use.name == OUTPUT else f"sink {shown(use.name)}"
    folder = Path(use.options.path).parent
    try:
        try_file(use.options.path)
    except (BadOutput, OutputFailed) as error:
        yield Finding(where, "fail", str(error))
    else:
        if not folder.is_dir():
            yield Finding(
                where, "warn", f"the folder {folder} does not exist; it is created at start"
            )


def _event(config: RunConfig, use: EventUse) -> Iterator[Finding]:
    where = f"event {shown(use.name)}"
    if use.durable and config.state is None and not os.environ.get("STATE_DIRECTORY"):
        text = 'it is durable; add state = "FOLDER", or run it where STATE_DIRECTORY is set'
        yield Finding(where, "fail", text)
    for bundle in config.bundles:
        if use.bundles and bundle.name not in use.bundles:
            continue
        try:
            open_stage(use.kind, use.options, Bundle.open(bundle.path).contract)
        except EdgevidError as error:
            yield Finding(where, "fail", f"bundle {shown(bundle.name)}: {error}")


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
        fix = "use password_file, or credential"
        yield Finding(where, "warn", f"source holds a login or a key; {fix}")
    try:
        login(use)
    except EdgevidError as error:
        yield Finding(where, "fail", str(error).removeprefix(f"{where}: "))
    else:
        if use.password_file and use.password_file.stat().st_mode & stat.S_IROTH:
            fix = f"run: chmod o-r {use.password_file}"
            yield Finding(where, "warn", f"everybody here can read password_file; {fix}")


def _unreadable(path: Path) -> str | None:
    try:
        path.stat()
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or "no usable name"
    if path.is_dir():
        return "is a folder; name a video file"
    return None if os.access(path, os.R_OK) else "this user may not read it"
