"""Many pipelines, one engine: turns, queues, counters, and recovery from a wrong engine."""

import threading
import time

import numpy as np
import pytest

from edgevid.errors import EngineFailed
from edgevid.media.decode import Arrivals
from edgevid.results import Frame
from edgevid.runner.scheduler import Scheduler, SingleEngine
from edgevid.runner.stream_pipeline import StreamOptions, StreamPipeline
from edgevid.runtimes.null.cpu import Arithmetic
from edgevid.tasks import open_task
from rigs.outputs import Kept
from rigs.videos import moving_images

av = pytest.importorskip("av")


def frame_of(image, index, pts_s):
    return Frame(image, image.width, image.height, "camera", index, pts_s, time.perf_counter())


class Camera:
    """Frames by hand: what a reading thread does, one frame at a time."""

    def __init__(self, scheduler, pipeline, pictures, fps=16):
        self.scheduler, self.pipeline = scheduler, pipeline
        self.arrivals = Arrivals()
        pipeline.meters.frames.arrivals.append(self.arrivals)
        self.frames = [av.VideoFrame.from_ndarray(picture, "rgb24") for picture in pictures]
        self.fps, self.next = fps, 0
        scheduler.admit(pipeline)

    def send(self, count=1):
        for _ in range(count):
            index, self.next = self.next, self.next + 1
            picture = self.frames[index % len(self.frames)]
            self.arrivals.captured += 1
            captured = frame_of(picture, index, index / self.fps)
            self.scheduler.offer(self.pipeline, captured)
        return self

    def end(self):
        self.scheduler.end(self.pipeline)


def pipeline_of(contract, sink, name="door", live=True, **wish):
    return StreamPipeline(name, contract, sink, StreamOptions(**wish), live=live)


@pytest.fixture
def engine(contract):
    return Arithmetic({"decay": 0.5}, contract)


@pytest.fixture
def film():
    return moving_images(60, 32, 48)


def scores(lines):
    return np.array([list(line["scores"].values()) for line in lines])


def counters(pipeline):
    frames = pipeline.meters.frames.to_json()
    assert frames["captured"] == sum(count for name, count in frames.items() if name != "captured")
    return {name: count for name, count in frames.items() if count}


def test_a_live_lane_drops_the_oldest_and_counts_it(contract, engine, film):
    kept = Kept()
    scheduler = Scheduler(SingleEngine(engine))
    pipeline = pipeline_of(contract, kept)
    camera = Camera(scheduler, pipeline, film).send(10)
    assert counters(pipeline) == {"captured": 10, "dropped": 8, "in_flight": 2}
    camera.end()
    scheduler.finish()
    scheduler.serve()
    assert [line["index"] for line in kept] == [8, 9]
    assert counters(pipeline) == {"captured": 10, "answered": 2, "dropped": 8}


def test_a_file_waits_and_loses_nothing(contract, engine, film):
    kept = Kept()
    scheduler = Scheduler(SingleEngine(engine))
    pipeline = pipeline_of(contract, kept, live=False)
    camera = Camera(scheduler, pipeline, film)
    reader = threading.Thread(target=lambda: (camera.send(50), camera.end()))
    reader.start()
    time.sleep(0.1)
    assert camera.next <= pipeline.capacity + 1, "the reader did not wait"
    scheduler.finish()
    scheduler.serve()
    reader.join()
    assert [line["index"] for line in kept] == list(range(50))
    assert counters(pipeline) == {"captured": 50, "answered": 50}


