"""The configuration that a release serves with: what stays, what goes, and what is asked."""

import tomllib
from pathlib import Path

import pytest

from edgevid.errors import BadInput
from edgevid.flash import service_config
from edgevid.runner.config import read_config

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]

BEFORE = b"""
output = "/var/lib/answers.jsonl"

[[bundle]]
name = "careful"
path = "bundles/motion.edgevid"
threads = 2

[[camera]]
name = "door"
source = "rtsp://10.0.0.5/stream"
bundles = ["careful"]
"""


def words(*bundles, sources=(), before=None, add=False, replace=False):
    return service_config.from_arguments(bundles, sources, before, add=add, replace=replace)


def served(site) -> dict[str, str]:
    tables = tomllib.loads(site.text.decode())["bundle"]
    return {table["name"]: table["path"] for table in tables}


def test_a_first_bundle_with_its_camera(tmp_path):
    bundle = tmp_path / "motion.edgevid"
    site = words(bundle, sources=["rtsp://10.0.0.5/stream"])
    (tmp_path / "site.toml").write_bytes(site.text)
    config = read_config(tmp_path / "site.toml")
    assert config.bundles[0].path == tmp_path / "bundles" / "motion.edgevid"
    assert config.cameras[0].source == "rtsp://10.0.0.5/stream"
    assert (site.bundles, site.added, site.kept) == ((bundle,), ("motion.edgevid",), ())


def test_a_bundle_of_the_same_name_replaces_the_old_one(tmp_path):
    site = words(tmp_path / "motion.edgevid", before=BEFORE)
    assert site.replaced == ("motion.edgevid",)
    assert served(site) == {"careful": "bundles/motion.edgevid"}
    assert tomllib.loads(site.text.decode())["bundle"][0]["threads"] == 2
    assert b"rtsp://10.0.0.5/stream" in site.text
    assert b"/var/lib/answers.jsonl" in site.text


def test_another_bundle_is_added_or_replaces_only_if_asked(tmp_path):
    other = tmp_path / "count.edgevid"
    with pytest.raises(BadInput, match=r"serves motion\.edgevid already; give --add .* --replace"):
        words(other, before=BEFORE)
    added = words(other, before=BEFORE, add=True)
    assert served(added) == {
        "careful": "bundles/motion.edgevid",
        "count": "bundles/count.edgevid",
    }
    assert (added.kept, added.added) == (("motion.edgevid",), ("count.edgevid",))
    replaced = words(other, before=BEFORE, replace=True)
    assert served(replaced) == {"count": "bundles/count.edgevid"}
    assert (replaced.kept, replaced.removed) == ((), ("motion.edgevid",))
    assert "bundles" not in tomllib.loads(replaced.text.decode())["camera"][0]


def test_cameras_alone_can_be_changed():
    site = words(sources=["synthetic:96x64@5"], before=BEFORE)
    assert site.kept == ("motion.edgevid",)
    assert tomllib.loads(site.text.decode())["camera"] == [{"source": "synthetic:96x64@5"}]


def test_a_users_own_configuration_is_adapted_to_the_device(tmp_path):
    (tmp_path / "models").mkdir()
    bundle = tmp_path / "models" / "motion.edgevid"
    bundle.touch()
    config = tmp_path / "site.toml"
    text = """
output = "answers.jsonl"
status = "here"
[[bundle]]
path = "models/motion.edgevid"
[[camera]]
name = "Tür \\"2\\" \U0001f6aa"
source = "rtsp://10.0.0.5/stream"
password_file = "/etc/edgevid/door.password"
latency_ms = 250.5
bundles = ["motion"]
"""
    config.write_text(text)
    site = service_config.from_config(config)
    data = tomllib.loads(site.text.decode())
    assert site.bundles == (bundle,)
    assert set(data) == {"bundle", "camera"}
    assert data["bundle"] == [{"path": "bundles/motion.edgevid", "name": "motion"}]
    assert data["camera"] == tomllib.loads(text)["camera"]


def test_sinks_and_events_are_kept_unless_all_they_apply_to_is_removed():
    more = b"""
[[sink]]
kind = "jsonl"
path = "/var/lib/more.jsonl"

[[event]]
kind = "zones"
name = "yard"
zones = [{ name = "left half", points = [[0, 0], [0.5, 0], [0.5, 1]] }]

[[event]]
kind = "rules"
name = "of motion"
bundles = ["careful"]

[[event]]
kind = "rules"
name = "of both"
bundles = ["careful", "count"]
cameras = ["door"]
"""
    before = tomllib.loads((BEFORE + more).decode())
    added = words(Path("count.edgevid"), before=BEFORE + more, add=True)
    data = tomllib.loads(added.text.decode())
    assert (data["sink"], data["event"]) == (before["sink"], before["event"])
    replaced = words(Path("count.edgevid"), before=BEFORE + more, replace=True)
    data = tomllib.loads(replaced.text.decode())
    assert data["sink"] == before["sink"]
    assert data["event"][0] == before["event"][0]
    assert [one["name"] for one in data["event"]] == ["yard", "of both"]
    assert data["event"][1]["bundles"] == ["count"]
    moved = words(sources=["synthetic:96x64@5"], before=BEFORE + more)
    names = [one["name"] for one in tomllib.loads(moved.text.decode())["event"]]
    assert names == ["yard", "of motion"]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ('password_file = "~/p"', "site.toml:6: password_file '~/p' is a file on the device"),
        ('password_file = "gone"', "password_file"),
        ("bundles = ['gone']", "there is no bundle 'gone'"),
        (
            "[[sink]]\nkind = 'jsonl'\npath = 'more.jsonl'",
            "site.toml:8: path 'more.jsonl' is a file on the device; give its absolute path there",
        ),
    ],
)
def test_what_cannot_work_on_the_device_is_rejected_with_its_line(tmp_path, bad, says):
    (tmp_path / "motion.edgevid").touch()
    config = tmp_path / "site.toml"
    config.write_text(f"""
[[bundle]]
path = "motion.edgevid"
[[camera]]
source = "rtsp://10.0.0.5/stream"
{bad}
""")
    with pytest.raises(BadInput) as caught:
        service_config.from_config(config)
    assert says in str(caught.value)
