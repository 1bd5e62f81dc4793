"""Google's Edge TPU, as a delegate of the TFLite interpreter. Not proven on hardware yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from edgevid.errors import EngineFailed
from edgevid.registry import install_line
from edgevid.runtimes import Operator, tflite
from edgevid.system import devices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract

LIBRARY = "libedgetpu.so.1"
USB = ("1a6e:089a", "18d1:9302")
"""The USB Accelerator before and after its firmware was loaded."""
OPERATOR = "edgetpu-custom-op"


class EdgeTPU:
    """The accelerator ``tflite/edgetpu``; its artifacts went through Google's edgetpu_compiler."""

    name = "edgetpu"
    formats = ("edgetpu", "tflite")
    stand_in = False

    def why_not(self) -> str | None:
        """See `edgevid.runtimes.Accelerator.why_not`."""
        packages = {module.partition(".")[0] for module, _ in tflite.LIBRARIES}
        if all(devices.in_package(name, "*") is None for name in packages):
            return install_line("runtime tflite", "runner")
        boards, sticks = devices.beneath("dev/apex_*"), list(devices.usb(USB))
        if not boards and not sticks:
            return "there is no Edge TPU: no /dev/apex_0 and no USB device 18d1:9302; plug it in"
        if devices.shared_library(LIBRARY) is None:
            return f"there is no {LIBRARY}; run: sudo apt-get install libedgetpu1-std"
        if boards:
            return devices.no_access(boards, "apex")
        return devices.no_access(sticks, "plugdev")

    def load(
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int | None = None
    ) -> tflite.TFLiteEngine:
        """See `edgevid.runtimes.Accelerator.load`."""
        engine = tflite.TFLiteEngine(
            files["tflite"], contract, threads or 1, accelerator=self.name, delegate=LIBRARY
        )
        if OPERATOR not in engine.operators():
            engine.close()
            raise EngineFailed(
                "the artifact holds nothing for the Edge TPU; compile it: edgetpu_compiler"
            )
        return engine

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        frames: Iterable[NDArray[np.uint8]],
        *,
        threads: int | None = None,
    ) -> list[Operator]:
        """See `edgevid.runtimes.Profiles`; the delegate tells no times."""
        engine = self.load(files, contract, threads=threads)
        kinds = engine.operators()
        engine.close()
        return [
            Operator(f"{kind}:{place}", kind, self.name if kind == OPERATOR else "cpu")
            for place, kind in enumerate(kinds)
        ]
