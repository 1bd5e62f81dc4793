import json

import click
import pytest

from edgevid.cli import COMMANDS, cli

COMMAND_WORDS = [[name] for name in COMMANDS] + [
    ["dataset", "check"],
    ["dataset", "synth", "motion"],
    ["dataset", "synth", "video"],
    ["targets", "show"],
]


@pytest.mark.parametrize("words", COMMAND_WORDS, ids=" ".join)
def test_every_command_has_help_with_an_example(words):
    command = cli
    context = click.Context(cli, info_name="edgevid")
    for word in words:
        command = command.get_command(context, word)
        context = click.Context(command, parent=context, info_name=word)
    text = command.get_help(context)
    if not isinstance(command, click.Group) or command.invoke_without_command:
        assert "Example:" in text
        assert "--json" in text
    assert command.name == words[-1]


def test_the_list_of_commands_needs_none_of_them(edgevid):
    done = edgevid("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rn"], "did you mean run?"),
        (["run"], "give a bundle and its sources"),
        (["run", "gone.edgevid", "gone.mp4"], "does not exist"),
        (["run", "--rat", "5", "a", "b"], "No such option"),
        (["train", "gone", "--out", "x"], "gone: no such folder"),
        (["evaluate", "gone", "gone"], "gone"),
        (["convert", "gone", "-o", "x.edgevid"], "gone"),
        (["dataset", "check", "gone"], "gone: no such folder"),
        (["targets", "show", "lokal"], "did you mean local?"),
        (["targets", "generic-arm64"], "use: edgevid targets show generic-arm64"),
        (["targets", "pi@10.0.0.21"], "use: edgevid targets probe pi@10.0.0.21"),
        (["targets", "generic-arm46"], "did you mean generic-arm64?"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(edgevid, tmp_path, words, says):
    for extra in ([], ["--json"]):
        done = edgevid(*words, *extra, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
        if extra:
            assert says in json.loads(done.stdout)["error"]
        else:
            assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(edgevid, tmp_path):
    done = edgevid("run", "gone.edgevid", "x.mp4", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_run_answers_and_sums_up(edgevid, null_bundle, video, tmp_path):
    out = tmp_path / "answers.jsonl"
    done = edgevid("run", null_bundle, video, "--output", out, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert summary["frames"]["captured"] == summary["frames"]["answered"] == len(lines) == 40
    assert {"p50", "p90", "p99"} <= set(summary["latency_ms"])
    (engine,) = summary["engines"]
    assert engine["serving"]["artifact"] == "null-float32"
    assert engine["serving"]["runtime"] == "null"
    assert engine["degraded"] is False
    assert summary["truncated"] is False
    assert list(lines[0]) == ["source", "index", "pts_s", "warm", "label", "score", "scores"]


def test_run_writes_lines_to_stdout_where_nothing_else_is_asked(edgevid, null_bundle, video):
    done = edgevid("run", null_bundle, video, "--rate", "4")
    assert [json.loads(line)["index"] for line in done.stdout.splitlines()] == list(range(0, 40, 4))


def test_a_truncated_video_is_answered_and_said(edgevid, null_bundle, truncated_video, tmp_path):
    out = tmp_path / "answers.jsonl"
    done = edgevid("run", null_bundle, truncated_video, "--output", out, "--json")
    assert done.returncode == 2
    summary = json.loads(done.stdout)
    assert summary["truncated"] is True
    assert len(out.read_text().splitlines()) == summary["frames"]["answered"] > 0
    assert "truncated" in done.stderr


def test_text_that_is_named_mp4_leaves_the_old_answers(edgevid, null_bundle, tmp_path):
    out = tmp_path / "answers.jsonl"
    out.write_text("old\n")
    fake = tmp_path / "fake.mp4"
    fake.write_text("no video\n" * 100)
    done = edgevid("run", null_bundle, fake, "--output", out)
    assert done.returncode == 2
    assert "not a readable video" in done.stderr
    assert out.read_text() == "old\n"


@pytest.mark.parametrize("rate", ["0", "-3", "fast", "nan", "inf"])
def test_a_rate_that_makes_no_sense_is_refused(edgevid, null_bundle, video, rate):
    done = edgevid("run", null_bundle, video, "--rate", rate)
    assert done.returncode == 2
    assert "give all, or steps per second" in done.stderr


def test_verify_and_inspect_a_bundle(edgevid, null_bundle):
    checks = json.loads(edgevid("verify", null_bundle, "--runtime", "null", "--json").stdout)
    assert checks["ok"] is True
    assert set(checks["checks"][0]) >= {
        *("artifact", "runtime", "accelerator", "precision", "ok", "max_abs", "tolerance")
    }
    shown = json.loads(edgevid("inspect", null_bundle, "--json").stdout)
    assert shown["artifacts"][0]["name"] == "null-float32"
    text = edgevid("inspect", null_bundle).stdout
    assert "dark, middle, bright" in text
    known, claimed = text.split("Claims of the bundle's author")
    assert "sha256" in known and "max abs" in claimed  # what the file shows; what it only says


def test_a_lying_engine_is_refused_by_verify_and_run(edgevid, null_bundle, video):
    import os

    lying = {**os.environ, "EDGEVID_NULL": '{"faults": [{"at": 1, "kind": "wrong"}]}'}
    done = edgevid("verify", null_bundle, "--runtime", "null", "--json", env=lying)
    assert done.returncode == 1
    assert json.loads(done.stdout)["ok"] is False
    done = edgevid("run", null_bundle, video, env=lying)
    assert done.returncode == 1
    assert "did not pass its proof" in done.stderr


def test_bench_reports_every_figure(edgevid, null_bundle, video):
    short = ("--source", video, "--samples", "100", "--rounds", "2")
    done = edgevid("bench", null_bundle, *short, "--scenario", "single", "--json")
    assert done.returncode in (0, 3), done.stderr  # as quiet as the machine is
    document = json.loads(done.stdout)
    assert document["valid"] == (done.returncode == 0)
    (result,) = document["results"]
    assert set(result) >= {
        *("job", "precision", "fps", "latency_ms", "step_ms", "stages_ms", "rounds", "warm_up"),
        *("peak_rss_mb", "first_answer_s", "operators", "timeline", "valid", "reasons"),
    }
    stages = {"decode", "geometry", "step", "task", "sink", "rest"}
    assert set(result["stages_ms"]) == stages
    said = edgevid("bench", null_bundle, *short, "--scenario", "step").stdout
    assert "null-float32" in said


def test_the_bare_command_prints_its_help(edgevid):
    done = edgevid()
    assert done.returncode == 2
    assert done.stdout.startswith("Usage: ")
    assert len(done.stdout.splitlines()) > 10
    assert done.stderr == ""


def test_an_output_that_is_a_folder_is_one_line(edgevid, null_bundle, video, tmp_path):
    done = edgevid("run", null_bundle, video, "--output", tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == f"edgevid: {tmp_path} is a folder; name a file"


@pytest.mark.parametrize(
    "words",
    [
        ("inspect",),
        ("verify",),
        ("bench",),
        ("run", "null.edgevid"),
        ("run", "--config"),
        ("convert", "-o", "x.edgevid"),
        ("convert", "model.onnx", "-o", "x.edgevid", "--contract"),
        ("train", "--out", "run"),
        ("evaluate", "null.edgevid"),
        ("dataset", "check"),
        ("flash", "--target", "pi@10.0.0.5"),
    ],
    ids=" ".join,
)
def test_a_name_that_is_too_long_is_one_line(edgevid, null_bundle, tmp_path, words):
    (tmp_path / "model.onnx").touch()
    done = edgevid(*words, "n" * 300, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert "n" * 300 in done.stderr and "File name too long" in done.stderr


def parameters_of(kind, command=cli, words=()):
    """Every parameter of the command line with a type of this kind."""
    found = []
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            found += parameters_of(kind, inner, (*words, name))
    return found + [
        pytest.param(one, id=" ".join((*words, one.opts[0])))
        for one in command.params
        if isinstance(one.type, kind)
    ]


@pytest.mark.parametrize("parameter", parameters_of(click.types.FloatParamType))
@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
def test_a_number_is_finite(parameter, text):
    with pytest.raises(click.BadParameter) as caught:
        parameter.type.convert(text, parameter, None)
    assert parameter.opts[0] in caught.value.format_message()


@pytest.mark.parametrize("parameter", parameters_of(click.Path))
def test_a_name_that_no_path_can_have_is_reported_with_its_option(tmp_path, parameter):
    (tmp_path / "loop").symlink_to("loop")
    for name, says in ((f"{'n' * 300}", "too long"), (f"{tmp_path}/loop", "symbolic links")):
        with pytest.raises(click.BadParameter) as caught:
            parameter.type.convert(name, parameter, None)
        message = caught.value.format_message()
        assert name in message and says in message
        assert parameter.opts[0] in message or parameter.human_readable_name in message


def test_an_input_without_permission_is_reported_with_its_option(monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may read everything
    (parameter,) = (
        one for one in cli.get_command(click.Context(cli), "inspect").params if one.name == "bundle"
    )
    with pytest.raises(click.BadParameter, match="Permission denied; give one that this user can"):
        parameter.type.convert(str(tmp_path), parameter, None)
    assert parameter.type.convert(str(tmp_path / "gone"), parameter, None) == tmp_path / "gone"
