"""edgevid's own code for a device: all modules but those for the host, as one zip.

Members are stored in order with one fixed date, so that the same code gives the same bytes on every
host, and is not sent to a device that has it.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from edgevid import __version__, targets
from edgevid.runtimes import catalog
from edgevid.targets import EngineChoice, Target
from edgevid.text import read_text

HOST_CODE = (
    "edgevid.**.host",
    "edgevid.api",
    "edgevid.data",
    "edgevid.demo",
    "edgevid.evaluation",
    "edgevid.flash",
    "edgevid.jobs",
    "edgevid.remote",
    "edgevid.report",
    "edgevid.testing",
    "edgevid.training",
)
"""Packages and modules that stay on the host; ``**`` stands for any packages in between.

pyproject.toml has the same list in the import contract "device code imports no host code". In a
package that has both, host code lies in a sub-package or module called ``host``.
"""

_HOST_PATTERNS = tuple(
    re.compile(re.escape(one).replace(r"\*\*", r"\w+(\.\w+)*") + r"\.") for one in HOST_CODE
)


def name() -> str:
    """The name of the zip."""
    return f"edgevid-{__version__}.zip"


def archive(target: Target) -> bytes:
    """Return the zip, in which the target ``local`` ("this machine") is ``target``."""
    members = {f"edgevid/{path}": file.read_bytes() for path, file in _modules()}
    members["edgevid/_targets/local.toml"] = local_target(target)
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
        path = file.relative_to(package)
        if not is_host_code(".".join(("edgevid", *path.with_suffix("").parts))):
            yield path.as_posix(), file


def is_host_code(module: str) -> bool:
    """Whether a module, by its whole name, stays on the host."""
    return any(pattern.match(f"{module}.") for pattern in _HOST_PATTERNS)


def local_target(target: Target) -> bytes:
    """The target's file; on the device it is the target ``local``."""
    text = read_text(targets.find(target.name), use="a readable TOML file")
    text = re.sub(r"^name\s*=.*\n", "", text, flags=re.MULTILINE)
    listed = {way.runtime for way in target.engine}
    missing = [way for way in catalog.stand_ins() if way.runtime not in listed]
    return "\n".join([text, *map(_engine, missing)]).encode()


def _engine(way: EngineChoice) -> str:
    quantize = ", ".join(f'"{name}"' for name in way.quantize)
    return (
        "# A stand-in for trials, used only for bundles that hold nothing else.\n"
        f'[[engine]]\nruntime = "{way.runtime}"\naccelerator = "{way.accelerator}"\n'
        f"quantize = [{quantize}]\n"
    )