def test_two_interleaved_cameras_answer_as_each_alone(contract, engine, film):
    def alone(pictures):
        kept, scheduler = Kept(), Scheduler(SingleEngine(engine))
        pipeline = pipeline_of(contract, kept, live=False)
        camera = Camera(scheduler, pipeline, pictures)
        scheduler.finish()
        threading.Thread(target=lambda: (camera.send(40), camera.end())).start()
        scheduler.serve()
        return scores(kept)

    one, other = film, film[::-1]
    kept = {"one": Kept(), "other": Kept()}
    scheduler = Scheduler(SingleEngine(engine))
    cameras = [
        Camera(scheduler, pipeline_of(contract, kept[name], name, live=False), pictures)
        for name, pictures in (("one", one), ("other", other))
    ]
    for camera in cameras:
        threading.Thread(target=lambda camera=camera: (camera.send(40), camera.end())).start()
    scheduler.finish()
    scheduler.serve()
    assert (scores(kept["one"]) == alone(one)).all()
    assert (scores(kept["other"]) == alone(other)).all()
    assert (scores(kept["one"]) != scores(kept["other"])).any()


def test_a_busy_camera_does_not_starve_the_others(contract, engine, film):
    """Ten frames of one for each of the other: turns go round, and drops fall on the busy one."""
    kept = Kept()
    slow = Slow(engine, 0.004)
    scheduler = Scheduler(SingleEngine(slow))
    busy = Camera(scheduler, pipeline_of(contract, kept, "busy"), film, fps=160)
    quiet = Camera(scheduler, pipeline_of(contract, kept, "quiet"), film)
    thread = threading.Thread(target=scheduler.serve)
    thread.start()
    for _ in range(40):
        for _ in range(10):
            busy.send()
            time.sleep(0.001)
        quiet.send()
    for camera in (busy, quiet):
        camera.end()
    scheduler.finish()
    thread.join()
    assert counters(quiet.pipeline) == {"captured": 40, "answered": 40}
    assert counters(busy.pipeline)["dropped"] > 100


class Slow:
    def __init__(self, engine, seconds):
        self._engine, self._seconds = engine, seconds

    def step(self, inputs, state):
        time.sleep(self._seconds)
        return self._engine.step(inputs, state)


def test_a_frame_that_would_be_answered_too_late_is_dropped(contract, engine, film):
    kept = Kept()
    scheduler = Scheduler(SingleEngine(engine))
    pipeline = pipeline_of(contract, kept, latency_s=0.05)
    camera = Camera(scheduler, pipeline, film).send()
    time.sleep(0.06)
    camera.send()
    camera.end()
    scheduler.finish()
    scheduler.serve()
    assert [line["index"] for line in kept] == [1]
    assert counters(pipeline) == {"captured": 2, "answered": 1, "dropped": 1}


def test_a_latency_that_no_step_can_keep_does_not_make_it_dark(contract, engine, film):
    kept = Kept()
    scheduler = Scheduler(SingleEngine(Slow(engine, 0.03)))
    pipeline = pipeline_of(contract, kept, latency_s=0.01)
    camera = Camera(scheduler, pipeline, film)
    thread = threading.Thread(target=scheduler.serve)
    thread.start()
    for _ in range(10):
        camera.send()
        time.sleep(0.05)
    camera.end()
    scheduler.finish()
    thread.join()
    assert len(kept) >= 8


def test_a_still_scene_is_gated_and_counted(contract, engine, film):
    kept = Kept()
    scheduler = Scheduler(SingleEngine(engine))
    pipeline = pipeline_of(contract, kept, live=False, gate=True)
    camera = Camera(scheduler, pipeline, [film[0]])
    threading.Thread(target=lambda: (camera.send(100), camera.end())).start()
    scheduler.finish()
    scheduler.serve()
    assert len(kept) < 10
    assert counters(pipeline) == {"captured": 100, "answered": len(kept), "gated": 100 - len(kept)}


def test_a_sampled_out_frame_does_not_wait(contract, engine, film):
    kept = Kept()
    scheduler = Scheduler(SingleEngine(engine))
    pipeline = pipeline_of(contract, kept, live=False, rate_fps=4.0)
    camera = Camera(scheduler, pipeline, film)
    threading.Thread(target=lambda: (camera.send(40), camera.end())).start()
    scheduler.finish()
    scheduler.serve()
    assert [line["index"] for line in kept] == list(range(0, 40, 4))
    assert counters(pipeline) == {"captured": 40, "answered": 10, "sampled_out": 30}


