"""Intel's GPUs, through OpenVINO. Not proven on hardware yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgevid.registry import install_line
from edgevid.runtimes import Operator, machine, openvino

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract

INTEL = "0x8086"


class GPU:
    """The accelerator ``openvino/gpu``."""

    name = "gpu"
    formats = ("openvino",)
    stand_in = False

    def why_not(self) -> str | None:
        """See `edgevid.runtimes.Accelerator.why_not`."""
        plugin = machine.in_package("openvino", "libs/libopenvino_intel_gpu_plugin.so")
        if plugin is None:
            return install_line("runtime openvino", "openvino")
        nodes = [node for node in machine.beneath("dev/dri/renderD*") if _vendor(node) == INTEL]
        if not nodes:
            return "there is no Intel GPU: no /dev/dri/renderD* is Intel's"
        if not plugin:
            return "this openvino comes without the GPU plugin; use one for Linux on x86-64"
        if not machine.beneath("etc/OpenCL/vendors/*.icd"):
            return "there is no OpenCL driver; run: sudo apt-get install intel-opencl-icd"
        return machine.no_access(nodes, "render")

    def load(
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int | None = None
    ) -> openvino.OpenVINOEngine:
        """See `edgevid.runtimes.Accelerator.load`."""
        return openvino.OpenVINOEngine(files, contract, device="GPU")

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        frames: Iterable[NDArray[np.uint8]],
        *,
        threads: int | None = None,
    ) -> list[Operator]:
        """See `edgevid.runtimes.Profiles`."""
        return openvino.profiled(files, contract, frames, threads, "GPU")


def _vendor(node: Path) -> str:
    try:
        return (machine.ROOT / "sys/class/drm" / node.name / "device/vendor").read_text().strip()
    except OSError:
        return ""
