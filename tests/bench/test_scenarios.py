"""Each way to load an engine, in this process, with engines made for it; on real video."""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgevid import registry
from edgevid.bench.samples import Series, pack, unpack
from edgevid.bench.scenarios import BoundedClip, RoundOptions, ScenarioSetup, paced
from edgevid.bench.scenarios.multi import Trial, search
from edgevid.bench.scenarios.paced import PacedSource
from edgevid.bundle import Bundle
from edgevid.documents import to_json
from edgevid.errors import BadInput
from edgevid.media.sources import SourceOptions
from edgevid.runner.meters import STAGES
from rigs.videos import moving_images, write_video

PLAIN = SourceOptions(frame_threads=False)


class Spy:
    """An engine that waits ``step_s``, at some steps longer, and remembers what it was given."""

    runtime, accelerator, precision = "spy", "cpu", "float32"

    def __init__(self, step_s: float = 0.0, stalls: dict[int, float] | None = None) -> None:
        self.step_s, self.stalls = step_s, stalls or {}
        self.frames: list[np.ndarray] = []
        self.states: list[float] = []
        self.threads: set[str] = set()

    def step(self, inputs, state):
        self.frames.append(inputs["frame"].copy())
        self.states.append(float(state["level"][0, 0]))
        time.sleep(self.step_s + self.stalls.get(len(self.frames), 0.0))
        scores = np.full((1, 3), 1 / 3, np.float32)
        return {"scores": scores}, {"level": state["level"] + np.float32(1)}

    def close(self):
        pass


def scenario(name, bundle, video, engine, rate_fps=25.0, latency_s=0.04, options=PLAIN):
    setup = ScenarioSetup(
        Bundle.open(bundle), "null-float32", engine, video, rate_fps, latency_s, options
    )
    return registry.load("scenario", name)(setup)


def test_step_takes_the_golden_frames_in_turn_and_carries_its_memory(null_bundle, video):
    engine = Spy()
    found = scenario("step", null_bundle, video, engine).round(RoundOptions(0.0, 20))
    assert found.samples["step"].count == 20 == found.frames["answered"]
    assert all((engine.frames[n] == engine.frames[n + 6]).all() for n in range(14))
    assert (engine.frames[0] != engine.frames[1]).any()
    assert engine.states == list(range(20))


def test_a_round_lasts_as_long_as_requested(null_bundle, video):
    for name in ("step", "single", "offline"):
        began = time.perf_counter()
        found = scenario(name, null_bundle, video, Spy()).round(RoundOptions(0.3, 1))
        assert time.perf_counter() - began >= 0.3
        assert found.frames["answered"] > 1


def test_single_is_one_stage_after_another(null_bundle, video):
    engine = Spy(step_s=0.01, stalls={10: 0.2})
    found = scenario("single", null_bundle, video, engine).round(RoundOptions(0.0, 60))
    samples = {name: series.seconds for name, series in found.samples.items()}
    assert {len(values) for values in samples.values()} == {60}
    for place, latency in enumerate(samples["latency"]):
        parts = sum(samples[name][place] for name in (*STAGES, "rest"))
        assert parts == pytest.approx(latency, abs=1e-6)
        assert all(samples[name][place] >= 0 for name in (*STAGES, "rest"))
    assert sum(samples["latency"]) <= found.elapsed_s
    # A stall is its own frame's and nobody else's: nothing waits in a closed loop.
    assert sum(latency > 0.2 for latency in samples["latency"]) == 1
    assert found.frames["answered"] == 60
    assert found.frames["captured"] >= 60


def test_single_plays_the_file_again_with_an_empty_memory(null_bundle, video):
    engine = Spy()
    scenario("single", null_bundle, video, engine).round(RoundOptions(0.0, 100))
    assert engine.states == [*range(40), *range(40), *range(20)]
    assert (engine.frames[0] == engine.frames[40]).all()


