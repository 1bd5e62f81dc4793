"""The package for one device: what is in it, that it works there, and what it is refused for."""

import ast
import dataclasses
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from edgevid import bundle, registry, targets
from edgevid.bundle import Artifact, Bundle
from edgevid.errors import BadInput
from edgevid.flash import device_code, target_lock
from edgevid.flash.device_facts import DeviceFacts
from edgevid.flash.package import build, same_release, wanted_wheels
from edgevid.runtimes import catalog
from edgevid.targets import Target
from rigs.bundles import CONTRACT, write_null
from rigs.wheels import write_wheel

PC = DeviceFacts("x86_64", "2.36", (3, 11, 2), {}, all_groups=("video", "audio"))
PI = DeviceFacts("aarch64", "2.36", (3, 11, 2), {}, model="Raspberry Pi 5 Model B Rev 1.0")
OLD_ARM = DeviceFacts(
    "armv7l", "2.36", (3, 11, 2), {"numpy": "1.24.2", "av": "10.0.0", "click": "8.1.3"}
)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index that has what a device needs, in name; the targets' locks list the real wheels."""
    monkeypatch.setattr(target_lock, "locked", lambda *_: None)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    for name, version in (("av", "18.1"), ("click", "8.1"), ("numpy", "2.1")):
        write_wheel(folder, name, version)
    write_wheel(folder, "ai-edge-litert", "2.3.0", "cp311-cp311-manylinux_2_28_aarch64")
    write_wheel(folder, "tflite-runtime", "2.14.0", "cp311-cp311-manylinux_2_34_armv7l")
    return folder


@pytest.fixture
def make_bundle(tmp_path):
    """Give a function that writes a bundle with artifacts of these names, whatever they hold."""

    def make(*names: str, file: str = "motion.edgevid", **smallest: str) -> Path:
        artifacts = []
        for name in names:
            kind, _, quantize = name.partition("-")
            artifact = Artifact(name, kind, quantize, smallest_runtime=smallest)
            files = dict.fromkeys(("xml", "bin") if kind == "openvino" else (kind,), b"x")
            artifacts.append((artifact, files))
        bundle.write(tmp_path / file, CONTRACT, artifacts, {}, {})
        return tmp_path / file

    return make


def manifest(package):
    return json.loads(package.manifest)


def test_the_same_package_differs_only_in_its_time(index, make_bundle):
    given = PI, targets.load("raspberry-pi-5"), [make_bundle("tflite-int8")], b"site"
    one, other = build(*given, now=1_000), build(*given, now=2_000)
    assert one.blobs.keys() == other.blobs.keys()
    assert one.manifest != other.manifest
    assert same_release(one.manifest, other.manifest)
    assert manifest(other)["serial"] == 2_000
    other_site = build(*given[:3], b"another", now=1_000)
    assert not same_release(one.manifest, other_site.manifest)
    assert manifest(one)["runner"] == manifest(other_site)["runner"]


def test_the_manifest_says_what_it_was_made_for_and_names_every_blob(index, make_bundle):
    path = make_bundle("tflite-int8")
    package = build(PI, targets.load("raspberry-pi-5"), [path], b"site", agent=b"agent")
    said = manifest(package)
    assert (said["architecture"], said["python"], said["glibc"]) == ("aarch64", "3.11", "2.36")
    named = [*said["runner"]["wheels"], *said["bundles"], said["site"], said["agent"]]
    assert {one["sha256"] for one in named} == package.blobs.keys()
    assert said["bundles"][0]["key"] == Bundle.open(path).key
    for one in named:
        content = package.blobs[one["sha256"]]
        assert one["size"] == len(content if isinstance(content, bytes) else content.read_bytes())
    names = [one["name"].split("-")[0] for one in said["runner"]["wheels"]]
    assert names == ["edgevid", "ai_edge_litert", "av", "click", "numpy"]


def test_groups_that_the_device_does_not_know_are_left_out(index, make_bundle):
    target = dataclasses.replace(targets.load("linux-x86-64"), requires=())
    package = build(PC, target, [write_null(make_bundle("tflite-int8"))], b"")
    assert manifest(package)["service"]["groups"] == ["video"]


def test_32_bit_arm_gets_one_wheel_and_the_rest_from_its_distribution(index, make_bundle):
    package = build(OLD_ARM, targets.load("generic-armv7"), [make_bundle("tflite-int8")], b"")
    runner = manifest(package)["runner"]
    assert [one["name"].split("-")[0] for one in runner["wheels"]] == ["edgevid", "tflite_runtime"]
    assert runner["packages"] == ["numpy", "av", "click"]


