"""edgevid itself for a device: the modules that run, verify, measure and examine, as one zip.

Members are stored, sorted and dated alike, so that equal code gives equal bytes on every host, and
a device that has them is sent nothing.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from edgevid import __version__, targets
from edgevid.targets import Target

HOST_ONLY = (
    "bench/report/charts.py",
    "bench/report/html.py",
    "cli/bench_devices.py",
    "cli/convert.py",
    "cli/dataset.py",
    "cli/demo.py",
    "cli/evaluate.py",
    "cli/fleet.py",
    "cli/flash.py",
    "cli/keys.py",
    "cli/targets.py",
    "cli/train.py",
    "demo/",
    "evaluate.py",
    "flash/",
    "jobs/",
    "media/clips.py",
    "remote/",
    "report/",
    "testing/",
    "train/",
)
"""What stays on the host: paths below ``edgevid/``, folders with a slash at the end."""

STAND_IN = """
# The stand-in, for trials: only where a bundle holds nothing else.
[[engine]]
runtime = "null"
accelerator = "cpu"
quantize = ["float32"]

[[engine]]
runtime = "null"
accelerator = "null"
quantize = ["int8", "dynamic", "float16", "float32"]
"""


def name() -> str:
    """What the zip is called."""
    return f"edgevid-{__version__}.zip"


def archive(target: Target) -> bytes:
    """Give the zip; to it the target ``local``, "this machine", is a device like ``target``."""
    members = {f"edgevid/{path}": file.read_bytes() for path, file in _modules()}
    members["edgevid/_targets/local.toml"] = _local(target)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as opened:
        for member in sorted(members):
            info = zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, on every system
            info.external_attr = 0o100644 << 16
            opened.writestr(info, members[member])
    return buffer.getvalue()


def _modules() -> Iterator[tuple[str, Path]]:
    package = Path(__file__).parent.parent
    for file in package.rglob("*.py"):
        path = file.relative_to(package).as_posix()
        if not path.startswith(HOST_ONLY):
            yield path, file


def _local(target: Target) -> bytes:
    """The target's own file, under the name of the machine it will lie on."""
    text = targets.find(target.name).read_text("utf-8")
    text = re.sub(r"^name\s*=.*\n", "", text, flags=re.MULTILINE)
    if not any(way.runtime == "null" for way in target.engine):
        text += STAND_IN
    return text.encode()