def test_offline_is_the_pipeline_that_serves(null_bundle, video):
    found = scenario("offline", null_bundle, video, Spy(step_s=0.005)).round(RoundOptions(0.0, 100))
    assert found.frames["answered"] == 100
    assert found.figures["fps"] == pytest.approx(100 / found.elapsed_s, rel=1e-3)
    assert found.figures["fps"] <= 200
    # Decoding runs ahead, so a frame waits for those before it.
    assert sorted(found.samples["latency"].seconds)[50] > 0.01


def test_paced_counts_from_the_schedule_and_not_from_the_last_answer(null_bundle, video):
    """The stall holds up every frame that was to come meanwhile; a closed loop sees one."""
    engine = Spy(stalls={20: 0.6})
    began = time.perf_counter()
    found = scenario("paced", null_bundle, video, engine, rate_fps=25).round(RoundOptions(0.0, 50))
    assert time.perf_counter() - began >= 49 / 25
    counters = found.frames
    assert counters["captured"] == 50 == counters["answered"] + counters["dropped"]
    assert 11 <= counters["dropped"] <= 17  # 15 came, and two have room
    latencies = found.samples["latency"].seconds
    late = [latency for latency in latencies if latency > 0.04]
    assert len(late) >= 2
    assert max(late) >= 0.6


def test_paced_never_waits_for_a_slow_engine(null_bundle, video):
    engine = Spy(step_s=0.1)
    began = time.perf_counter()
    found = scenario("paced", null_bundle, video, engine, rate_fps=40).round(RoundOptions(0.0, 60))
    assert 59 / 40 <= time.perf_counter() - began <= 59 / 40 + 2
    assert found.frames["dropped"] >= 30
    assert found.figures["sent"] == 60
    # Two wait, one is stepped: the oldest goes, so none is older than this.
    assert sorted(found.samples["latency"].seconds)[5] >= 0.1


def test_a_camera_sends_its_film_again_from_the_start(video):
    camera = PacedSource(video, PLAIN, 400.0, 100)
    frames = [c.image.to_ndarray(format="rgb24") for c in camera]
    camera.close()
    assert len(frames) == camera.arrivals.captured == 100
    assert not camera.truncated
    assert all((frames[n] == frames[n + 40]).all() for n in (0, 7, 39))
    assert (frames[0] != frames[1]).any()
    assert len(camera.lags.seconds) == 100


def test_a_camera_keeps_to_its_schedule_whatever_its_reader_does(tmp_path):
    film = write_video(tmp_path / "p.mp4", moving_images(20, 64, 96), bf="0", tune="zerolatency")
    camera = PacedSource(film, PLAIN, 50.0, 20)
    arrived = []
    for captured in camera:
        arrived.append(captured.captured_s)
        time.sleep(0.2 if captured.index == 5 else 0)  # ten packets come meanwhile
    camera.close()
    gaps = [after - before for before, after in pairwise(arrived)]
    assert gaps == pytest.approx([1 / 50] * 19)
    assert max(camera.lags.seconds) > 0.15


def test_a_camera_whose_frames_wait_for_later_ones(tmp_path):
    """B-frames: a picture was captured when the packet came with which it could come out."""
    film = write_video(tmp_path / "b.mp4", moving_images(30, 64, 96), bf="3", refs="4")
    camera = PacedSource(film, PLAIN, 100.0, 30)
    captured = [frame.captured_s for frame in camera]
    camera.close()
    sent = [(one - captured[0]) * 100 for one in captured]  # packets since the first frame's
    assert sent == pytest.approx([round(one) for one in sent], abs=0.01)
    assert all(after >= before for before, after in pairwise(sent))


def test_a_camera_stops_at_once(tmp_path):
    film = write_video(tmp_path / "p.mp4", moving_images(5, 64, 96), bf="0", tune="zerolatency")
    camera = PacedSource(film, PLAIN, 1.0, 100)
    shown = 0
    for _ in camera:
        shown += 1
        camera.stop()
    camera.close()
    assert shown == 1