def test_a_gap_empties_the_memory_and_the_line_says_so(contract, engine, film):
    kept, fresh = Kept(), Kept()
    scheduler = Scheduler(SingleEngine(engine))
    pipeline = pipeline_of(contract, kept, live=False)
    camera = Camera(scheduler, pipeline, film).send(2)
    camera.next += 100
    camera.send()
    camera.end()
    scheduler.finish()
    scheduler.serve()
    assert [line.get("gap") for line in kept] == [None, None, True]
    assert pipeline.meters.resets == 1
    alone = Scheduler(SingleEngine(engine))
    only = Camera(alone, pipeline_of(contract, fresh, live=False), [film[102 % 60]]).send()
    only.end()
    alone.finish()
    alone.serve()
    assert (scores(kept)[-1] == scores(fresh)[0]).all()


def test_where_nothing_is_left_to_serve_every_frame_is_accounted_for(contract, engine, film):
    class Broken:
        def step(self, inputs, state):
            raise EngineFailed("broken")

    scheduler = Scheduler(SingleEngine(Broken()))
    pipeline = pipeline_of(contract, Kept(), live=False)
    Camera(scheduler, pipeline, film).send(3)
    with pytest.raises(EngineFailed, match="broken"):
        scheduler.serve()
    assert counters(pipeline) == {"captured": 3, "failed": 3}


class Suspect:
    """A failover whose first engine may lie or fail, and whose second one is true."""

    def __init__(self, first, second, *, check_every=4, honest_until=10**9):
        self.engine, self._second = first, second
        self.guarded, self.degraded = True, False
        self._every, self._until, self._steps = check_every, honest_until, 0

    def step(self, inputs, state):
        self._steps += 1
        return self.engine.step(inputs, state)

    def lost(self, error):
        if not self.guarded:
            raise error
        self.engine, self.guarded, self.degraded = self._second, False, True

    def check(self, *, idle=False):
        if not self.guarded or (self._steps % self._every and not idle):
            return None
        if self._steps <= self._until:
            return True
        self.lost(EngineFailed("answered its canary wrongly"))
        return False


class Faulty:
    """Right for ``good`` steps; then it lies, about the answer and the memory, or fails."""

    def __init__(self, engine, good, kind):
        self._engine, self._good, self._kind = engine, good, kind

    def step(self, inputs, state):
        answer, after = self._engine.step(inputs, state)
        self._good -= 1
        if self._good >= 0:
            return answer, after
        if self._kind == "fails":
            raise EngineFailed("gone")
        return (
            {name: np.roll(value, 1, -1) for name, value in answer.items()},
            {name: value * 0 for name, value in after.items()},
        )


@pytest.mark.parametrize("kind", ["fails", "lies"])
@pytest.mark.parametrize("good", [0, 1, 6, 7, 8, 13])
@pytest.mark.parametrize("live", [False, True])
def test_a_faulted_run_equals_a_clean_one_line_by_line(contract, engine, film, kind, good, live):
    def answers(failover, count=20):
        kept = [Kept(), Kept()]
        scheduler = Scheduler(failover)
        cameras = [
            Camera(scheduler, pipeline_of(contract, sink, str(n), live=live), film[:: 1 - 2 * n])
            for n, sink in enumerate(kept)
        ]
        thread = threading.Thread(target=scheduler.serve)
        thread.start()
        for _ in range(count):
            for camera in cameras:
                camera.send()
            while live and any(
                one.pipeline.meters.frames.to_json()["in_flight"] for one in cameras
            ):
                time.sleep(0.001)
        for camera in cameras:
            camera.end()
        scheduler.finish()
        thread.join()
        for camera in cameras:
            assert counters(camera.pipeline) == {"captured": count, "answered": count}
        return kept, cameras

    clean, _ = answers(SingleEngine(engine))
    failover = Suspect(Faulty(engine, good, kind), engine, honest_until=good)
    faulted, cameras = answers(failover)
    for want, got in zip(clean, faulted, strict=True):
        # a live camera's answer is told again where it was wrong: the last word counts
        last = {line["index"]: line for line in got}
        assert sorted(last) == list(range(20))
        assert (scores(want) == scores([last[i] for i in range(20)])).all()
        if not live:
            assert [line["index"] for line in got] == list(range(20))
    assert failover.degraded
    told_again = sum(camera.pipeline.meters.corrected for camera in cameras)
    assert (told_again > 0) == (live and kind == "lies")