@pytest.mark.parametrize(
    ("facts", "name", "says"),
    [
        (PI, "linux-x86-64", "its architecture is aarch64, not x86_64"),
        (dataclasses.replace(PI, glibc="2.27"), "generic-arm64", "glibc 2.27; 2.28 or newer"),
        (dataclasses.replace(PI, python=(3, 9, 2)), "generic-arm64", "python3 is 3.9; one of 3.11"),
        (
            dataclasses.replace(OLD_ARM, modules={"av": "10.0.0", "click": "8.1.3"}),
            "generic-armv7",
            "lacks numpy; run on it: sudo apt-get install python3-numpy",
        ),
        (
            dataclasses.replace(OLD_ARM, modules={**OLD_ARM.modules, "numpy": "2.0.1"}),
            "generic-armv7",
            "its numpy is 2.0.1; 1.23 or newer and below 2 is needed",
        ),
    ],
)
def test_a_device_that_cannot_run_it_is_refused(index, make_bundle, facts, name, says):
    with pytest.raises(BadInput, match=says):
        build(facts, targets.load(name), [make_bundle("tflite-int8")], b"")


def test_a_bundle_that_the_device_cannot_execute_is_refused(index, make_bundle):
    armv7 = targets.load("generic-armv7")
    with pytest.raises(
        BadInput, match="nothing that generic-armv7 executes, it holds openvino-int8"
    ):
        build(OLD_ARM, armv7, [make_bundle("openvino-int8")], b"")
    with pytest.raises(BadInput, match="nothing that generic-armv7 executes"):
        build(OLD_ARM, armv7, [make_bundle("tflite-dynamic")], b"")
    newer = make_bundle("tflite-int8", tflite="2.15")
    with pytest.raises(BadInput, match=r"needs tflite-runtime 2\.15, the device gets 2\.14\.0"):
        build(OLD_ARM, armv7, [newer], b"")
    build(PI, targets.load("generic-arm64"), [newer], b"")  # LiteRT left those numbers behind


def test_two_bundles_of_one_name_are_refused(index, make_bundle, tmp_path):
    one = make_bundle("tflite-int8")
    (tmp_path / "more").mkdir()
    other = write_null(tmp_path / "more" / one.name)
    with pytest.raises(BadInput, match="have the same name; rename one"):
        build(PI, targets.load("generic-arm64"), [one, other], b"")
    odd = one.rename(one.with_name("my model.edgevid"))
    with pytest.raises(BadInput, match="rename it"):
        build(PI, targets.load("generic-arm64"), [odd], b"")


def test_a_wheel_that_unpacking_does_not_install_is_refused(index, make_bundle):
    write_wheel(index, "click", "8.2", members=["click-8.2.data/purelib/click/core.py"])
    with pytest.raises(BadInput, match=r"click-8\.2-.*unpacking alone"):
        build(PI, targets.load("generic-arm64"), [make_bundle("tflite-int8")], b"")


@pytest.mark.parametrize(
    ("name", "held", "nodes", "site", "brings"),
    [
        ("linux-x86-64", ("tflite-int8", "openvino-int8"), (), b"", {"tflite"}),
        ("linux-x86-64", ("openvino-int8",), (), b"", {"openvino"}),
        ("intel-npu", ("tflite-int8", "openvino-int8"), (), b"", {"openvino"}),
        ("local", ("tflite-int8", "openvino-int8"), (), b"", {"tflite"}),
        (
            "local",
            ("tflite-int8", "openvino-int8"),
            ("/dev/accel/accel0",),
            b"",
            {"openvino", "tflite"},
        ),
        (
            "linux-x86-64",
            ("tflite-int8", "openvino-int8"),
            (),
            b'[[bundle]]\nruntime = "openvino"\n',
            {"openvino", "tflite"},
        ),
    ],
)
def test_only_runtimes_that_may_serve_are_brought(name, held, nodes, site, brings, make_bundle):
    facts = dataclasses.replace(PC, nodes=nodes)
    opened = Bundle.open(make_bundle(*held))
    wanted = wanted_wheels(facts, targets.load(name), [opened], site).requirements
    specs = [spec for spec in catalog.importable() if spec.requirements]
    runtimes = {spec.name for spec in specs if set(spec.requirements) <= set(wanted)}
    assert runtimes == brings


