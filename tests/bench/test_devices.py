"""A bench on whole devices of their own: a Debian with systemd, and an emulated ARM board."""

import json

import pytest

from rigs.arm import CACHE, arm_machine, ssh_environment
from rigs.bundles import write_null
from rigs.command import call_edgevid
from rigs.devices import Person, device
from rigs.processes import wait_for
from rigs.sshd import make_key

SHORT = ("--rounds", 2, "--samples", 100, "--json")


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    return Person(tmp_path_factory.mktemp("person"))


@pytest.fixture(scope="module")
def door(person):
    with device(person, "door") as made:
        person.inventory(made)
        yield made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_null(tmp_path_factory.mktemp("bundle") / "motion.edgevid")


def units(door):
    """Those of ours that are running."""
    words = ("list-units", "--plain", "--no-legend", "--state=active,activating", "edgevid*")
    output = door.machine.run("systemctl", *words).stdout
    return sorted(line.split()[0] for line in output.splitlines())


def bench(person, bundle, *words):
    done = person.edgevid("bench", bundle, "--target", "door", *SHORT, *words)
    assert done.returncode in (0, 3), done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def release(person, door, bundle):
    """What serves there."""
    words = ("--source", "synthetic:64x64@15", "--target", "door", "--health-s", 1, "--json")
    done = person.edgevid("flash", bundle, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["release"]


def test_the_flashed_runner_measures_and_the_paused_service_comes_back(
    person, door, bundle, video, release
):
    document = bench(person, bundle, "--source", video, "--scenario", "step", "--pause-service")
    assert document["release"] == release
    assert document["service"] == "paused" and not document["throw_away"]
    wait_for(lambda: units(door) == ["edgevid.service"], 20)
    assert not any((door.root / "opt/edgevid/jobs").glob("*/"))


def test_what_is_tuned_there_is_found_by_a_service_whose_user_systemd_makes_up(
    person, door, bundle, release
):
    found = bench(person, bundle, "--tune")["tuned"]
    assert found["kept"]
    cache = door.root / "var/cache/private/edgevid"
    assert uids(cache) == {cache.stat().st_uid}
    door.machine.run("systemctl", "restart", "edgevid")
    log = ("journalctl", "-u", "edgevid", "-o", "cat", "--no-pager")
    wait_for(lambda: f": tuned: {found['choice']}" in door.machine.run(*log).stdout, 30)
    assert not bench(person, bundle, "--tune", "--forget")["tuned"]["kept"]
    assert not list(cache.glob("edgevid/tuned/*"))


def test_systemd_itself_ends_the_pause_when_client_and_keeper_are_killed(
    person, door, bundle, video, release
):
    words = ("--target", "door", "--source", video, *SHORT, "--pause-service")
    running = person.start("bench", bundle, *words, "--sustained", "60s")
    lock = door.root / "opt/edgevid/jobs/lock"
    wait_for(lambda: door.machine.processes("edgevid.bench.engine_process"), 60)
    (user,) = {uid(door, pid) for pid in door.machine.processes("edgevid bench")}
    assert user != 0
    running.kill()
    running.communicate()
    assert any("-job-" in unit for unit in units(door))
    assert "edgevid.service" not in units(door)
    door.machine.run("kill", "-KILL", lock.read_text().split()[0])
    wait_for(lambda: units(door) == ["edgevid.service"], 30)
    assert not door.machine.processes("edgevid.bench.engine_process")


def uids(folder):
    return {path.stat().st_uid for path in folder.rglob("*")}


def uid(door, pid):
    status = door.machine.run("cat", f"/proc/{pid}/status").stdout
    return int(status.partition("Uid:")[2].split()[0])


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """An emulated board: its address, and the environment in which ``ssh`` gets there."""
    folder = tmp_path_factory.mktemp("board")
    key = make_key(folder / "user_key")
    with (
        arm_machine("arm64") as machine,
        machine.sshd(key.with_suffix(".pub").read_text()) as port,
    ):
        environment = ssh_environment(folder, port)
        own = {"XDG_CONFIG_HOME": str(folder / "own"), "XDG_CACHE_HOME": str(CACHE / "cache")}
        yield machine, f"root@127.0.0.1:{port}", {**environment, **own}


def test_an_arm_board_is_measured_with_a_throw_away_runner(board, bundle, video):
    machine, address, environment = board
    words = ("bench", bundle, "--target", address, "--source", video, *SHORT)
    words = (*words, "--scenario", "step", "--trust-new")
    done = call_edgevid(*words, env=environment)
    assert done.returncode in (0, 3), done.stderr
    document = json.loads(done.stdout)
    assert document["device"]["target"] == "generic-arm64"
    assert document["throw_away"] and document["results"][0]["step_ms"]
    assert not list((machine.root / "opt").glob("edgevid*"))
