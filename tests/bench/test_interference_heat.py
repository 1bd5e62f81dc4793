"""Heat, weak supplies and power: machines' files, which change while somebody looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevid.bench.interference import (
    InterferenceLimits,
    Monitor,
    MonitorRecord,
    disturbances,
    machine,
)
from edgevid.bench.interference import monitor as monitors
from edgevid.bench.interference.machine_info import ClockPolicy, ThermalLimit
from rigs.machines import JETSON, MEMINFO, PC, PI5, Looks
from rigs.machines import machine as written

ZONE = "sys/class/thermal/thermal_zone0"
POLICY = "sys/devices/system/cpu/cpufreq/policy0"
THROTTLED = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
BOARD = {
    "proc/device-tree/model": "Radxa ROCK 5B\0",
    "proc/meminfo": MEMINFO,
    f"{ZONE}/type": "soc-thermal\n",
    f"{ZONE}/temp": "61000\n",
    f"{ZONE}/trip_point_0_type": "passive\n",
    f"{ZONE}/trip_point_0_temp": "85000\n",
    f"{POLICY}/scaling_cur_freq": "2400000\n",
    f"{POLICY}/scaling_max_freq": "2400000\n",
}
RATE, TEMP = f"{POLICY}/scaling_cur_freq", f"{ZONE}/temp"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(monitors, "LOOK_S", 0.02)


def run(root: Path, files: dict[str, str], *changes: dict[str, str]) -> MonitorRecord:
    """A record of a machine whose files change one after another, some looks apart."""
    written(root, files)
    looks = Looks()
    with Monitor(looks, root) as monitor:
        looks.wait()
        for change in changes:
            written(root, change)
            looks.wait()
        return monitor.stop()


# --- heat -----------------------------------------------------------------------------------------


def test_an_overheated_board_is_reported_with_its_temperature_and_its_clock_rate(tmp_path):
    record = run(
        tmp_path,
        BOARD,
        {TEMP: "84000\n"},
        {TEMP: "86100\n", RATE: "1800000\n"},
        {TEMP: "85500\n", RATE: "1500000\n"},
    )
    assert disturbances(record) == [
        "the processor reached 86 °C (soc-thermal) and slows down at 85 (its clock rate fell from "
        "2400 to 1500 MHz)"
    ]
    rates = [look.frequency_mhz for look in record.timeline]
    assert rates == sorted(rates, reverse=True)
    assert {2400, 1800, 1500} == set(rates)
    assert record.timeline[0].temperature_c == 61
    assert record.timeline[0].slows_at_c == 85


@pytest.mark.parametrize(
    "change",
    [
        {TEMP: "84900\n", RATE: "1500000\n"},  # an idle clock is no throttled one
        {TEMP: "86000\n"},  # a trip point is where the kernel begins to think, no more
        {TEMP: "86000\n", RATE: "2300000\n"},
    ],
)
def test_neither_heat_nor_a_lower_clock_rate_is_a_reason_alone(tmp_path, change):
    assert disturbances(run(tmp_path, BOARD, change)) == []


def test_a_board_that_tells_no_clock_rate_is_judged_by_its_heat(tmp_path):
    files = {path: content for path, content in BOARD.items() if "cpufreq" not in path}
    (reason,) = disturbances(run(tmp_path, files, {TEMP: "86000\n"}))
    assert reason.endswith("slows down at 85 (it does not report its clock rate)")


def test_where_no_trip_point_is_reported_the_usual_one_counts(tmp_path):
    fell = {"sys/class/thermal/thermal_zone0/temp": "82300\n", RATE: "1500000\n"}
    files = {**PI5, RATE: "2400000\n"}
    (reason,) = disturbances(run(tmp_path, files, fell))
    assert reason.startswith("the processor reached 82 °C (cpu-thermal) and slows down at about 80")


def test_the_heat_of_other_parts_is_not_the_processors(tmp_path):
    files = {**BOARD, f"{ZONE}/type": "iwlwifi_1\n"}
    assert disturbances(run(tmp_path, files, {TEMP: "99000\n", RATE: "1000000\n"})) == []


def test_the_zone_nearest_to_its_limit_is_the_one_that_is_reported(tmp_path):
    other = "sys/class/thermal/thermal_zone1"
    files = {**BOARD, f"{other}/type": "gpu-thermal\n", f"{other}/temp": "70000\n"}
    record = run(tmp_path, files, {f"{other}/temp": "79000\n"})  # of 80, the usual
    assert record.zone == "gpu-thermal"
    assert record.timeline[-1].temperature_c == 79
    assert not record.trip_reported


def test_a_cap_on_the_clock_rate_is_reported(tmp_path):
    record = run(tmp_path, BOARD, {f"{POLICY}/scaling_max_freq": "1800000\n"})
    assert disturbances(record) == ["the highest allowed clock rate fell to 1800 of 2400 MHz"]


def test_a_kernel_that_cools_by_slowing_down_is_reported_and_a_fan_is_not(tmp_path):
    device = "sys/class/thermal/cooling_device{}"
    files = {
        **BOARD,
        f"{device.format(0)}/type": "pwm-fan\n",
        f"{device.format(0)}/cur_state": "3\n",
        f"{device.format(1)}/type": "cpufreq-cpu0\n",
        f"{device.format(1)}/cur_state": "0\n",
        f"{device.format(2)}/type": "intel_powerclamp\n",
        f"{device.format(2)}/cur_state": "-1\n",
    }
    assert disturbances(run(tmp_path, files)) == []
    (reason,) = disturbances(run(tmp_path, files, {f"{device.format(1)}/cur_state": "2\n"}))
    assert reason.startswith(
        "the kernel throttled the processor because of its temperature (cooling by cpufreq"
    )


def test_the_real_clock_rate_is_read_where_it_may_be(tmp_path):
    files = {**BOARD, f"{POLICY}/cpuinfo_cur_freq": "600062\n"}
    assert run(tmp_path, files).timeline[0].frequency_mhz == 600


# --- what firmware and processors tell ------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "reported"),
    [
        ("1", ["under-voltage"]),
        ("0x50005", ["throttled", "under-voltage"]),
        ("80008", ["soft temperature limit"]),
        ("20002", ["frequency capped"]),
        ("40000", ["throttled"]),  # came and went between two looks
        ("0", []),
        ("no number", []),
    ],
)
def test_the_firmware_of_a_pi_tells_of_power_and_heat(tmp_path, bits, reported):
    reasons = disturbances(run(tmp_path, PI5, {THROTTLED: f"{bits}\n"}))
    assert [reason.partition(" (in ")[0] for reason in reasons] == [
        f"the firmware reports: {name}" for name in reported
    ]


def test_what_was_before_the_start_is_no_reason(tmp_path):
    assert disturbances(run(tmp_path, {**PI5, THROTTLED: "50000\n"})) == []
    (reason,) = disturbances(run(tmp_path, {**PI5, THROTTLED: "50000\n"}, {THROTTLED: "70000\n"}))
    assert reason.startswith("the firmware reports: frequency capped (in 1 of ")


def test_under_voltage_is_reported_by_the_sensor_too(tmp_path):
    alarm = {"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"}
    (reason,) = disturbances(run(tmp_path, {**PI5, THROTTLED: "no number\n"}, alarm))
    assert reason.startswith("the firmware reports: under-voltage")


def test_an_x86_processor_that_overheated_is_reported_once(tmp_path):
    folder = "sys/devices/system/cpu/cpu{}/thermal_throttle/package_throttle_count"
    files = {**PC, folder.format(0): "17\n", folder.format(1): "17\n"}
    assert disturbances(run(tmp_path, files)) == []
    hot = {folder.format(0): "21\n", folder.format(1): "21\n"}
    assert disturbances(run(tmp_path, files, hot)) == [
        "the processor overheated and slowed down 4 times"
    ]


# --- power ----------------------------------------------------------------------------------------


def test_power_becomes_energy_and_stands_in_the_timeline(tmp_path):
    record = run(tmp_path, JETSON)
    whole = record.total()
    assert record.power == "ina3221 VDD_IN"
    assert record.timeline[1].power_w == 5.604
    assert whole.energy_j == pytest.approx(5.604 * whole.elapsed_s, rel=0.05)


# --- the machine ----------------------------------------------------------------------------------


def test_a_raspberry_pi_as_a_machine(tmp_path):
    found = machine(written(tmp_path, PI5))
    assert found.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert (found.architecture, found.kernel) == ("aarch64", "6.12.25+rpt-rpi-2712")
    assert found.cpu.model == "Cortex-A76"
    assert found.cpu.cores == 4
    assert found.cpu.features == ("neon", "asimddp", "fp16")
    assert found.clock == (ClockPolicy(None, "ondemand", "cpufreq-dt", 1500, 2400, 2400),)
    assert found.heat == (ThermalLimit("cpu-thermal", 80.0, False),)
    assert (found.memory_mb, found.swap_mb) == (8051, 511)
    assert found.virtual_machine is found.container is found.cgroup_cpu_limit is None
    assert set(found.versions) >= {"python", "edgevid", "numpy", "av", "openvino"}


def test_a_limit_can_be_chosen(tmp_path):
    record = run(tmp_path, BOARD, {TEMP: "86000\n", RATE: "2000000\n"})
    assert disturbances(record)
    assert disturbances(record, InterferenceLimits(slower_share=0.2)) == []


def test_a_sensor_that_vanishes_is_none(tmp_path):
    written(tmp_path, BOARD)
    with Monitor(list, tmp_path) as monitor:
        (tmp_path / TEMP).write_text("")
        record = monitor.stop()
    assert record.timeline[-1].temperature_c is None
    assert disturbances(record) == []