def test_a_runtimes_requirements_are_those_of_its_extra():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    runtimes = [wheel for spec in catalog.built_in() for wheel in spec.requirements]
    assert len(runtimes) == 2
    everything = [*runtimes, *targets.load("local").requires]
    for requirement in everything:
        assert f'"{requirement}"' in project


# ------------------------------------------------------------------ edgevid on the device


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """What a device imports edgevid from."""
    folder = tmp_path_factory.mktemp("device")
    (folder / "edgevid.zip").write_bytes(device_code.archive(targets.load("raspberry-pi-5")))
    zipfile.ZipFile(folder / "edgevid.zip").extractall(folder / "lib")
    return folder / "lib"


def on_device(unpacked: Path, *words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", "-m", "edgevid", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        cwd=unpacked.parent,  # where no other edgevid lies
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_equal_code_gives_equal_bytes():
    target = targets.load("raspberry-pi-5")
    assert device_code.archive(target) == device_code.archive(target)


def test_the_import_contract_and_the_zip_have_one_list_of_host_code(unpacked):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    (contract,) = (
        one
        for one in project["tool"]["importlinter"]["contracts"]
        if one["name"] == "device code imports no host code"
    )
    assert contract["protected_modules"] == list(device_code.HOST_CODE)
    assert contract["allowed_importers"] == [*device_code.HOST_CODE, "edgevid_converters"]
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*.py")}
    assert "edgevid/cli/run.py" in names and "edgevid/bench/__init__.py" in names
    assert not [name for name in names if "/host/" in name or name.endswith("/host.py")]
    assert not [name for name in names if name.startswith(("edgevid/training", "edgevid/flash"))]


def _imports(tree: ast.Module) -> set[str]:
    for node in ast.walk(tree):  # what only type checkers import need not be there
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgevid"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("edgevid")}
    return found


def test_device_code_imports_only_device_code(unpacked):
    def there(name: str) -> bool:
        path = unpacked / name.replace(".", "/")
        return path.with_suffix(".py").exists() or (path / "__init__.py").exists()

    for file in unpacked.rglob("*.py"):
        for name in _imports(ast.parse(file.read_text())):
            assert there(name) or there(name.rpartition(".")[0]), f"{file} imports {name}"
    for rows in registry.TABLE.values():
        for row in rows.values():
            module = row.where.partition(":")[0]
            assert there(module) or "edgevid_converters" in module


def test_the_target_local_on_a_device_is_its_own_target(unpacked):
    local = targets.read(unpacked / "edgevid/_targets/local.toml")
    pi = targets.load("raspberry-pi-5")
    assert local.engine[: len(pi.engine)] == pi.engine
    assert [way.runtime for way in local.engine[len(pi.engine) :]] == ["null", "null"]
    assert local.limits == pi.limits


def test_a_name_in_a_users_own_target_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "edgevid" / "targets"
    folder.mkdir(parents=True)
    text = targets.find("generic-arm64").read_text()
    (folder / "mine.toml").write_text(f'name = "mine"\n{text}')
    (tmp_path / "local.toml").write_bytes(device_code.local_target(targets.load("mine")))
    assert isinstance(targets.read(tmp_path / "local.toml"), Target)


def test_run_verify_and_doctor_work_from_it(unpacked, null_bundle, video):
    verified = on_device(unpacked, "verify", null_bundle, "--runtime", "null")
    assert verified.returncode == 0, verified.stderr
    answered = on_device(unpacked, "run", null_bundle, video, "--json")
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["frames"]["captured"] == 40
    examined = on_device(unpacked, "doctor", null_bundle, "--json")
    assert json.loads(examined.stdout)["checks"], examined.stderr
    helped = on_device(unpacked, "run", "--help")
    assert helped.returncode == 0


def test_bench_works_from_it(unpacked, null_bundle, video):
    short = ("--samples", 100, "--rounds", 2, "--scenario", "single", "--json")
    done = on_device(unpacked, "bench", null_bundle, "--source", video, *short)
    assert done.returncode in (0, 3), done.stderr  # as quiet as the machine is
    (result,) = json.loads(done.stdout)["results"]
    assert result["latency_ms"]["p50"]["value"] > 0


def test_a_command_that_is_not_on_the_device_says_so(unpacked):
    done = on_device(unpacked, "train", "data")
    assert done.returncode == 2
    assert done.stderr == (
        "edgevid: edgevid train is not available on a device; run it on a computer\n"
    )
