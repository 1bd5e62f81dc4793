"""The stand-in for an accelerator: any artifact on the CPU, failing when it is told to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from edgevid.runtimes import Operator, null

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        frames: Iterable[NDArray[np.uint8]],
        *,
        threads: int | None = None,
    ) -> list[Operator]:
        """See `edgevid.runtimes.Profiles`."""
        return null.operators(files, self.name)
