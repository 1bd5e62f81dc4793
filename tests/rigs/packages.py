"""Small packages for a device, made without any download; their runner is a stand-in."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import random
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from edgevid.files import canonical_json
from edgevid.flash.agent_client import agent_source
from edgevid.flash.package import Package
from rigs.agent import RUNNER

KEY = "a key"


def wheel(filler: int = 0, seed: int = 0) -> bytes:
    """A wheel with a stand-in of the runner, made large by what cannot be packed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        files = {
            "edgevid/__init__.py": b"",
            "edgevid/__main__.py": RUNNER.encode(),
            "edgevid/filler.bin": random.Random(seed).randbytes(filler),
            "edgevid-0.dist-info/METADATA": b"Name: edgevid\nVersion: 0\n",
        }
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


def package(
    runner: bytes = b"",
    *,
    bundle: bytes | Path = b"a bundle",
    name: str = "motion.edgevid",
    serial: int = 1,
    sick: Mapping[str, object] | None = None,
    **other,
) -> Package:
    """A package for this machine; its service is as ``sick`` as `rigs.agent.RUNNER` can be."""
    options = {"keys": {Path(name).stem: KEY}, **(sick or {})}
    site = f"# {json.dumps(options)}\n".encode()
    blobs: dict[str, Path | bytes] = {}

    def blob(content: bytes | Path) -> dict:
        data = content if isinstance(content, bytes) else content.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        blobs[sha256] = content
        return {"sha256": sha256, "size": len(data)}

    wheels = [{"name": "edgevid-0-py3-none-any.whl", **blob(runner or wheel())}]
    manifest = {
        "format": 1,
        "edgevid": "0",
        "created_unix_s": serial,
        "serial": serial,
        "target": "local",
        "architecture": platform.machine(),
        "python": "{}.{}".format(*sys.version_info),
        "glibc": "2.17",
        "runner": {
            "id": hashlib.sha256(wheels[0]["sha256"].encode()).hexdigest()[:16],
            "wheels": wheels,
            "packages": [],
        },
        "bundles": [{"name": name, "key": KEY, **blob(bundle)}],
        "site": blob(site),
        "agent": blob(agent_source()),
        "service": {"user": "root", "groups": [], "devices": []},
        "limits": {"memory_mb": 64, "disk_mb": 64},
        **other,
    }
    return Package(canonical_json(manifest), blobs)