def test_multi_finds_how_many_streams_are_held(null_bundle, video):
    engine = Spy(step_s=0.02)  # 50 a second: five cameras of 10
    found = scenario("multi", null_bundle, video, engine, rate_fps=10, latency_s=0.2)
    first = found.round(RoundOptions(0.6, 6))
    assert 1 <= first.figures["streams"] <= 5
    assert first.figures["tried"]["8"] < 0.99 if "8" in first.figures["tried"] else True
    assert max(first.samples["latency"].seconds) > 0.02
    second = found.round(RoundOptions(0.6, 6))
    assert len(second.figures["tried"]) <= len(first.figures["tried"])


def test_streams_come_one_after_another_and_not_all_at_once(monkeypatch, null_bundle, video):
    offsets = []

    def camera(*words):
        offsets.append(words[-1])
        return PacedSource(*words)

    monkeypatch.setattr(paced, "PacedSource", camera)
    found = scenario("multi", null_bundle, video, Spy(), rate_fps=10, latency_s=1.0)
    Trial(found.setup, RoundOptions(0.3, 4), 4, found.output)
    assert offsets == pytest.approx([0, 0.025, 0.05, 0.075])


def test_multi_says_where_not_even_one_is_held(null_bundle, video):
    engine = Spy(step_s=0.15)  # it answers everything, and everything too late
    found = scenario("multi", null_bundle, video, engine, rate_fps=4, latency_s=0.1)
    reported = found.round(RoundOptions(1.0, 4))
    assert reported.frames["answered"] == 4
    assert reported.figures["streams"] == 0


@pytest.mark.parametrize("start", [1, 7, 100])
@pytest.mark.parametrize("limit", [0, 1, 2, 6, 7, 99, 100, 255, 256, 400])
def test_the_search_finds_the_limit(start, limit):
    tried = []

    def holds(count):
        assert 1 <= count <= 256
        tried.append(count)
        return count <= limit

    assert search(holds, start, 256) == min(limit, 256)
    assert len(tried) <= 18
    assert len(set(tried)) == len(tried)


def test_a_clip_ends_when_there_is_enough(video):
    with BoundedClip(video, PLAIN, until_s=0.0, least=7) as clip:
        assert len(list(clip)) == 7
    with BoundedClip(video, PLAIN, until_s=time.perf_counter() + 60, least=7) as clip:
        assert len(list(clip)) == 40


def test_decoding_in_turn_gives_each_picture_with_its_packet(tmp_path):
    film = write_video(tmp_path / "p.mp4", moving_images(30, 64, 96), bf="0")
    with BoundedClip(film, PLAIN, 0.0, least=1) as clip:
        next(iter(clip))
        assert clip.arrivals.captured <= 2  # none waits for others to be decoded beside it


# --- samples as they travel -----------------------------------------------------------------------


def test_samples_are_packed_and_had_again():
    values = [0.0, 1e-9, 0.001234567, 0.9, 4.2]
    assert list(unpack(pack(values))) == pytest.approx(values, abs=1e-9)
    assert list(unpack(pack([*values, 60.0]))) == pytest.approx([*values, 60.0], abs=1e-6)
    assert list(unpack(pack([]))) == []


@pytest.mark.parametrize(
    "damage",
    [{"data": "abc"}, {"data": "AAAA"}, {"count": 3}, {"unit": "hours"}, {"data": None}],
)
def test_damaged_samples_are_reported(damage):
    with pytest.raises(BadInput, match="measure again"):
        unpack({**to_json(pack([1.0, 2.0])), **damage})


def test_a_series_is_kept_evenly_and_in_bounds():
    series = Series(capacity=100)
    for number in range(1000):
        series.add(float(number))
    assert series.count == 1000
    assert 50 <= len(series.seconds) < 100
    assert list(series.seconds) == [n * float(series.every) for n in range(len(series.seconds))]
    assert pack(series).every == series.every > 1


def test_every_scenario_is_a_row():
    folder = Path(__file__).parents[2] / "edgevid" / "bench" / "scenarios"
    files = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert set(registry.names("scenario")) == files
