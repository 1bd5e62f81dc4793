"""The stand-in for an accelerator: any artifact on the CPU, failing when it is asked to."""

from __future__ import annotations

from edgevid.runtimes.null.cpu import NullCPU


class NullAccelerator(NullCPU):
    """The accelerator ``null`` of the runtime ``null``."""

    name = "null"