def test_another_prediction_is_corrected_however_near_the_outputs_are(contract, engine, film):
    """The tolerance is for the numbers; whether two predictions are the same, the task decides."""
    kept, wide = Kept(), 1.0
    scheduler = Scheduler(Suspect(Faulty(engine, 0, "lies"), engine, honest_until=0), wide)
    camera = Camera(scheduler, pipeline_of(contract, kept, live=True), film)
    thread = threading.Thread(target=scheduler.serve)
    thread.start()
    for _ in range(6):
        camera.send()
        while camera.pipeline.meters.frames.to_json()["in_flight"]:
            time.sleep(0.001)
    camera.end()
    scheduler.finish()
    thread.join()
    lines = list(kept)
    for index, line in {line["index"]: line for line in lines if line.get("corrected")}.items():
        (first,) = [one for one in lines if one["index"] == index and not one.get("corrected")]
        assert first["label"] != line["label"]
    assert any(line.get("corrected") for line in lines)


def test_an_engine_that_fails_while_it_sets_another_right_is_replaced_too(contract, engine, film):
    """The first lies, the second fails in the middle of taking its steps again."""
    kept, clean = Kept(), Kept()
    failover = Suspect(Faulty(engine, 0, "lies"), Faulty(engine, 2, "fails"), honest_until=0)
    spare = [engine]

    def lost(error):
        if failover.guarded:
            Suspect.lost(failover, error)
        else:
            failover.engine = spare.pop()

    failover.lost = lost
    for used, sink in ((failover, kept), (SingleEngine(engine), clean)):
        scheduler = Scheduler(used)
        pipeline = pipeline_of(contract, sink, live=False)
        camera = Camera(scheduler, pipeline, film)
        threading.Thread(target=lambda camera=camera: (camera.send(12), camera.end())).start()
        scheduler.finish()
        scheduler.serve()
        assert counters(pipeline) == {"captured": 12, "answered": 12}
    assert not spare
    assert [line["index"] for line in kept] == list(range(12))
    assert (scores(kept) == scores(clean)).all()


def test_a_task_is_handed_the_frame_in_source_pixels(contract, engine, film, monkeypatch):
    handed = []

    class Recorder(open_task(contract).__class__):
        def decode(self, outputs, frame):
            handed.append(frame)
            return super().decode(outputs, frame)

    monkeypatch.setattr("edgevid.runner.stream_pipeline.open_task", Recorder)
    scheduler = Scheduler(SingleEngine(engine))
    camera = Camera(scheduler, pipeline_of(contract, Kept(), name="door"), film)
    camera.send().end()
    scheduler.finish()
    scheduler.serve()
    (frame,) = handed
    assert (frame.width, frame.height) == (film.shape[2], film.shape[1])
    assert (frame.index, frame.pts_s, frame.source) == (0, 0.0, "door")
    height, width = contract.frame.height, contract.frame.width
    whole = frame.boxes_to_source(np.float32([[0, 0, width, height]]))
    np.testing.assert_allclose(whole, [[0, 0, frame.width, frame.height]], atol=1e-3)
