"""A second installation, which a change of sudo would bring about, is seen and refused."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgevid.errors import BadInput
from edgevid.flash import commands, fleet, plan
from edgevid.flash.activation import Health, activate
from edgevid.flash.agent import service, session
from edgevid.flash.agent.session import AgentSession
from edgevid.flash.agent_client import raise_fault
from edgevid.flash.inventory import DeviceEntry
from edgevid.flash.replies import (
    ACTIVATE,
    CHECK,
    SESSION,
    STATUS,
    ActivateReply,
    AgentFault,
    StatusReply,
    WatchReply,
    read,
)
from edgevid.flash.request import DeployOptions, DeployRequest

CHANGES = (CHECK, SESSION)


class Pipe:
    """Hands requests to a session of the agent in this process, and gives its replies."""

    name = "pi"

    def __init__(self):
        self.wire_bytes = 0

    def call(self, verb, fields=None, **_):
        request = {"do": verb.name, **(fields or {})}
        inbox, outbox = [request, None], []
        transport = SimpleNamespace(
            request=lambda: inbox.pop(0), send=outbox.append, payload=lambda: iter(()), silence_s=0
        )
        AgentSession(transport).run()
        (reply,) = outbox
        if "error" in reply:
            raise_fault(self.name, read(AgentFault, reply["error"], self.name))
        return read(verb.record, reply, self.name)


@pytest.fixture
def place(monkeypatch):
    """Where root's and the user's installation would be; the function says who the agent is."""
    with tempfile.TemporaryDirectory(prefix="e") as short:  # the path of the folder is limited
        yield _place(Path(short), monkeypatch)


def _place(tmp_path, monkeypatch):
    system, home = tmp_path / "opt", tmp_path / "home"
    monkeypatch.setattr(service, "SYSTEM_FOLDER", system)
    monkeypatch.setattr(service.pwd, "getpwnam", lambda name: SimpleNamespace(pw_dir=str(home)))
    user = home / ".local" / "share" / "edgevid"

    def become(*, root: bool) -> Pipe:
        monkeypatch.setattr(session.os, "geteuid", lambda: 0 if root else 1000)
        monkeypatch.setenv("HOME", str(tmp_path / "root" if root else home))
        if root:
            monkeypatch.setenv("SUDO_USER", "pi")
        else:
            monkeypatch.delenv("SUDO_USER", raising=False)
        return Pipe()

    return SimpleNamespace(system=system, user=user, become=become)


def install(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "releases").mkdir()
    (folder / ".edgevid").touch()
    os.symlink("releases/gone", folder / "current")  # noqa: PTH211


@pytest.mark.parametrize("do", CHANGES)
def test_a_users_agent_refuses_beside_the_systems_installation(place, do):
    install(place.system)
    agent = place.become(root=False)
    with pytest.raises(BadInput) as caught:
        agent.call(do)
    assert str(caught.value) == (
        f"pi: edgevid is installed in {place.system}, and sudo asks this user for a password; "
        "the device says: allow sudo without password, or log in as root; or add a second: "
        f"--root {place.user}"
    )
    assert not place.user.exists()
    assert agent.call(SESSION, {"root": str(place.user)}).root == str(place.user)


@pytest.mark.parametrize("do", CHANGES)
def test_roots_agent_refuses_beside_the_users_installation(place, do):
    install(place.user)
    with pytest.raises(
        BadInput, match=f"for one user, in {place.user}; the device says: remove it, with --unins"
    ):
        place.become(root=True).call(do)
    assert not place.system.exists()


def test_two_installations_are_refused_until_one_is_removed(place):
    install(place.system)
    install(place.user)
    with pytest.raises(
        BadInput, match=f"twice, in {place.system} and in {place.user}; the device says: remove"
    ):
        place.become(root=False).call(SESSION)


def test_a_plan_stops_before_anything_is_built(place):
    install(place.system)
    with pytest.raises(BadInput, match="sudo asks this user for a password"):
        plan.make(place.become(root=False), DeployRequest((Path("x.edgevid"),)), DeployOptions())


def test_uninstall_names_the_installation_that_it_cannot_or_does_not_remove(place):
    install(place.system)
    agent = place.become(root=False)
    with pytest.raises(BadInput, match=f"edgevid is installed in {place.system}"):
        commands.uninstall(agent)
    install(place.user)
    done = commands.uninstall(agent)
    assert done["others"] == [str(place.system)] and not place.user.exists()


def test_fleet_status_shows_both(place):
    install(place.system)
    agent = place.become(root=False)
    found = fleet.read_condition(DeviceEntry("pi", "pi"), agent.call(STATUS), None)
    assert (found.health, found.exit_code) == ("empty", 1)
    assert found.others == (str(place.system),)
    assert found.reason == f"also installed in {place.system}"
    named = agent.call(STATUS, {"root": str(place.user)})
    assert named.others == ()


def test_a_lone_installation_is_no_second_one(place):
    install(place.system)
    root = place.become(root=True)
    assert root.call(STATUS).others == ()
    assert root.call(SESSION).root == str(place.system)


def test_what_json_shows_of_a_release_people_see_too():
    replies = [
        {"release": "r1", "started": True, "activation": "t"},
        {
            "state": "idle",
            "healthy": True,
            "health": {
                "p95_ms": 2.0,
                "degraded": True,
                "notes": ["it does not start with the device, which has no crontab"],
            },
        },
    ]
    records = [read(ActivateReply, replies[0], "pi"), read(WatchReply, replies[1], "pi")]
    device = SimpleNamespace(name="pi", call=lambda *_, **__: records.pop(0))
    lines = []
    found = activate(device, ACTIVATE, {"id": "r1"}, Health(1.0), lines.append)
    assert found["outcome"] == "serving" and found["health"]["degraded"]
    assert lines[1:] == [
        "pi: it does not start with the device, which has no crontab",
        "pi: it serves on a fallback engine; see: edgevid fleet status",
    ]
    reply = {
        "installed": {"current": "r1", "journal": {"state": "idle"}},
        "status": {"state": "serving"},
        "service": {"boot": False},
    }
    status = read(StatusReply, reply, "pi")
    condition = fleet.read_condition(DeviceEntry("pi", "pi"), status, 2.0)
    assert condition.reason == "does not start with the device"
    assert (condition.health, condition.exit_code) == ("serving", 0)
    assert condition.reason in condition.row()
