"""The configuration of a service: what it may say, what is refused, and what a change restarts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgevid import settings as toml
from edgevid.errors import BadInput
from edgevid.runner import config as configs
from edgevid.runner.check import check
from edgevid.runner.config import (
    BundleUse,
    CameraUse,
    Change,
    RunConfig,
    changes,
    derived_name,
    read_config,
    read_password,
)

EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "examples" / "service.toml"
SMALL = """
[[bundle]]
path = "motion.edgevid"

[[camera]]
source = "door.mp4"
"""


def written(tmp_path: Path, text: str) -> RunConfig:
    file = tmp_path / "site.toml"
    file.write_text(text)
    return read_config(file)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(BadInput) as caught:
        written(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(tmp_path / "site.toml"))
    return message.removeprefix(str(tmp_path / ""))


def test_the_smallest_configuration_has_sensible_defaults(tmp_path):
    config = written(tmp_path, SMALL)
    assert config == RunConfig(
        bundles=(BundleUse("motion", tmp_path / "motion.edgevid"),),
        cameras=(CameraUse("door", str(tmp_path / "door.mp4")),),
    )
    assert config.bundles_of(config.cameras[0]) == config.bundles


def test_the_example_of_the_documents_is_read_and_shows_every_key():
    config = read_config(EXAMPLE)
    folder = EXAMPLE.parent
    assert config.status == Path("/run/edgevid")  # an absolute path stays
    assert config.output == folder / "results.jsonl"
    assert config.state == Path("/var/lib/edgevid")
    assert [(s.kind, s.name, s.queue, s.options.path) for s in config.sinks] == [
        ("jsonl", "copy", 1000, folder / "copy.jsonl")
    ]
    assert [b.name for b in config.bundles] == ["motion", "careful"]
    assert config.bundles[1] == BundleUse(
        "careful", folder / "motion.edgevid", "openvino-float32", "openvino", "cpu", 2, "all"
    )
    door, yard, gate, roof = config.cameras
    assert (door.source, door.user) == ("rtsp://10.0.0.5/stream1", "viewer")
    assert door.password_file == folder / "door.password"
    assert (door.stall_s, door.latency_ms, door.gate, door.bundles) == (
        10.0,
        500.0,
        True,
        ("motion",),
    )
    assert gate.credential == "gate"
    assert (roof.tls, roof.tls_ca) == ("verify", folder / "roof.pem")
    assert (yard.source, yard.skip_loop_filter) == (str(folder / "yard.mp4"), True)
    tables = toml.read(EXAMPLE).data
    for kind, table in (("bundle", configs._BundleTable), ("camera", configs._CameraTable)):
        shown = {key for entry in tables[kind] for key in entry}
        assert shown == set(table.__dataclass_fields__)
    assert {*tables, "event"} == set(configs._File.__dataclass_fields__)  # no stage is built in


@pytest.mark.parametrize(
    ("said", "meant"),
    [('"all"', "all"), ("12.5", "12.5"), ("5", "5"), ('"12.5"', "12.5"), ("1e-3", "0.001")],
)
def test_a_rate_may_be_a_word_a_number_or_its_text(tmp_path, said, meant):
    text = SMALL.replace('edgevid"', f'edgevid"\nrate = {said}')
    assert written(tmp_path, text).bundles[0].rate == meant


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sorce = 'x'", ":7: camera[0] has an unknown key 'sorce'; did you mean 'source'?"),
        ("name = 'door'\nsorce = 1", ":8: camera 'door' has an unknown key 'sorce'"),
        ("password = 'hunter2'", "unknown key 'password'; did you mean 'password_file'?"),
        ("gate = 1", ":7: camera[0]: gate must be true or false, not 1"),
        ("latency_ms = 0", ":7: camera[0]: latency_ms must be a number above 0, not 0"),
        ("stall_s = -1.5", ":7: camera[0]: stall_s must be a number above 0, not -1.5"),
        ("stall_s = inf", "stall_s must be a number above 0, not inf"),
        ("transport = 'tpc'", "transport must be one of tcp, udp; did you mean 'tcp'?"),
        ("bundles = 'motion'", ":7: camera[0]: bundles must be a list"),
        (
            "bundles = [\n'motion',\n'moton']",
            ":9: camera 'door': there is no bundle 'moton'; did you",
        ),
        ("name = ''", ":7: camera ''"),
        ('name = "a\\nb"', "name must be text that can be printed"),
        (f"name = '{'x' * 65}'", "name must be at most 64 characters long"),
        ("password_file = ''", "password_file must be the name of a file"),
        ("source = 'again.mp4'", ":7: not valid TOML (Cannot overwrite a value)"),
        ("[[camera]]\nsource='x'\nname='door'", ":9: camera 'door' is already defined on line 5"),
        ("[[camera]]\nsource='more/door.mp4'", ":7: camera 'door' is already defined on line 5"),
        ("[[camera]]\nname = 'x'", ":7: camera 'x' lacks the key 'source'; add it"),
        ("[[camera]]\nsource = 'rtps://h/x'", ":8: unknown source 'rtps'; did you mean rtsp"),
        ("[[bundle]]\npath = 'x/motion.edgevid'", "bundle 'motion' is already defined on line 2"),
        ("[[bundle]]\npath = 'x'\nthreads = 0", "threads must be a whole number of at least 1"),
        ("[[bundle]]\npath = 'x'\nthreads = true", "threads must be a whole number of at least 1"),
        (
            "[[bundle]]\npath = 'x'\nrate = 0",
            ":9: bundle[1]: rate must be all, or steps per second",
        ),
        ("[[bundle]]\npath = 'x'\nrate = 'fast'", "rate must be all, or steps per second"),
        ("[[bundle]]\npath = 'x'\nrate = nan", "rate must be all, or steps per second"),
        ("[[bundel]]", ":7: unknown key 'bundel'; did you mean 'bundle'?"),
        ("oops", ":7: not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_with_line_key_and_mend(tmp_path, line, says):
    assert says in refusal(tmp_path, SMALL + line)


def test_a_service_needs_a_bundle_and_a_camera(tmp_path):
    assert "has no bundle; add a table [[bundle]]" in refusal(tmp_path, "[[camera]]\nsource='a'")
    assert "has no camera; add a table [[camera]]" in refusal(tmp_path, "[[bundle]]\npath='a'")
    assert "has no bundle" in refusal(tmp_path, "")


def test_names_come_from_files_and_hosts_and_never_hold_a_secret():
    assert derived_name("films/yard.mp4") == "yard"
    assert derived_name("/dev/video0") == "video0"
    assert derived_name("rtsp://u:hunter2@10.0.0.5:554/x?token=hunter2") == "10.0.0.5"
    assert derived_name("rtsp://[broken") == "rtsp"


def test_a_password_in_a_url_is_taken_and_never_shown(tmp_path):
    text = SMALL.replace("door.mp4", "rtsp://viewer:hunter2@10.0.0.5/x")
    config = written(tmp_path, text)
    assert config.cameras[0].source == "rtsp://viewer:hunter2@10.0.0.5/x"
    assert "hunter2" not in repr(config)
    assert "hunter2" not in str(check(config))
    for wrong in ("gate = 3", "name = 7", "[[camera]]\nsource = 'rtsp://u:hunter2@10.0.0.5/y'"):
        assert "hunter2" not in refusal(tmp_path, text + wrong)


def test_a_password_is_read_from_its_file_at_run(tmp_path):
    camera = written(tmp_path, SMALL + "user = 'u'\npassword_file = 'door.password'").cameras[0]
    with pytest.raises(BadInput, match=r"camera 'door': password_file .*No such file"):
        read_password(camera)
    file = tmp_path / "door.password"
    file.write_text(" hunter2 \n")
    assert read_password(camera) == " hunter2 "  # blanks may belong to it, the line's end does not
    file.write_text("\n")
    with pytest.raises(BadInput, match="is empty"):
        read_password(camera)
    file.write_bytes(b"\xffhunter2")
    with pytest.raises(BadInput, match="is not UTF-8; save it as UTF-8") as caught:
        read_password(camera)
    assert "hunter2" not in str(caught.value)
    assert read_password(replace(camera, password_file=None)) is None
    for content in (b"\xef\xbb\xbfhunter2\r\n", "hunter2\r\n".encode("utf-16")):
        file.write_bytes(content)
        assert read_password(camera) == "hunter2"
    file.write_text("hunter2\nhunter3\n")
    with pytest.raises(BadInput, match="has several lines") as caught:
        read_password(camera)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_a_configuration_is_read_as_editors_save_it(tmp_path, codec):
    text = SMALL.replace("\n", "\r\n")
    plain = written(tmp_path, SMALL)
    (tmp_path / "site.toml").write_bytes(text.encode(codec))
    assert read_config(tmp_path / "site.toml") == plain


def test_home_is_expanded_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    config = written(
        tmp_path,
        'output = "~/o"\nstatus = "$HOME/s"\n[[bundle]]\npath = "~/b.edgevid"\n[[camera]]\n'
        'source = "~/v.mp4"\npassword_file = "~/p"\n[[sink]]\nkind = "jsonl"\npath = "~/j"\n',
    )
    home, camera = Path("/home/ada"), config.cameras[0]
    assert (config.output, config.status) == (home / "o", home / "s")
    assert (config.bundles[0].path, camera.source) == (home / "b.edgevid", str(home / "v.mp4"))
    assert (camera.password_file, config.sinks[0].options.path) == (home / "p", home / "j")


# --- what a change restarts ---------------------------------------------------------------------

OLD = RunConfig(
    bundles=(BundleUse("a", Path("a.edgevid")), BundleUse("b", Path("b.edgevid"))),
    cameras=(
        CameraUse("door", "rtsp://h/1", bundles=("a",)),
        CameraUse("yard", "rtsp://h/2", bundles=("b",)),
        CameraUse("gate", "rtsp://h/3"),
    ),
)


def with_bundles(*bundles: BundleUse) -> RunConfig:
    return replace(OLD, bundles=bundles)


def with_cameras(*cameras: CameraUse) -> RunConfig:
    return replace(OLD, cameras=cameras)


def test_nothing_changed_restarts_nothing():
    same = changes(OLD, replace(OLD))
    assert not same
    assert same.cameras.kept == ("door", "yard", "gate")
    assert same.bundles.kept == ("a", "b")


def test_cameras_are_added_removed_and_changed_on_their_own():
    door, yard, _ = OLD.cameras
    new = with_cameras(door, replace(yard, latency_ms=5.0), CameraUse("new", "x"))
    found = changes(OLD, new)
    assert found
    assert found.cameras == Change(("new",), ("gate",), ("yard",), ("door",))
    assert not found.bundles


def test_a_camera_whose_bundle_changed_restarts_too():
    a, b = OLD.bundles
    found = changes(OLD, with_bundles(a, replace(b, threads=2)))
    assert found.bundles == Change(changed=("b",), kept=("a",))
    assert found.cameras == Change(changed=("yard", "gate"), kept=("door",))


def test_a_camera_of_all_bundles_restarts_where_one_comes_or_goes():
    a, b = OLD.bundles
    found = changes(OLD, with_bundles(a, b, BundleUse("c", Path("c"))))
    assert found.bundles.added == ("c",)
    assert found.cameras == Change(changed=("gate",), kept=("door", "yard"))


def test_a_bundle_whose_file_was_replaced_counts_as_changed():
    found = changes(OLD, OLD, replaced={"a"})
    assert found.bundles == Change(changed=("a",), kept=("b",))
    assert found.cameras == Change(changed=("door", "gate"), kept=("yard",))


def test_where_answers_go_is_told_apart():
    found = changes(OLD, replace(OLD, output=Path("x")))
    assert found
    assert (found.output, found.status) == (True, False)
    assert not found.cameras
    assert changes(OLD, replace(OLD, status=Path("x"))).status


def test_the_order_of_cameras_is_no_change():
    assert not changes(OLD, replace(OLD, cameras=OLD.cameras[::-1]))


# --- edgevid run --check --------------------------------------------------------------------------


def found_in(config: RunConfig) -> list[str]:
    return [f"{finding.state} {finding.where}: {finding.text}" for finding in check(config)]


@pytest.fixture
def sound(null_bundle, video) -> RunConfig:
    use = BundleUse("motion", null_bundle, runtime="null")
    return RunConfig((use,), (CameraUse("door", str(video)),))


def test_a_sound_configuration_has_no_findings(sound):
    assert found_in(sound) == []


@pytest.mark.parametrize(
    ("bundle", "says"),
    [
        ({"path": Path("/none.edgevid")}, "/none.edgevid does not exist"),
        ({"artifact": "null-float16"}, "did you mean null-float32"),
        ({"runtime": "nul"}, "did you mean null"),
        ({"accelerator": "gpu"}, "gpu"),
    ],
)
def test_a_bundle_that_cannot_be_served_is_found(sound, bundle, says):
    (finding,) = found_in(replace(sound, bundles=(replace(sound.bundles[0], **bundle),)))
    assert finding.startswith("fail bundle 'motion': ")
    assert says in finding


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        ({"source": "/none.mp4"}, "fail camera 'door': source /none.mp4: No such file"),
        ({"source": "/"}, "is a folder; name a video file"),
        ({"source": "/dev/video77"}, "warn camera 'door': source /dev/video77: No such file"),
        ({"source": "rtsp://u:hunter2@h/x"}, "warn camera 'door': source holds a login or a key"),
        ({"password_file": Path("/none")}, "fail camera 'door': password_file /none: No such file"),
    ],
)
def test_a_camera_that_cannot_be_read_is_found_without_contact(sound, camera, says):
    (finding,) = found_in(replace(sound, cameras=(replace(sound.cameras[0], **camera),)))
    assert says in finding
    assert "hunter2" not in finding


def test_a_password_that_everybody_can_read_is_found(sound, tmp_path):
    file = tmp_path / "door.password"
    file.write_text("hunter2")
    config = replace(sound, cameras=(replace(sound.cameras[0], password_file=file),))
    file.chmod(0o644)
    (finding,) = found_in(config)
    assert "everybody here can read password_file; run: chmod o-r" in finding
    file.chmod(0o640)
    assert found_in(config) == []


def test_an_output_without_a_folder_is_found(sound):
    (finding,) = found_in(replace(sound, output=Path("/none/answers.jsonl")))
    assert finding == "warn output: the folder /none does not exist; it is created at start"


def test_check_on_the_command_line(edgevid, tmp_path, null_bundle, video):
    file = tmp_path / "site.toml"
    file.write_text(f"[[bundle]]\npath='{null_bundle}'\n[[camera]]\nsource='{video}'\n")
    done = edgevid("run", "--check", "--config", file, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True
    file.write_text(f"[[bundle]]\npath='{null_bundle}'\n[[camera]]\nsorce='{video}'\n")
    done = edgevid("run", "--check", "--config", file)
    assert done.returncode == 2
    assert (
        "site.toml:4: camera[0] has an unknown key 'sorce'; did you mean 'source'?" in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1
