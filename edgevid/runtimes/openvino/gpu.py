"""Intel's GPUs, through OpenVINO. Not proven on hardware yet."""

from __future__ import annotations

from edgevid.registry import install_line
from edgevid.runtimes.openvino.cpu import OpenVINODevice
from edgevid.system import devices

INTEL = "0x8086"


class OpenVINOGPU(OpenVINODevice):
    """The accelerator ``gpu`` of the runtime ``openvino``."""

    device = "GPU"

    def why_not(self) -> str | None:
        """See `edgevid.runtimes.Accelerator.why_not`."""
        plugin = devices.in_package("openvino", "libs/libopenvino_intel_gpu_plugin.so")
        if plugin is None:
            return install_line("runtime openvino", "openvino")
        nodes = [
            node
            for node in devices.beneath("dev/dri/renderD*")
            if devices.drm_vendor(node) == INTEL
        ]
        if not nodes:
            return "there is no Intel GPU: no /dev/dri/renderD* is Intel's"
        if not plugin:
            return "this openvino comes without the GPU plugin; use one for Linux on x86-64"
        if not devices.beneath("etc/OpenCL/vendors/*.icd"):
            return "there is no OpenCL driver; run: sudo apt-get install intel-opencl-icd"
        return devices.no_access(nodes, "render")
