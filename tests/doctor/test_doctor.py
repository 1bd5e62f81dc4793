"""The doctor: what is wrong with a machine is found, with what to do; what is well is not."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgevid import bundle as bundles
from edgevid import doctor, registry
from edgevid.bundle import Artifact
from edgevid.doctor import environment, hardware, plugins, serving, software
from edgevid.doctor.check import Check
from edgevid.system import devices
from rigs.machines import MEMINFO, PC, PC_CORE, PI5, machine


def look(root: Path) -> dict[str, Check]:
    found = [*hardware.checks(root), *environment.checks(root)]
    assert all("\n" not in check.found + check.do for check in found)
    assert all(check.do for check in found if check.state != "ok"), "a problem without a remedy"
    return {check.name: check for check in found}


@pytest.fixture
def pi(tmp_path):
    return lambda **changes: look(machine(tmp_path, PI5, **changes))


@pytest.fixture
def pc(tmp_path):
    return lambda **changes: look(machine(tmp_path, PC, **changes))


def problems(found: dict[str, Check]) -> set[str]:
    """Names of the checks that found a problem, apart from this machine's own disk."""
    return {name for name, check in found.items() if check.state != "ok"} - {"disk of cache"}


def test_a_healthy_raspberry_pi(pi):
    found = pi()
    assert problems(found) == set()
    assert found["machine"].found == (
        "Raspberry Pi 5 Model B Rev 1.0, Linux 6.12.25+rpt-rpi-2712 aarch64"
    )
    assert found["cpu"].found == "Cortex-A76, 4 cores: neon asimddp fp16"
    assert found["memory"].found == "7037 of 8051 MB free"
    assert found["swap"].found == "0 of 511 MB in use"
    assert found["temperature"].found == "49 °C (cpu-thermal, slows down at 80)"
    assert found["throttling"].found == "none since boot"
    assert found["frequency"].found == "1500 of 2400 MHz, ondemand"
    assert found["video devices"].found == "rp1-cfe-csi2_ch0, rpi-hevc-dec"
    assert found["GPUs"].found == "/dev/dri/renderD128"
    assert found["clock"].found.endswith("synchronised")


def test_a_healthy_pc(pc):
    found = pc()
    assert problems(found) == set()
    assert found["machine"].found == (
        "Intel(R) Client Systems NUC12WSKi5, Linux 6.1.0-40-amd64 x86_64"
    )
    assert found["cpu"].found == (
        "12th Gen Intel(R) Core(TM) i5-1240P, 16 cores: avx2 avx_vnni fp16"
    )
    assert found["temperature"].found == "61 °C (x86_pkg_temp, slows down at 95)"
    assert found["frequency"].found == "3400 of 4400 MHz, powersave"  # fine with intel_pstate


def test_a_machine_that_tells_nothing(tmp_path):
    assert problems(look(tmp_path)) <= {"clock", "systemd"}


@pytest.mark.parametrize(
    ("bits", "text", "do"),
    [
        ("50005", "now: under-voltage, throttled; since boot: under-voltage", "supply"),
        ("0x50000", "since boot: under-voltage, throttled", "power supply"),
        ("80008", "now: soft temperature limit; since", "cool it"),
        ("20002", "now: frequency capped", "cool it"),
    ],
)
def test_the_firmware_of_a_pi_reports_power_and_heat(pi, bits, text, do):
    check = pi(get_throttled=bits)["throttling"]
    assert check.state == "warn"
    assert text in check.found
    assert do in check.do


def test_under_voltage_is_reported_by_the_sensor_too(pi):
    check = pi(in0_lcrit_alarm="1\n", get_throttled="no number\n")["throttling"]
    assert (check.state, check.found) == ("warn", "now: under-voltage")


def test_the_older_place_of_the_firmwares_bits_is_known(tmp_path):
    firmware = "sys/devices/platform/soc/soc:firmware/get_throttled"
    found = look(machine(tmp_path, {"proc/cpuinfo": "", firmware: "1\n"}))
    assert found["throttling"].found == "now: under-voltage"


def test_an_x86_processor_that_throttled_is_found(pc):
    check = pc(package_throttle_count="17\n")["throttling"]
    assert (check.state, check.found) == ("warn", "17 times since boot")


@pytest.mark.parametrize(
    ("temp", "state"), [("74000", "ok"), ("76000", "warn"), ("-273000", "ok"), ("x", "ok")]
)
def test_heat(pi, temp, state):
    assert pi(thermal_zone0__temp=temp)["temperature"].state == state


