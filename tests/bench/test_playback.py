import json
import threading

import pytest

from edgevid import runtimes
from edgevid.bench.playback import play
from edgevid.bundle import Bundle
from edgevid.errors import BadVideo, EngineFailed
from edgevid.media.video import open_file
from edgevid.runner.meters import Meters
from rigs.outputs import Kept


def answer(bundle_path, video, rate_fps=None, output=None, meters=None):
    bundle = Bundle.open(bundle_path)
    engine = runtimes.get("null").load(bundle.files("null-float32"), bundle.contract)
    meters, output = meters or Meters(), Kept() if output is None else output
    with open_file(str(video)) as source:
        play(source, bundle.contract, engine, output, rate_fps=rate_fps, meters=meters)
    return meters


def test_every_frame_is_answered_in_order_with_memory_carried(null_bundle, video):
    kept = Kept()
    meters = answer(null_bundle, video, output=kept)
    assert [line["index"] for line in kept] == list(range(40))
    assert meters.frames.to_json() == {
        "captured": 40,
        "answered": 40,
        "sampled_out": 0,
        "gated": 0,
        "dropped": 0,
        "failed": 0,
        "in_flight": 0,
    }
    # the video brightens, and the memory follows
    scores = [line["scores"]["bright"] for line in kept]
    assert kept[0]["label"] == "dark"
    assert scores[5] < scores[20] < scores[-1]
    assert all(line["warm"] for line in kept)


def test_two_runs_give_the_same_lines(null_bundle, video):
    first, second = Kept(), Kept()
    answer(null_bundle, video, output=first)
    answer(null_bundle, video, output=second)
    assert json.dumps(first) == json.dumps(second)


def test_frames_between_steps_are_sampled_out_and_counted(null_bundle, video):
    kept = Kept()
    frames = answer(null_bundle, video, rate_fps=4.0, output=kept).frames
    assert (frames.captured, frames.answered, frames.sampled_out) == (40, 10, 30)
    assert [line["index"] for line in kept] == list(range(0, 40, 4))
    assert frames.in_flight == 0


def test_a_failed_step_is_counted_and_ends_the_reader(make_null_bundle, video):
    path = make_null_bundle(faults=[{"at": 7, "kind": "error"}])
    meters = Meters()
    with pytest.raises(EngineFailed):
        answer(path, video, meters=meters)
    frames = meters.frames.to_json()
    assert frames["answered"] == 7
    assert frames["failed"] >= 1
    assert frames["in_flight"] == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("reader")]


def test_a_truncated_file_is_answered_as_far_as_it_goes(null_bundle, truncated_video):
    meters = answer(null_bundle, truncated_video)
    assert meters.truncated
    frames = meters.frames.to_json()
    assert 0 < frames["answered"] < frames["captured"] < 40
    assert frames["answered"] + frames["failed"] == frames["captured"]


def test_a_fault_of_the_reader_reaches_the_caller(null_bundle, video, monkeypatch):
    def broken(self):
        raise BadVideo("the reader broke")
        yield

    monkeypatch.setattr("edgevid.media.video.FileSource.__iter__", broken)
    with pytest.raises(BadVideo, match="the reader broke"):
        answer(null_bundle, video)


def test_latency_and_stages_are_sampled_once_a_step(null_bundle, video):
    meters = answer(null_bundle, video)
    assert meters.latency.count == 40
    assert {name: stage.count for name, stage in meters.stages.items()} == dict.fromkeys(
        ("decode", "geometry", "step", "task", "sink"), 40
    )
