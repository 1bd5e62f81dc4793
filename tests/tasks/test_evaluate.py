import json

import pytest

from edgevid.bundle import Bundle
from rigs.command import call_edgevid


@pytest.fixture(scope="module")
def results(real_run, real_bundle, real_data):
    def told(model):
        done = call_edgevid("evaluate", model, real_data, "--json")
        assert done.returncode == 0, done.stderr
        return {r["artifact"]: r for r in json.loads(done.stdout)["results"]}

    return told(real_run) | told(real_bundle)


def test_source_and_every_artifact_are_scored_on_the_recorded_split(results, real_bundle):
    names = {artifact.name for artifact in Bundle.open(real_bundle).artifacts}
    assert set(results) == names | {"source"}
    for result in results.values():
        assert (result["n"], result["split"]) == (6, "test")
        assert result["metrics"]["accuracy"] == 1


def test_float_artifacts_score_as_the_source_does(results):
    for name in ("tflite-float32", "openvino-float32"):
        assert results[name]["metrics"] == results["source"]["metrics"]


def test_the_evidence_is_what_evaluate_finds(results, real_bundle):
    for artifact in Bundle.open(real_bundle).artifacts:
        assert artifact.metric["artifact"] == results[artifact.name]["metrics"]["accuracy"]
        assert artifact.metric["source"] == results["source"]["metrics"]["accuracy"]


def test_another_split_is_named(edgevid, real_bundle, real_data):
    done = edgevid("evaluate", real_bundle, real_data, "--split", "val", "--json")
    assert {r["n"] for r in json.loads(done.stdout)["results"]} == {6}
    done = edgevid("evaluate", real_bundle, real_data, "--split", "tset")
    assert done.returncode == 2
    assert "did you mean test?" in done.stderr


def test_other_data_is_rejected_with_the_remedy(edgevid, real_bundle, tmp_path, video):
    for label in ("red", "blue"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.mp4").write_bytes(video.read_bytes())
    done = edgevid("evaluate", real_bundle, tmp_path)
    assert done.returncode == 2
    assert "or --split all" in done.stderr
    done = edgevid("evaluate", real_bundle, tmp_path, "--split", "all", "--json")
    assert {r["n"] for r in json.loads(done.stdout)["results"]} == {2}
    (tmp_path / "red").rename(tmp_path / "sideways")
    done = edgevid("evaluate", real_bundle, tmp_path, "--split", "all")
    assert "'sideways' is not one of the model's" in done.stderr
