"""Google's Edge TPU, as a delegate of the TFLite interpreter. Not proven on hardware yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from edgevid.errors import EngineFailed
from edgevid.registry import install_line
from edgevid.runtimes import Accelerator, Operator
from edgevid.runtimes.tflite import SPEC, cpu
from edgevid.system import devices

if TYPE_CHECKING:
    from edgevid.contract import Contract, Inputs

LIBRARY = "libedgetpu.so.1"
USB = ("1a6e:089a", "18d1:9302")
"""The USB Accelerator before and after its firmware is loaded."""
OPERATOR = "edgetpu-custom-op"


class EdgeTPU(Accelerator):
    """The accelerator ``edgetpu`` of ``tflite``; Google's edgetpu_compiler makes its artifacts."""

    def why_not(self) -> str | None:
        """See `edgevid.runtimes.Accelerator.why_not`."""
        if all(devices.in_package(one.package, "*") is None for one in SPEC.libraries):
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
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int = 1
    ) -> cpu.TFLiteEngine:
        """See `edgevid.runtimes.Accelerator.load`."""
        engine = cpu.TFLiteEngine(
            files["tflite"], contract, threads, accelerator="edgetpu", delegate=LIBRARY
        )
        if OPERATOR not in engine.operators():
            engine.close()
            raise EngineFailed(
                "the artifact has no operator for the Edge TPU; compile it: edgetpu_compiler"
            )
        return engine

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        steps: Iterable[Inputs],
        *,
        threads: int = 1,
    ) -> list[Operator]:
        """See `edgevid.runtimes.Accelerator.profile`; the delegate reports no times."""
        engine = self.load(files, contract, threads=threads)
        kinds = engine.operators()
        engine.close()
        return [
            Operator(f"{kind}:{place}", kind, "edgetpu" if kind == OPERATOR else "cpu")
            for place, kind in enumerate(kinds)
        ]
