"""Intel's NPU, through OpenVINO. Not proven on hardware yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from edgevid.registry import install_line
from edgevid.runtimes import Operator, machine, openvino

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract


class NPU:
    """The accelerator ``openvino/npu``."""

    name = "npu"
    formats = ("openvino",)
    stand_in = False

    def why_not(self) -> str | None:
        """See `edgevid.runtimes.Accelerator.why_not`."""
        plugin = machine.in_package("openvino", "libs/libopenvino_intel_npu_plugin.so")
        if plugin is None:
            return install_line("runtime openvino", "openvino")
        devices = machine.beneath("dev/accel/accel*")
        if not devices:
            return "there is no /dev/accel/accel0; load the kernel's driver: modprobe intel_vpu"
        if not plugin:
            return "this openvino comes without the NPU plugin; use one for Linux on x86-64"
        return machine.no_access(devices, "render")

    def load(
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int | None = None
    ) -> openvino.OpenVINOEngine:
        """See `edgevid.runtimes.Accelerator.load`."""
        return openvino.OpenVINOEngine(files, contract, device="NPU")

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        frames: Iterable[NDArray[np.uint8]],
        *,
        threads: int | None = None,
    ) -> list[Operator]:
        """See `edgevid.runtimes.Profiles`."""
        return openvino.profiled(files, contract, frames, threads, "NPU")
