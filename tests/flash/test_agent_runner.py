"""The agent and the real runner: what one tells is what the other judges."""

import ast
import sysconfig
import zlib
from pathlib import Path

import pytest

from edgevid import targets
from edgevid.bundle import Bundle
from edgevid.flash import agent, device_code
from rigs.agent import Device, Key, Release, quick_folder, until, wheel

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]

HEALTH = {"seconds": 3.0, "start_s": 120.0}
CAMERA = '[[camera]]\nname = "door"\nsource = "synthetic:96x64@16"\n'


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def wheels():
    """The modules that a device gets; numpy and click are those of this Python."""
    others = f"import sys\nsys.path.append({sysconfig.get_path('purelib')!r})\n"
    return {
        "edgevid-1.zip": device_code.archive(targets.load("linux-x86-64")),
        "others-1-py3-none-any.whl": wheel({"sitecustomize.py": others}),
    }


@pytest.fixture
def release(make_null_bundle, wheels):
    def make(serial, camera=CAMERA, **behaviour):
        path = make_null_bundle(f"{serial}.edgevid", **behaviour)
        accelerator = behaviour.get("on", "cpu")
        site = f'[[bundle]]\npath = "bundles/door.edgevid"\naccelerator = "{accelerator}"\n{camera}'
        made = Release(
            serial, wheels=wheels, bundles={"door.edgevid": path.read_bytes()}, site=site.encode()
        )
        made.data["bundles"][0]["key"] = Bundle.open(path).key
        return made

    return make


def test_the_real_runner_is_judged_by_its_status(key, release):
    with quick_folder() as folder:
        device = Device(folder / "r", key)
        first = release(1)
        done = device.flash(first, {**HEALTH, "p95_ms": 1000.0})
        assert done["healthy"], done
        assert done["health"]["p95_ms"] > 0 and done["health"]["frames"]["answered"] > 0
        told = device.serving(first)
        assert told["status"]["bundles"][0]["key"] == first.data["bundles"][0]["key"]
        pid = told["service"]["pid"]
        assert not device.flash(first)["started"]
        assert device.ask("status")["service"]["pid"] == pid

        # One whose golden trajectory is not met: it never serves.
        done = device.flash(release(2, faults=[{"at": 0, "kind": "wrong"}]), HEALTH)
        assert done["state"] == "rolled-back" and done["reason"]["stage"] == "start", done
        assert done["reason"]["exit_code"] and done["reason"]["log"]

        # One whose camera is not there.
        nobody = CAMERA.replace("synthetic:96x64@16", "rtsp://127.0.0.1:9/nothing")
        done = device.flash(release(3, nobody), HEALTH)
        assert (
            done["reason"]["stage"] == "frames" and "door: no frames" in done["reason"]["message"]
        )

        # One that is too slow for its budget.
        done = device.flash(release(4, latency_ms=40), {**HEALTH, "p95_ms": 20.0})
        assert done["reason"]["stage"] == "latency", done["reason"]

        # One whose accelerator answers wrongly, so that the CPU serves.
        lying = release(5, on="null", faults=[{"at": 0, "kind": "wrong"}])
        done = device.flash(lying, HEALTH)
        assert done["reason"]["stage"] in ("engine", "start"), done

        assert device.current() == first.id and device.serving(first)
        until(lambda: device.ask("status")["status"]["state"] == "serving")
        device.ask("uninstall")
        assert not device.root.exists()


def test_the_agent_is_sent_without_comments_and_docstrings_and_is_the_same_program():
    """Every deployment sends it, and a repeated one stays below 64 KiB."""

    def program(text: str) -> str:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""
        return ast.dump(tree)

    for file in Path(agent.__file__).parent.glob("*.py"):
        text = file.read_text("utf-8")
        assert program(agent.lean(text)) == program(text), file
    assert agent.lean('x = "# no comment"  # one\n# two\ny = 1\n') == 'x = "# no comment"\ny = 1\n'
    assert len(zlib.compress(agent.source(), 9)) < 52 << 10
