"""Intel's GPUs, through OpenVINO. Not proven on hardware yet."""

from __future__ import annotations

from pathlib import Path

from edgevid.registry import install_line
from edgevid.runtimes import machine, openvino

INTEL = "0x8086"


class GPU(openvino.Plugged):
    """The accelerator ``openvino/gpu``."""

    name = "gpu"

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


def _vendor(node: Path) -> str:
    try:
        return (machine.ROOT / "sys/class/drm" / node.name / "device/vendor").read_text().strip()
    except OSError:
        return ""
