import pytest

from edgevid import bench
from edgevid.bench import scene as scenes
from edgevid.bundle import Bundle
from edgevid.errors import GateRefused, SurroundingsFailed
from edgevid.media.video import open_file
from edgevid.runner.engines import Choice

NULL = Choice("null-float32", "null", "cpu")


def test_a_slow_engine_is_measured_as_slow(make_null_bundle, video):
    bundle = Bundle.open(make_null_bundle(latency_ms=20))
    (found,) = bench.bench(bundle, [NULL], video, samples=120)["results"]
    assert found["stages_ms"]["step"] >= 20
    assert found["latency_ms"]["p50"] >= 20
    assert found["fps"] <= 50
    assert found["samples"] == 120 - bench.WARM_UP


def test_a_measuring_process_that_dies_is_said(make_null_bundle, video):
    bundle = Bundle.open(make_null_bundle(faults=[{"at": 30, "kind": "error"}]))
    with pytest.raises(SurroundingsFailed, match="failed on schedule"):
        bench.bench(bundle, [NULL], video, samples=120)


def test_a_lying_engine_is_not_measured(make_null_bundle, video):
    bundle = Bundle.open(make_null_bundle(faults=[{"at": 1, "kind": "wrong"}]))
    with pytest.raises(GateRefused, match="did not pass its proof"):
        bench.bench(bundle, [NULL], video, samples=120)


def test_the_made_scene_is_a_video_and_is_made_once(monkeypatch):
    monkeypatch.setattr(scenes, "FRAMES", 5)
    path = scenes.scene()
    with open_file(str(path)) as source:
        assert source.size == (720, 1280)
        assert sum(1 for _ in source) == 5
    before = path.stat().st_mtime_ns
    assert scenes.scene().stat().st_mtime_ns == before
