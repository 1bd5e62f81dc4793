"""Boards that are not here: Debians for ARM under emulation, reached by their own sshd.

Wheels for them and the runner's own code run there, and answer as the bundle recorded it.
"""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from edgevid import targets
from edgevid.flash.device_facts import DeviceFacts
from edgevid.flash.package import Package, build
from edgevid.flash.replies import read
from rigs.arm import CACHE, DISTRIBUTION, ArmMachine, arm_machine, ssh_environment
from rigs.command import call_edgevid
from rigs.sshd import make_key

pytestmark = pytest.mark.starts(0)

LIB = "/opt/lib"


@dataclass
class Board:
    """An emulated board, and the environment in which ``ssh`` gets there."""

    machine: ArmMachine
    address: str
    environment: dict[str, str]

    def edgevid(self, *words: object) -> dict:
        """Run edgevid as it was unpacked there, and read its answer."""
        environment = ("env", f"PYTHONPATH={LIB}", "XDG_CACHE_HOME=/tmp/cache")
        done = self.machine.run(*environment, "python3", "-P", "-m", "edgevid", *words, "--json")
        return json.loads(done.stdout)


@pytest.fixture(scope="module", params=["arm64", "armhf"])
def board(request, tmp_path_factory) -> Iterator[Board]:
    folder = tmp_path_factory.mktemp(request.param)
    key = make_key(folder / "user_key")
    include = DISTRIBUTION if request.param == "armhf" else ()
    with (
        arm_machine(request.param, include) as machine,
        machine.sshd(key.with_suffix(".pub").read_text()) as port,
    ):
        environment = ssh_environment(folder, port)
        yield Board(machine, f"root@127.0.0.1:{port}", environment)


@pytest.fixture(scope="module")
def found(board) -> dict:
    """What ``targets probe`` says of it."""
    command = ("targets", "probe", board.address, "--trust-new", "--json")
    done = call_edgevid(*command, env=board.environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def package(found, real_bundle) -> Package:
    """What would be sent there; the wheels are kept from one run of the tests to the next."""
    facts, target = read(DeviceFacts, found["facts"], "the board"), targets.load(found["target"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(CACHE / "cache"))
        return build(facts, target, [real_bundle], b"")


@pytest.fixture(scope="module")
def flashed(board, package, real_bundle) -> Board:
    """The board with all of it unpacked."""
    lib = board.machine.root / LIB.lstrip("/")
    for wheel in json.loads(package.manifest)["runner"]["wheels"]:
        content = package.blobs[wheel["sha256"]]
        if isinstance(content, bytes):
            board.machine.write("/opt/code.zip", content)
            content = board.machine.root / "opt/code.zip"
        zipfile.ZipFile(content).extractall(lib)
    shutil.copy(real_bundle, board.machine.root / "opt/real.edgevid")
    return board


def test_a_look_over_ssh_proposes_its_target(found):
    facts: DeviceFacts = read(DeviceFacts, found["facts"], "the board")
    expected = {"aarch64": "generic-arm64", "armv7l": "generic-armv7"}
    assert found["target"] == expected[facts.architecture]
    assert found["fits"]
    assert (facts.python[:2], facts.glibc, facts.systemd) == ((3, 11), "2.36", "none")


@pytest.mark.soak
def test_the_golden_trajectory_passes_there(flashed):
    answer = flashed.edgevid(
        "verify", "/opt/real.edgevid", "--artifact", "tflite-int8", "--runtime", "tflite"
    )
    (check,) = answer["checks"]
    assert check["ok"]
    assert check["precision"] == "int8"


@pytest.mark.soak
def test_a_video_is_processed_there(flashed, video):
    shutil.copy(video, flashed.machine.root / "opt/film.mp4")
    wishes = ("--artifact", "tflite-int8", "--rate", "all", "--output", "/tmp/answers.jsonl")
    answer = flashed.edgevid("run", "/opt/real.edgevid", "/opt/film.mp4", *wishes)
    assert answer["frames"]["captured"] == answer["frames"]["answered"] == 40
    lines = (flashed.machine.root / "tmp/answers.jsonl").read_text().splitlines()
    assert len(lines) == 40


@pytest.mark.soak
def test_without_a_network_the_same_package_is_made_again(found, package, real_bundle, tmp_path):
    code = f"""
import json, sys
from pathlib import Path
from edgevid import targets
from edgevid.flash.package import build, same_release
from edgevid.flash.device_facts import read_facts
facts = read_facts(json.loads({json.dumps(found["facts"])!r}))
again = build(facts, targets.load({found["target"]!r}), [Path({str(real_bundle)!r})], b"")
print(same_release(again.manifest, Path(sys.argv[1]).read_bytes()))
"""
    (tmp_path / "manifest.json").write_bytes(package.manifest)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code, tmp_path / "manifest.json"],
        env={"XDG_CACHE_HOME": str(CACHE / "cache"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "True\n", done.stderr


def test_a_deployment_serves_there_and_repeating_it_changes_nothing(board, real_bundle, tmp_path):
    own = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_CACHE_HOME": str(CACHE / "cache")}
    words = ("flash", real_bundle, "--target", board.address, "--trust-new", "--health-s", 5)

    def flash(*more: object) -> dict:
        done = call_edgevid(*words, *more, "--json", env={**board.environment, **own})
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    first, again = flash("--source", "synthetic:96x64@5"), flash()
    assert first["health"]["engines"]["real"]["artifact"] == "tflite-int8"
    assert first["health"]["frames"]["answered"] > 0
    assert again["release"] == first["release"]
    assert not again["restarted"]
