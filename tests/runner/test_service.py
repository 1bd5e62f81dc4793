"""A whole service as a process: configuration, signals, what it tells, how it ends."""

import json
import signal
import time

import pytest

from rigs.service import answered, bundle, camera, holds


def test_a_service_serves_until_it_is_told_to_stop_and_loses_no_line(start, null_bundle):
    service = start("\n".join([bundle(null_bundle), camera("door"), camera("gate")]))
    status = service.until(lambda s: min(answered(s, "door"), answered(s, "gate")) > 5)
    assert status["state"] == "serving"
    assert not status["degraded"]
    assert status["alarms"] == []
    assert holds(status["frames"])
    code, summary, _ = service.end()
    assert code == 0
    assert summary["frames"]["in_flight"] == 0
    assert holds(summary["frames"])
    lines = service.lines()
    assert len(lines) == summary["frames"]["answered"]
    assert {line["source"] for line in lines} == {"door", "gate"}
    assert all(abs(line["captured_unix_s"] - time.time()) < 100 for line in lines)
    left = json.loads((service.status_folder / "status.json").read_text())
    assert left["state"] == "stopped"


def test_ctrl_c_ends_in_order_too(start, null_bundle):
    service = start("\n".join([bundle(null_bundle), camera("door")]))
    service.until(lambda s: answered(s, "door") > 2)
    code, summary, said = service.end(signal.SIGINT)
    assert code == 130
    assert summary["frames"]["answered"] == len(service.lines())
    assert "Traceback" not in said


def test_a_new_configuration_restarts_only_what_changed(start, null_bundle, make_null_bundle):
    other = make_null_bundle("other.edgevid")
    first = [bundle(null_bundle), camera("door"), camera("gate", bundles=["null"])]
    service = start("\n".join(first))
    before = service.until(lambda s: min(answered(s, "door"), answered(s, "gate")) > 5)
    kept = [bundle(null_bundle), camera("door", bundles=["null"])]
    service.write("\n".join([bundle(null_bundle), camera("door"), camera("yard")]))
    service.process.send_signal(signal.SIGHUP)
    after = service.until(lambda s: s["reloads"] == 1 and answered(s, "yard") > 5)
    assert answered(after, "door") > answered(before, "door"), "a camera that stayed was restarted"
    assert [one["name"] for one in after["cameras"]] == ["door", "yard"]
    # a second bundle: the cameras that all bundles answer start again
    service.write("\n".join([*kept, bundle(other), camera("yard")]))
    service.process.send_signal(signal.SIGHUP)
    both = service.until(lambda s: s["reloads"] == 2 and answered(s, "yard") > 6)
    assert {one["name"] for one in both["bundles"]} == {"null", "other"}
    pipelines = {one["name"]: len(one["sources"][0]["lanes"]) for one in both["cameras"]}
    assert pipelines == {"door": 1, "yard": 2}
    code, summary, said = service.end()
    assert code == 0, said
    assert holds(summary["frames"])
    assert summary["frames"]["answered"] == len(service.lines())
    assert {line.get("bundle") for line in service.lines()} >= {"null", "other"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[bundle]]\npth = 'x'", "did you mean 'path'"),
        ('[[bundle]]\npath = "gone.edgevid"\n[[camera]]\nsource = "synthetic:"', "does not exist"),
        ("not toml", "TOML"),
    ],
)
def test_an_invalid_configuration_changes_nothing(start, null_bundle, text, says):
    service = start("\n".join([bundle(null_bundle), camera("door")]))
    before = service.until(lambda s: answered(s, "door") > 2)
    service.config.write_text(text)
    service.process.send_signal(signal.SIGHUP)
    after = service.until(lambda s: s["refused_configuration"])
    assert says in after["refused_configuration"]
    assert after["alarms"]
    then = service.until(lambda s: answered(s, "door") > answered(before, "door") + 5)
    assert then["pid"] == before["pid"]
    code, _, said = service.end()
    assert code == 0
    assert "the old one stays in use" in said


def test_several_bundles_share_one_decode(start, null_bundle, make_null_bundle, video):
    other = make_null_bundle("other.edgevid")
    film = camera("film", source=str(video))
    service = start("\n".join([bundle(null_bundle), bundle(other, rate="all"), film]))
    out, said = service.process.communicate(timeout=60)
    assert service.process.returncode == 0, said
    lines = service.lines()
    by_bundle = {
        name: [line["scores"] for line in lines if line["bundle"] == name]
        for name in ("null", "other")
    }
    assert len(by_bundle["null"]) == 40
    assert by_bundle["null"] == by_bundle["other"]
    assert json.loads(out)["frames"]["captured"] == 80


def test_a_file_that_was_moved_away_is_written_anew_after_sighup(start, null_bundle):
    service = start("\n".join([bundle(null_bundle), camera("door")]))
    service.until(lambda s: answered(s, "door") > 2)
    service.answers.rename(service.folder / "old.jsonl")
    service.process.send_signal(signal.SIGHUP)
    service.until(lambda s: s["reloads"] == 1 and service.lines())
    assert service.end()[0] == 0


def test_an_engine_that_is_gone_for_good_ends_the_service_with_its_reason(start, null_bundle):
    fault = json.dumps({"faults": [{"at": 30, "kind": "error"}]})
    service = start("\n".join([bundle(null_bundle), camera("door")]), EDGEVID_NULL=fault)
    out, said = service.process.communicate(timeout=60)
    assert service.process.returncode == 4
    assert "failed on schedule" in said
    assert json.loads(out)["kind"] == "EngineFailed"
