"""Power from sensors and models, by the files of several machines."""

from __future__ import annotations

import errno
import fcntl
import struct
from pathlib import Path

import pytest

from edgevid.system.counters import PolledFiles
from edgevid.system.power import Pmic, Power, rails_w, sources
from rigs.machines import JETSON, PI5
from rigs.machines import machine as written

RAPL = "sys/class/powercap/intel-rapl:{}"


PACKAGE = {
    f"{RAPL.format('0')}/name": "package-0\n",
    f"{RAPL.format('0')}/energy_uj": "1000000\n",
    f"{RAPL.format('0')}/max_energy_range_uj": "262143328850\n",
    f"{RAPL.format('0:0')}/name": "core\n",
    f"{RAPL.format('0:0')}/energy_uj": "5\n",
}


def watts(root: Path, files: dict[str, str], *then: dict[str, str]) -> list[float | None]:
    """What is reported at the first look, and at each that follows a change, a second apart."""
    written(root, files)
    power = Power(PolledFiles(), root)
    reported = [power.look(0.0)]
    for second, change in enumerate(then, 1):
        written(root, change)
        reported.append(power.look(float(second)))
    return reported


def test_an_x86_processors_account_of_its_energy(tmp_path):
    energy = f"{RAPL.format('0')}/energy_uj"
    # The second time, the counter begins anew.
    then = {energy: "9000000\n"}, {energy: "262143328849\n"}, {energy: "4999999\n"}
    found = watts(tmp_path, PACKAGE, *then)
    assert found[:2] == [None, 8.0]
    assert found[3] == pytest.approx(5.0)
    (source,) = sources(tmp_path)
    assert source.document() == {
        "name": "RAPL package-0",
        "kind": "informative",
        "covers": "processor",
        "unreadable": None,
    }


def test_two_packages_are_one_machine_and_the_whole_board_counts_more(tmp_path):
    second = {
        f"{RAPL.format('1')}/name": "package-1\n",
        f"{RAPL.format('1')}/energy_uj": "0\n",
    }
    then = {f"{RAPL.format(n)}/energy_uj": "3000000\n" for n in (0, 1)}
    assert watts(tmp_path, {**PACKAGE, **second}, then) == [None, 5.0]
    board = {f"{RAPL.format('2')}/name": "psys\n", f"{RAPL.format('2')}/energy_uj": "0\n"}
    written(tmp_path, board)
    assert Power(PolledFiles(), tmp_path).name == "RAPL psys"


def test_a_counter_that_this_user_may_not_read_is_reported(tmp_path, monkeypatch):
    written(tmp_path, PACKAGE)
    path = tmp_path / RAPL.format("0") / "energy_uj"
    real = Path.open

    def refuse(self, *words, **more):
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *words, **more)

    monkeypatch.setattr(Path, "open", refuse)
    (found,) = sources(tmp_path)
    assert found.why == f"no permission for {path}; run as root"
    power = Power(PolledFiles(), tmp_path)
    assert (power.name, power.look(1.0)) == (None, None)


OLD_JETSON = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"


def test_the_rails_of_a_jetson(tmp_path):
    assert watts(tmp_path, JETSON) == [pytest.approx(4.968 * 1.128)]
    (source,) = sources(tmp_path)
    assert (source.name, source.kind, source.covers) == ("ina3221 VDD_IN", "measured", "board")


def test_rails_of_which_none_feeds_the_others_are_added_up(tmp_path):
    files = {**JETSON, "sys/class/hwmon/hwmon3/in1_label": "VDD_GPU_SOC\n"}
    assert watts(tmp_path, files) == [pytest.approx(4.968 * 1.128 + 4.96 * 0.5)]
    (source,) = sources(tmp_path)
    assert source.name == "ina3221 VDD_GPU_SOC + VDD_CPU_GPU_CV"
    assert source.covers == "supply"
    (tmp_path / "sys/class/hwmon/hwmon3/curr2_input").write_text("off\n")
    assert Power(PolledFiles(), tmp_path).look(0.0) is None  # not: less than it is


def test_the_rails_of_an_older_jetson(tmp_path):
    files = {
        f"{OLD_JETSON}/rail_name_0": "POM_5V_IN\n",
        f"{OLD_JETSON}/in_power0_input": "3120\n",
        f"{OLD_JETSON}/rail_name_1": "POM_5V_CPU\n",
        f"{OLD_JETSON}/in_power1_input": "800\n",
    }
    assert watts(tmp_path, files) == [pytest.approx(3.12)]


def test_sensors_and_models_are_distinguished(tmp_path):
    chips = {"ina260": "12500000", "amdgpu": "30000000", "power_meter": "90000000"}
    files = {}
    for number, (name, value) in enumerate(chips.items()):
        files[f"sys/class/hwmon/hwmon{number}/name"] = f"{name}\n"
        end = "average" if name == "amdgpu" else "input"
        files[f"sys/class/hwmon/hwmon{number}/power1_{end}"] = f"{value}\n"
    written(tmp_path, {**files, **PACKAGE})
    kinds = {source.name: source.kind for source in sources(tmp_path)}
    assert kinds == {
        "hwmon ina260": "measured",
        "hwmon power_meter": "measured",
        "RAPL package-0": "informative",
        "hwmon amdgpu": "informative",
    }
    assert list(kinds)[-2:] == ["RAPL package-0", "hwmon amdgpu"]


PMIC = """     3V7_WL_SW_A current(0)=0.10000000A
   3V3_SYS_A current(1)=0.20000000A
   3V7_WL_SW_V volt(8)=3.70000000V
   3V3_SYS_V volt(9)=3.30000000V
   EXT5V_V volt(24)=5.14180000V
"""


def test_the_power_chip_of_a_pi_5_is_asked_as_vcgencmd_does(tmp_path, monkeypatch):
    written(tmp_path, {**PI5, "dev/vcio": ""})
    asked = []

    def firmware(descriptor: int, request: int, message: bytearray) -> int:
        size, _, tag, room, *_ = struct.unpack_from("<6I", message)
        asked.append((request, size == len(message), tag, room, bytes(message[24:37])))
        message[24 : 24 + len(PMIC)] = PMIC.encode()
        return 0

    monkeypatch.setattr(fcntl, "ioctl", firmware)
    power = Power(PolledFiles(), tmp_path)
    assert power.look(0.0) == pytest.approx(0.37 + 0.66)
    assert power.look(0.2) == pytest.approx(0.37 + 0.66)
    assert len(asked) == 1  # once a second
    request = 0xC0046400 if struct.calcsize("P") == 4 else 0xC0086400
    assert asked[0] == (request, True, 0x30080, 1024, b"pmic_read_adc")
    assert power.name == "PMIC rails"


def test_a_firmware_that_does_not_answer_is_no_power(tmp_path):
    (tmp_path / "vcio").write_text("")
    assert (
        Pmic("x", "measured", "supply", None, str(tmp_path / "vcio")).watts(PolledFiles(), 0.0)
        is None
    )
    assert rails_w("error=1 error_msg='Command not registered'") is None
