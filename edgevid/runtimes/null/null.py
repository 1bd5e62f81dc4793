"""The stand-in for an accelerator: any artifact on the CPU, failing when it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgevid.runtimes import null

if TYPE_CHECKING:
    from edgevid.contract import Contract


class NullAccelerator:
    """The accelerator ``null/null``."""

    name = "null"
    formats = null.Null.formats
    stand_in = True

    def why_not(self) -> str | None:
        """It is everywhere."""
        return None

    def load(
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int | None = None
    ) -> null.NullEngine:
        """See `edgevid.runtimes.Accelerator.load`."""
        return null.NullEngine.load(files, contract, self.name, threads)
