import json
import shutil
import subprocess
from pathlib import Path

import pytest

import edgevid.demo as journey
from edgevid.cli import COMMANDS
from edgevid.demo import Stage, demo, report, stages
from edgevid.demo.report import speed_table
from edgevid.errors import BadInput, CheckFailed, EdgevidError, EnvironmentFailed
from rigs.benches import measured, read
from rigs.bundles import write_null


def said(accuracy):
    metric = {"name": "accuracy", "source": accuracy, "artifact": accuracy}
    return {
        "convert": {"artifacts": [{"name": "tflite-int8", "metric": metric}]},
        "video": {},
        "answers": {"frames": {"captured": 1}},
        "bench": {},
    }


@pytest.fixture
def taken(monkeypatch, tmp_path):
    """Replace the commands by ones that leave their products at once; give what was called."""
    called = []

    def leave(stage, out):
        called.append(stage.title)
        product = out / stage.product
        product.parent.mkdir(parents=True, exist_ok=True)
        if not product.exists():
            product.write_text("")
        if stage.keep:
            stage.kept(out).parent.mkdir(exist_ok=True)
            stage.kept(out).write_text(json.dumps(said(called.accuracy)[stage.keep]))

    class Called(list):
        accuracy = 0.93

    called = Called()
    monkeypatch.setattr(journey, "run_stage", leave)
    monkeypatch.setattr("edgevid.demo.report.render_report", lambda *words: "<html>")
    return called


def flat(out):
    """Stages whose products are files, as `leave` makes them."""
    return tuple(
        Stage(s.title, s.args, "bench.made" if s.product == ".demo" else s.product, s.keep)
        for s in stages(out)
    )


def test_its_commands_can_be_typed_whatever_the_folder_is_called():
    for out in (Path("demo"), Path("a folder " * 20)):
        for stage in stages(out):
            typed = report.typed(stage.command).removeprefix("$ edgevid")
            shell = ["sh", "-c", f"printf '%s\\n' {typed}"]
            assert subprocess.check_output(shell, text=True).splitlines() == [*stage.args]
    assert max(map(len, report.typed(stages(Path("demo"))[-1].command).splitlines())) <= 108


def test_it_takes_up_where_it_was_stopped(taken, monkeypatch, tmp_path):
    monkeypatch.setattr(journey, "stages", flat)
    result = demo(tmp_path, lambda line: None)
    assert result["report"] == str(tmp_path / "report.html")
    assert len(taken) == 6
    (tmp_path / "answers.jsonl").unlink()
    (tmp_path / ".demo" / "bench.json").unlink()
    demo(tmp_path, lambda line: None)
    assert taken[6:] == [taken[4], taken[5]]


def test_a_model_that_did_not_learn_is_not_called_a_success(taken, monkeypatch, tmp_path):
    monkeypatch.setattr(journey, "stages", flat)
    taken.accuracy = 0.5
    with pytest.raises(CheckFailed, match=r"below 0\.85"):
        demo(tmp_path, lambda line: None)
    assert (tmp_path / "report.html").exists()


def test_the_products_are_the_promised_ones(tmp_path):
    products = {stage.product for stage in stages(tmp_path)}
    assert products >= {"data", "run", "motion.edgevid", "video.mp4", "answers.jsonl"}
    assert {stage.args[0] for stage in stages(tmp_path)} <= set(COMMANDS)


@pytest.mark.parametrize(
    ("code", "kind"), [(1, CheckFailed), (2, BadInput), (4, EnvironmentFailed)]
)
def test_a_stages_error_keeps_its_exit_code_and_message(monkeypatch, tmp_path, code, kind):
    def fail(*words, **options):
        return subprocess.CompletedProcess(words, code, json.dumps({"error": "because"}))

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(EdgevidError, match="because") as caught:
        journey.run_stage(stages(tmp_path)[0], tmp_path)
    assert caught.value.exit_code == code == kind.exit_code


@pytest.mark.parametrize("place", [0, -1])
def test_only_the_bench_may_doubt_its_result(monkeypatch, tmp_path, place):
    document = json.dumps({"valid": False, "reasons": ["it was hot"], "results": []})
    monkeypatch.setattr(
        subprocess, "run", lambda words, **more: subprocess.CompletedProcess(words, 3, document)
    )
    stage = stages(tmp_path)[place]
    if place == 0:
        with pytest.raises(EdgevidError):
            journey.run_stage(stage, tmp_path)
    else:
        journey.run_stage(stage, tmp_path)
        assert json.loads(stage.kept(tmp_path).read_bytes())["reasons"] == ["it was hot"]


@pytest.fixture(scope="module")
def benched(tmp_path_factory, video):
    path = write_null(tmp_path_factory.mktemp("demo") / "motion.edgevid")
    return read(measured(path, video))[0]


def test_a_bench_becomes_a_row_for_each_engine(benched):
    table = speed_table(benched.results)
    jobs = {one.job.scenario: one for one in benched.results}
    (row,) = table.rows
    assert row[:2] == ("null-float32", "null/cpu")
    assert row[2] == jobs["offline"].fps.value
    assert row[3] == jobs["single"].latency_ms["p50"].value
    assert row[table.head.index("p99 ms")] is None  # too few samples
    assert row[-1] == max(jobs["single"].first_answer_s)  # of two, the later one


def test_the_report_understands_what_a_run_and_a_bench_really_print(
    edgevid, benched, null_bundle, video, tmp_path
):
    shutil.copy(video, tmp_path / "video.mp4")
    done = edgevid("run", null_bundle, video, "--output", tmp_path / "answers.jsonl", "--json")
    answered = [json.loads(line) for line in (tmp_path / "answers.jsonl").open()]
    shown = {"label": answered[-1]["label"], "start_s": 0.0, "end_s": 2.5, "end_frame": 40}
    found = report.predictions_section(tmp_path, [shown], json.loads(done.stdout))
    assert found["artifact"] == "null-float32"
    assert "40 captured" in found["frames"]
    assert found["scores"].caption == "Scores over time."
    ((image, caption, right),) = found["stills"]
    assert image.startswith(b"\xff\xd8")
    assert caption.startswith(f"{shown['label']}: {shown['label']}")
    assert right
    assert report.speed_section(benched)["speed"] == speed_table(benched.results)