def test_a_trip_point_of_the_kernel_counts_more_than_a_rule_of_thumb(pi):
    check = pi(trip_point_1_type="passive\n", trip_point_1_temp="50000\n")["temperature"]
    assert check.state == "warn"
    assert "slows down at 50" in check.found
    assert "cool it" in check.do


def test_a_slow_governor_and_a_capped_clock_are_found(pi):
    assert "cpupower" in pi(scaling_governor="powersave\n")["frequency"].do
    assert "limited to 1500 MHz" in pi(scaling_max_freq="1500000\n")["frequency"].do


@pytest.mark.parametrize(
    ("available", "state"), [(7206368, "ok"), (200000, "warn"), (50000, "fail")]
)
def test_memory(pi, available, state):
    meminfo = MEMINFO.replace("7206368", str(available))
    assert pi(meminfo=meminfo)["memory"].state == state


def test_a_full_swap_is_found(pi):
    assert pi(meminfo=MEMINFO.replace("SwapFree:         524272", "SwapFree: 99"))["swap"].do


def test_processors_that_lack_something(pc, pi):
    old = PC_CORE.format(n=0).replace(" avx2", "").replace(" avx_vnni", "")
    check = pc(cpuinfo=old)["cpu"]
    assert check.state == "warn"
    assert check.found.endswith("1 core: fp16")
    assert "without avx2" in check.do
    a53 = "processor\t: 0\nFeatures\t: fp asimd crc32\nCPU part\t: 0xd03\n"
    check = pi(cpuinfo=a53)["cpu"]
    assert (check.state, check.found) == ("ok", "Cortex-A53, 1 core: neon")
    assert "asimddp" in check.do


def test_big_and_little_cores_are_both_named(pi):
    two = PI5["proc/cpuinfo"].replace("0xd0b", "0xd05", 1)
    assert pi(cpuinfo=two)["cpu"].found.startswith("Cortex-A55 + Cortex-A76, 4 cores")


def test_devices_that_this_user_may_not_use(pi, monkeypatch):
    monkeypatch.setattr(environment, "may", lambda node: "video" not in node.name)
    monkeypatch.setattr(os, "getgroups", lambda: [100])
    check = pi()["video devices"]
    assert check.state == "warn"
    assert "no permission for 2 of 2" in check.found
    assert check.do == "run: sudo usermod -aG video $USER, then log in again"
    monkeypatch.setattr(os, "getgroups", lambda: [44])  # in the group already
    assert "udev" in pi()["video devices"].do


def check_named(name, root):
    return next(one for one in environment.checks(root) if one.name == name)


def test_the_clock(pi, monkeypatch, tmp_path):
    monkeypatch.setattr(environment.time, "time", lambda: 4e8)
    assert "this is in the past; set it" in pi()["clock"].do
    monkeypatch.undo()
    (tmp_path / "run/systemd/timesync/synchronized").unlink()
    for synchronised, state in ((True, "ok"), (False, "warn")):
        monkeypatch.setattr(environment, "synchronised", lambda known=synchronised: known)
        assert check_named("clock", tmp_path).state == state


def test_a_machine_without_systemd(tmp_path):
    check = check_named("systemd", tmp_path)
    assert (check.state, check.found) == ("warn", "not running")


@pytest.mark.parametrize(("free_mb", "state"), [(9000, "ok"), (300, "warn"), (5, "fail")])
def test_disk(tmp_path, monkeypatch, free_mb, state):
    usage = type("Usage", (), {"free": free_mb << 20})
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda folder: usage)
    check = environment.disk("cache", tmp_path / "not" / "yet" / "there")
    assert (check.state, check.found) == (state, f"{free_mb} MB free at {tmp_path}")


# --- libraries, each tried in a real child process ------------------------------------------------


def install(folder: Path, package: str, version: str, module: str, code: str) -> None:
    """A distribution as pip leaves it: metadata, and a module that does ``code``."""
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    file = folder.joinpath(*module.split(".")).with_suffix(".py")
    file.parent.mkdir(exist_ok=True)
    file.write_text(code)
    if file.parent != folder:
        (file.parent / "__init__.py").touch()


