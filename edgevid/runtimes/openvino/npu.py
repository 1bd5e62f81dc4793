"""Intel's NPU, through OpenVINO. Not proven on hardware yet."""

from __future__ import annotations

from edgevid.registry import install_line
from edgevid.runtimes.openvino.cpu import OpenVINODevice
from edgevid.system import devices


class OpenVINONPU(OpenVINODevice):
    """The accelerator ``npu`` of the runtime ``openvino``."""

    device = "NPU"

    def why_not(self) -> str | None:
        """See `edgevid.runtimes.Accelerator.why_not`."""
        plugin = devices.in_package("openvino", "libs/libopenvino_intel_npu_plugin.so")
        if plugin is None:
            return install_line("runtime openvino", "openvino")
        nodes = devices.beneath("dev/accel/accel*")
        if not nodes:
            return "there is no /dev/accel/accel0; load the kernel's driver: modprobe intel_vpu"
        if not plugin:
            return "this openvino comes without the NPU plugin; use one for Linux on x86-64"
        return devices.no_access(nodes, "render")
