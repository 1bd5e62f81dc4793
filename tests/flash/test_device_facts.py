"""DeviceFacts of a device held against targets."""

import dataclasses

import pytest

from edgevid import targets
from edgevid.errors import DeviceFailed
from edgevid.flash.device_facts import DeviceFacts, missing_requirements, propose
from edgevid.flash.replies import read

NOW = 1_800_000_000.0
PC = DeviceFacts(
    "x86_64",
    "2.39",
    (3, 12, 3),
    cpu="Intel(R) Xeon(R)",
    cpu_flags=("sse2", "ssse3", "sse4_1", "sse4_2", "popcnt", "avx2"),
    memory_mb=8000,
    disk_free_mb=50_000,
    systemd="system",
    all_groups=("render", "video", "plugdev"),
    ssh_keygen=True,
    clock_unix_s=NOW,
)
PI = dataclasses.replace(
    PC,
    architecture="aarch64",
    glibc="2.36",
    python=(3, 11, 2),
    cpu="Cortex-A76",
    cpu_flags=("fp", "asimd"),
    model="Raspberry Pi 5 Model B Rev 1.0",
)
ARMV7 = dataclasses.replace(
    PI,
    architecture="armv7l",
    model="",
    cpu_flags=("half", "vfp", "neon"),
    modules={"numpy": "1.24.2", "av": "10.0.0", "click": "8.1.3"},
)


def said(facts: DeviceFacts, name: str) -> list[str]:
    return [str(lack) for lack in missing_requirements(facts, targets.load(name), now=NOW)]


@pytest.mark.parametrize(
    ("facts", "best"),
    [
        (PC, "linux-x86-64"),
        (PI, "raspberry-pi-5"),
        (dataclasses.replace(PI, usb=("1d6b:0002", "18d1:9302")), "raspberry-pi-5-coral"),
        (dataclasses.replace(PI, model="Raspberry Pi 4 Model B Rev 1.4"), "raspberry-pi-4"),
        (dataclasses.replace(PI, model="Rockchip RK3588"), "generic-arm64"),
        # its own target asks for a newer system than this one
        (dataclasses.replace(PI, glibc="2.31"), "generic-arm64"),
        (
            dataclasses.replace(
                PI, model="NVIDIA Jetson Orin Nano", nodes=("/dev/dri/renderD128",)
            ),
            "jetson-orin",
        ),
        (ARMV7, "generic-armv7"),
        (
            dataclasses.replace(
                PC, cpu="Intel(R) Core(TM) Ultra 7 155H", nodes=("/dev/accel/accel0",)
            ),
            "intel-npu",
        ),
        (dataclasses.replace(PC, cpu="Intel(R) Core(TM) Ultra 7 155H"), "linux-x86-64"),
    ],
)
def test_the_best_target_is_proposed(facts, best):
    proposals = propose(facts)
    assert proposals[0].target.name == best
    assert proposals[0].fits


def test_an_unknown_kind_of_device_has_no_proposal():
    assert propose(dataclasses.replace(PC, architecture="riscv64")) == []


def test_a_device_that_fits_lacks_nothing():
    assert said(PC, "linux-x86-64") == said(PI, "raspberry-pi-5") == []
    assert said(ARMV7, "generic-armv7") == []


@pytest.mark.parametrize(
    ("facts", "name", "says", "blocks"),
    [
        (PI, "linux-x86-64", "its architecture is aarch64, not x86_64; see: edgevid targets", True),
        (
            dataclasses.replace(PI, glibc=""),
            "generic-arm64",
            "its C library is not glibc; 2.28 or newer is needed: install a newer system",
            True,
        ),
        (
            dataclasses.replace(PI, python=(3, 9, 2)),
            "generic-arm64",
            "its python3 is 3.9; one of 3.11, 3.12, 3.13 is needed: install a system that has it",
            True,
        ),
        (
            dataclasses.replace(PC, cpu_flags=("sse2", "ssse3")),
            "linux-x86-64",
            "its processor lacks popcnt, sse4_1, sse4_2; use another board",
            True,
        ),
        (
            dataclasses.replace(ARMV7, modules={"av": "10.0.0", "click": "8.1.3"}),
            "generic-armv7",
            "its Python lacks numpy; run on it: sudo apt-get install python3-numpy",
            True,
        ),
        (
            dataclasses.replace(ARMV7, modules={**ARMV7.modules, "av": "9.2"}),
            "generic-armv7",
            "its av is 9.2; 10 or newer is needed: run on it: sudo apt-get install python3-av",
            True,
        ),
        (
            dataclasses.replace(PC, ssh_keygen=False),
            "linux-x86-64",
            "there is no ssh-keygen to check signatures with; "
            "run on it: sudo apt-get install openssh-client",
            True,
        ),
        (
            dataclasses.replace(PC, memory_mb=256),
            "linux-x86-64",
            "it has 256 MB of memory, the target expects 512; "
            "use a smaller model, or another board",
            False,
        ),
        (
            dataclasses.replace(PC, disk_free_mb=9),
            "linux-x86-64",
            "9 MB of disk are free, the target expects 1024; "
            "make room, or give another folder with --root",
            False,
        ),
        (
            dataclasses.replace(PC, clock_unix_s=NOW - 86_400),
            "linux-x86-64",
            "its clock is 86400 s behind; run on it: sudo timedatectl set-ntp true",
            False,
        ),
        (
            dataclasses.replace(PI, usb=("1a6e:089a",)),
            "raspberry-pi-5-coral",
            "tflite/edgetpu: there is no libedgetpu.so.1; "
            "run on it: sudo apt-get install libedgetpu1-std",
            False,
        ),
        (
            PI,
            "raspberry-pi-5-coral",
            "tflite/edgetpu: there is no 1a6e:089a or 18d1:9302",
            False,
        ),
        (
            dataclasses.replace(
                PI,
                usb=("1a6e:089a",),
                libraries=("/usr/lib/aarch64-linux-gnu/libedgetpu.so.1",),
                all_groups=("video",),
            ),
            "raspberry-pi-5-coral",
            "tflite/edgetpu: there is no group plugdev; run on it: sudo groupadd --system plugdev",
            False,
        ),
    ],
)
def test_each_missing_requirement_has_its_remedy(facts, name, says, blocks):
    found = {
        str(lack): lack.blocks for lack in missing_requirements(facts, targets.load(name), now=NOW)
    }
    assert found == {says: blocks}


def test_processor_flags_of_another_family_are_ignored():
    """As under emulation, where the processor's list is the host's."""
    assert said(dataclasses.replace(ARMV7, cpu_flags=PC.cpu_flags), "generic-armv7") == []


def test_facts_are_read_strictly_but_unknown_ones_are_ignored():
    answer = {"ok": True, "architecture": "aarch64", "python": [3, 11, 2], "from_the_future": 1}
    facts = read(DeviceFacts, answer, "pi")
    assert facts.python_version == "3.11"
    assert facts.modules == {}
    with pytest.raises(
        DeviceFailed, match=r"pi: the device's answer.*memory_mb must be an integer"
    ):
        read(DeviceFacts, {**answer, "memory_mb": "much"}, "pi")
    with pytest.raises(DeviceFailed, match="lacks the key 'architecture'"):
        read(DeviceFacts, {}, "pi")