def state_of(*broken: str) -> dict[str, Check]:
    """The checks of the libraries, where only ``broken`` and numpy are tried."""
    libraries = {
        one.library.project: software.attempt(one)
        if one.library.project in (*broken, "numpy")
        else one
        for one in software.candidates()
    }
    return {check.name: check for check in software.checks(libraries)}


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_a_library_that_aborts_is_found_and_does_not_take_the_doctor_along(site):
    install(site, "openvino", "2026.9.9", "openvino", "import os; os.abort()")
    found = state_of("openvino")
    assert found["openvino"].found == "2026.9.9 does not load: crashed with SIGABRT"
    assert found["openvino"].state == "fail"
    assert "pip install --force-reinstall openvino==2026.9.9" in found["openvino"].do
    assert (found["runtimes"].found, found["runtimes"].state) == ("none works", "fail")


def test_a_library_that_hangs_is_found(site, monkeypatch):
    monkeypatch.setattr(software, "TRY_S", 1.0)
    install(site, "av", "18.9", "av", "import time; time.sleep(60)")
    found = state_of("av")["av"]
    assert (found.state, found.found) == ("fail", "18.9 does not load: did not respond within 1 s")


def test_a_library_without_its_native_part_is_found(site):
    install(site, "openvino", "1.0", "openvino", "raise ImportError('libtbb.so.12: not found')")
    found = state_of("openvino")["openvino"]
    assert "ImportError: libtbb.so.12: not found" in found.found


def test_the_known_bad_pair_gets_its_own_remedy(site):
    code = "raise ImportError('numpy.core.multiarray failed to import')"
    install(site, "tflite-runtime", "2.14.0", "tflite_runtime.interpreter", code)
    found = state_of("tflite-runtime")["tflite-runtime"]
    assert found.do == "it needs an older numpy; run: pip install 'numpy<2'"


def test_a_broken_runtime_beside_one_that_works_is_a_warning(site):
    install(site, "openvino", "1.0", "openvino", "raise OSError")
    found = state_of("openvino", "ai-edge-litert")
    assert found["openvino"].state == "warn"
    assert (found["runtimes"].found, found["runtimes"].state) == ("tflite", "ok")


def test_what_is_missing_gets_its_install_line():
    found = state_of()
    assert (found["av"].state, found["av"].do) == ("fail", "run: pip install 'edgevid[runner]'")
    assert found["ai-edge-litert"].do == "run: pip install 'edgevid[runner]'"
    assert found["openvino"].do == "run: pip install 'edgevid[openvino]'"
    assert found["tflite-runtime"].do == ""  # its successor is the one to install
    assert found["runtimes"].state == "fail"


# --- plug-ins of other packages -------------------------------------------------------------------


@pytest.fixture
def plugin(site):
    """A function that installs a package with one plug-in; entry points are read anew."""

    def put(kind: str, name: str, code: str) -> None:
        install(site, f"my-{name}", "1.2", f"my_{name}", code)
        points = f"[edgevid.{kind}]\n{name} = my_{name}:PLUGIN\n"
        (site / f"my_{name}-1.2.dist-info" / "entry_points.txt").write_text(points)
        registry.forget_entry_points()

    yield put
    registry.forget_entry_points()


def listed() -> dict[str, Check]:
    return {check.name: check for check in plugins.checks()}


def test_plug_ins_are_listed_with_their_origin(plugin):
    assert listed()["task plug-ins"].found == "classification, raw"
    plugin("task", "counting", "PLUGIN = 1\n")
    found = listed()
    assert found["task plug-ins"].found == "classification, counting (my-counting 1.2), raw"
    assert all(check.state == "ok" for check in found.values())


def test_a_plug_in_with_a_built_in_name_is_listed_as_ignored(plugin):
    plugin("task", "raw", "PLUGIN = 1\n")
    check = listed()["task raw"]
    assert check.found == "of my-raw 1.2 is ignored: edgevid has a built-in of this name"
    assert (check.state, check.do) == ("warn", "rename it in its package, or uninstall my-raw")


def test_a_runtime_that_cannot_be_imported_is_a_warning_and_hides_nothing(plugin):
    plugin("runtime", "broken", "import surely_not_there\n")
    check = listed()["runtime broken"]
    assert check.state == "warn"
    assert "of the package my-broken 1.2 cannot be imported: ModuleNotFoundError" in check.found
    assert "uninstall" in check.do
    assert "openvino" in {one.library.project for one in software.candidates()}
    assert "openvino/npu" in {check.name for check in serving.accelerators()}


# --- where things can be served -----------------------------------------------------------------


