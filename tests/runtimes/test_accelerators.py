"""Accelerators: what is reported about those of a machine, and what happens without one."""

import os
import subprocess
import sys

import pytest

from edgevid import runtimes, targets
from edgevid.bundle import Bundle
from edgevid.errors import BadInput, CheckFailed, EngineFailed
from edgevid.proof import Golden, replay_artifact
from edgevid.runner.engine_failover import BackoffPolicy, EngineFailover
from edgevid.runner.engines import choices
from edgevid.runner.worker import WorkerEngine
from edgevid.runtimes import catalog, zero_state
from edgevid.runtimes.openvino.cpu import OpenVINOEngine
from edgevid.runtimes.tflite import edgetpu
from edgevid.system import devices
from rigs.player import Player, furthest, noise
from rigs.vulkan import use_software_gpu, write_liar


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Give a function that puts files on another machine, which is empty at first."""
    monkeypatch.setattr(devices, "ROOT", tmp_path)
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)

    def place(*names, content=""):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return place


def forbid(monkeypatch, *names):
    """Take the permission for some devices, also from root."""
    inner = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: path.name not in names and inner(path, mode)
    )


def test_the_npu(elsewhere, monkeypatch):
    def why():
        return runtimes.get("openvino").why_not("npu")

    assert "no /dev/accel/accel0" in why()
    elsewhere("dev/accel/accel0")
    assert why() is None
    assert "npu" in runtimes.get("openvino").accelerators()
    forbid(monkeypatch, "accel0")
    assert "no permission for /dev/accel/accel0" in why()
    assert "usermod -aG render" in why()
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    assert "pip install 'edgevid[openvino]'" in why()


def test_openvinos_gpu(elsewhere, monkeypatch):
    def why():
        return runtimes.get("openvino").why_not("gpu")

    assert "no Intel GPU" in why()
    elsewhere("dev/dri/renderD128", "dev/dri/renderD129")
    elsewhere("sys/class/drm/renderD128/device/vendor", content="0x1002\n")
    assert "no Intel GPU" in why()
    elsewhere("sys/class/drm/renderD129/device/vendor", content="0x8086\n")
    assert "intel-opencl-icd" in why()
    elsewhere("etc/OpenCL/vendors/intel.icd")
    assert why() is None
    forbid(monkeypatch, "renderD129")
    assert "no permission for /dev/dri/renderD129" in why()


def test_litert_s_gpu(elsewhere, monkeypatch, tmp_path):
    def why():
        return runtimes.get("tflite").why_not("gpu")

    assert "no /dev/dri/renderD*" in why()
    elsewhere("dev/dri/renderD128")
    assert "no Vulkan driver" in why()
    elsewhere("usr/share/vulkan/icd.d/some.json")
    assert "libvulkan.so.1" in why()
    elsewhere("usr/lib/x86_64-linux-gnu/libvulkan.so.1")
    assert why() is None
    forbid(monkeypatch, "renderD128")
    assert "no permission" in why()
    (tmp_path / "dev/dri/renderD128").unlink()
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "named.json"))
    assert "named.json does not exist" in why()
    (tmp_path / "named.json").touch()
    assert why() is None  # a driver that is named needs no device


def test_the_edge_tpu(elsewhere, monkeypatch):
    def why():
        return runtimes.get("tflite").why_not("edgetpu")

    assert "no /dev/apex_0 and no USB device" in why()
    stick = "sys/bus/usb/devices/1-2/"
    elsewhere(stick + "idVendor", content="18d1\n")
    elsewhere(stick + "idProduct", content="9302\n")
    elsewhere(stick + "busnum", stick + "devnum", content="4\n")
    elsewhere("sys/bus/usb/devices/1-2:1.0/bInterfaceClass")
    assert "apt-get install libedgetpu1-std" in why()
    elsewhere("usr/lib/aarch64-linux-gnu/libedgetpu.so.1")
    assert "no permission for /dev/bus/usb/004/004" in why()
    elsewhere("dev/bus/usb/004/004")
    assert why() is None
    elsewhere("dev/apex_0")
    forbid(monkeypatch, "apex_0")
    assert "usermod -aG apex" in why()


def test_looking_imports_and_loads_nothing():
    code = (
        "import sys; from edgevid import runtimes; from edgevid.runtimes import catalog\n"
        "for spec in catalog.importable():\n"
        "    for one in spec.accelerators: runtimes.get(spec.name).why_not(one.name)\n"
        "print([m for m in sys.modules if m in ('numpy', 'openvino', 'ai_edge_litert')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_what_cannot_be_used_is_refused_with_the_reason(elsewhere, real_bundle):
    bundle = Bundle.open(real_bundle)
    openvino = runtimes.get("openvino")
    with pytest.raises(BadInput, match=r"openvino cannot use npu on this machine.*accel0"):
        openvino.load(bundle.files("openvino-int8"), bundle.contract, accelerator="npu")
    engine = WorkerEngine(bundle, "openvino-int8", "openvino", "npu")
    try:
        with pytest.raises(EngineFailed, match=r"cannot use npu.*accel0"):
            engine.prove()
    finally:
        engine.close()


@pytest.mark.parametrize("name", targets.names())
def test_every_way_of_every_target_is_known(name):
    for way in targets.load(name).engine:
        assert catalog.spec(way.runtime).accelerator(way.accelerator)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library's own
def test_a_delegate_that_cannot_be_loaded_is_an_error_and_nothing_else(real_bundle, monkeypatch):
    bundle = Bundle.open(real_bundle)
    monkeypatch.setattr(edgetpu, "LIBRARY", "libsurely_not_there.so.1")
    with pytest.raises(EngineFailed, match="tflite cannot load the artifact: libsurely_not_there"):
        edgetpu.EdgeTPU().load(bundle.files("tflite-int8"), bundle.contract)


def test_an_artifact_without_work_for_the_edge_tpu_is_not_passed_off_as_served(
    real_bundle, monkeypatch
):
    monkeypatch.setattr(edgetpu, "LIBRARY", None)  # no delegate: everything stays on the CPU
    bundle = Bundle.open(real_bundle)
    with pytest.raises(EngineFailed, match="edgetpu_compiler"):
        edgetpu.EdgeTPU().load(bundle.files("tflite-int8"), bundle.contract)


def test_the_precision_that_runs_is_read_from_what_was_compiled(real_bundle, monkeypatch):
    """On the CPU, asked for float16 as other devices are, what runs is what the CPU has."""
    bundle = Bundle.open(real_bundle)
    hint = {"INFERENCE_PRECISION_HINT": "f16"}
    monkeypatch.setattr("edgevid.runtimes.openvino.cpu.device_options", lambda *asked, **more: hint)
    engine = OpenVINOEngine(bundle.files("openvino-float32"), bundle.contract)
    assert engine.precision in ("float16", "bf16", "float32")
    golden = Golden.read(bundle, "openvino-float32")
    check, _ = replay_artifact(engine, golden, bundle, "openvino-float32")
    assert check.ok
    assert check.tolerance == {"float16": 0.02, "bf16": 0.05, "float32": 1e-4}[engine.precision]
    assert (check.max_abs > 1e-4) == (engine.precision != "float32")


# --- a real GPU accelerator, true about one model and lying about another -------------------------


@pytest.fixture
def gpu(monkeypatch):
    use_software_gpu(monkeypatch)


@pytest.fixture(params=["real_bundle", "carry_bundle"])
def trained(request) -> Bundle:
    return Bundle.open(request.getfixturevalue(request.param))


def failover(bundle, artifact, heard):
    wanted = choices(bundle, targets.load("local"), accelerator="gpu", artifact=artifact)
    return EngineFailover(
        bundle, wanted, report=heard.append, backoff=BackoffPolicy(first_s=600, longest_s=600)
    )


def test_the_gpu_serves_the_float32_step(gpu, trained):
    heard = []
    one = failover(trained, "tflite-float32", heard)
    try:
        assert (one.choice.runtime, one.choice.accelerator) == ("tflite", "gpu"), heard
        assert (one.guarded, one.degraded, one.precision) == (True, False, "float32")
        player, frames = Player(one, trained.contract), noise(trained.contract, 80)
        player.play(frames)
        assert one.check(idle=True)
        assert one.guarded
    finally:
        one.close()
    cpu = runtimes.get("tflite").load(trained.files("tflite-float32"), trained.contract)
    clean, state = [], zero_state(trained.contract)
    for frame in frames:
        answer, state = cpu.step({"frame": frame}, state)
        clean.append(answer)
    assert furthest(player.answers, clean) < 1e-4


@pytest.fixture(scope="session")
def liar(tmp_path_factory) -> Bundle:
    return Bundle.open(write_liar(tmp_path_factory.mktemp("liar")))


def test_the_gpu_lying_about_int8_is_found_out_at_start(gpu, liar):
    heard = []
    one = failover(liar, "tflite-int8", heard)
    try:
        assert (one.choice.runtime, one.choice.accelerator) == ("tflite", "cpu")
        assert one.degraded
        status = one.status()
        assert "is off by" in status["reason"]
        assert status["places"][0]["state"] == "failed"
        assert "tflite-int8 in tflite on gpu" in heard[-1]
        one.step({"frame": noise(liar.contract, 1)[0]}, zero_state(liar.contract))
    finally:
        one.close()


def test_that_is_the_gpus_lie_and_not_the_bundles(gpu, liar):
    """Its own library calls the run a success; only the answers are wrong."""
    engine = WorkerEngine(liar, "tflite-int8", "tflite", "gpu")
    try:
        with pytest.raises(CheckFailed, match="is off by"):
            engine.prove()
    finally:
        engine.close()
    cpu = WorkerEngine(liar, "tflite-int8", "tflite", "cpu")
    try:
        cpu.prove()
    finally:
        cpu.close()
