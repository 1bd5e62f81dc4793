"""Virtual machines and containers, by the files of several machines."""

import pytest

from edgevid.system.virtualization import container, virtual_machine
from rigs.machines import machine


@pytest.mark.parametrize(
    ("files", "reported"),
    [
        ({"sys/class/dmi/id/sys_vendor": "QEMU\n"}, "QEMU"),
        ({"sys/class/dmi/id/product_name": "VirtualBox\n"}, "VirtualBox"),
        ({"sys/hypervisor/type": "xen\n"}, "xen"),
        ({"proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, "linux,kvm"),
        ({"proc/cpuinfo": "processor\t: 0\nflags\t: fpu hypervisor\n"}, "unknown"),
        ({"proc/cpuinfo": "processor\t: 0\nflags\t: fpu\n"}, None),
    ],
)
def test_virtual_machines_are_known(tmp_path, files, reported):
    assert virtual_machine(machine(tmp_path, files)) == reported


@pytest.mark.parametrize(
    ("files", "reported"),
    [
        ({"run/systemd/container": "systemd-nspawn\n"}, "systemd-nspawn"),
        ({"run/.containerenv": ""}, "podman"),
        ({".dockerenv": ""}, "docker"),
        ({"proc/1/cgroup": "0::/kubepods/x\n"}, "kubepods"),
        ({"proc/1/cgroup": "0::/init.scope\n"}, None),
    ],
)
def test_containers_are_known(tmp_path, files, reported):
    assert container(machine(tmp_path, files)) == reported