def test_accelerators_that_are_not_there_are_no_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "ROOT", tmp_path)
    found = {check.name: check for check in serving.accelerators()}
    assert {"openvino/gpu", "openvino/npu", "tflite/edgetpu", "tflite/gpu"} <= set(found)
    assert "null/null" not in found
    assert {check.state for check in found.values()} == {"ok"}
    assert all(check.found.startswith("not usable: ") for check in found.values())


def test_an_accelerator_that_lacks_only_its_driver_is_a_problem(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(devices, "ROOT", machine(tmp_path, PC))
    gpu = next(check for check in serving.accelerators() if check.name == "openvino/gpu")
    assert (gpu.state, gpu.do) == ("warn", "run: sudo apt-get install intel-opencl-icd")
    machine(tmp_path, {"etc/OpenCL/vendors/intel.icd": "libigdrcl.so\n"})
    gpu = next(check for check in serving.accelerators() if check.name == "openvino/gpu")
    assert (gpu.state, gpu.found) == ("ok", "may serve; it is proven before it does")


@pytest.fixture
def two_formats(tmp_path, contract) -> bundles.Bundle:
    artifacts = [
        (Artifact("tflite-int8", "tflite", "int8"), {"tflite": b"T"}),
        (Artifact("openvino-int8", "openvino", "int8"), {"xml": b"x", "bin": b"b"}),
    ]
    return bundles.write(tmp_path / "x.edgevid", contract, artifacts, {}, {})


def served(bundle: bundles.Bundle, *working: str, **broken: str) -> dict[str, Check]:
    libraries = {
        one.library.project: dataclasses.replace(
            one,
            version="2.0" if one.library.project in {*working, *broken} else None,
            fault=broken.get(one.library.project),
        )
        for one in software.candidates()
    }
    return {check.name: check for check in serving.bundle(bundle, libraries)}


def test_each_artifact_of_a_bundle_has_its_engines(two_formats):
    found = served(two_formats, "ai-edge-litert", "openvino")
    assert "tflite on cpu" in found["tflite-int8"].found
    assert "openvino on cpu" in found["openvino-int8"].found
    assert "2 of 2 artifacts can be served" in found["bundle"].found
    assert "edgevid verify" in found["bundle"].do


def test_an_artifact_without_a_runtime_gets_its_install_line(two_formats):
    found = served(two_formats, "openvino")
    assert found["tflite-int8"].state == "warn"
    assert found["tflite-int8"].found == "cannot be served: tflite: not installed"
    assert found["tflite-int8"].do == "run: pip install 'edgevid[runner]'"
    assert found["bundle"].state == "ok"


def test_a_bundle_that_nothing_here_can_serve_is_a_failure(two_formats):
    found = served(two_formats, openvino="crashed with SIGABRT")
    assert "openvino does not load" in found["openvino-int8"].found
    assert found["bundle"].state == "fail"
    assert not doctor.fit(list(found.values()))


def test_a_runtime_that_is_too_old_for_an_artifact_is_named(tmp_path, contract):
    artifact = Artifact(
        "openvino-int8", "openvino", "int8", smallest_runtime={"openvino": "2022.1"}
    )
    files = {"xml": b"x", "bin": b"b"}
    bundle = bundles.write(tmp_path / "x.edgevid", contract, [(artifact, files)], {}, {})
    found = served(bundle, "openvino")
    assert "needs version 2022.1, this is 2.0" in found["openvino-int8"].found


# --- the command ----------------------------------------------------------------------------------


def test_the_command_tells_people_and_machines(edgevid, null_bundle):
    done = edgevid("doctor", null_bundle, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["fit"] is True
    found = {check["name"]: check for check in document["checks"]}
    assert found["null-float32"]["found"].startswith("can be served: null on cpu")
    assert set(found["numpy"]) == {"name", "found", "state", "do"}
    text = edgevid("doctor").stdout
    assert text.splitlines()[0].split() == ["check", "found", "->", "what", "to", "do"]
    assert "-> " in text


def test_a_machine_that_cannot_serve_is_exit_code_1(tmp_path):
    install(tmp_path, "av", "1.0", "av", "raise ImportError('broken')")
    done = subprocess.run(
        [sys.executable, "-m", "edgevid", "doctor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "1.0 does not load: failed with exit code 1 (ImportError: broken)" in done.stdout
    assert done.stderr == ""


def test_the_doctor_itself_imports_no_library():
    code = "import sys, edgevid.doctor; edgevid.doctor.examine(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"av", "openvino", "ai_edge_litert", "tflite_runtime", "cv2", "numpy"}
