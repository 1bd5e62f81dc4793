"""Event stages in whole runs: retaken after faults, corrected, and continued after a kill."""

import json
import os
import signal
import threading

import pytest

from edgevid.events import EventChain, NamedStage
from edgevid.runner.config import read_config
from edgevid.runner.scheduler import Scheduler, SingleEngine
from edgevid.runner.stream_pipeline import StreamOptions, StreamPipeline
from edgevid.runtimes.null.cpu import Arithmetic
from rigs.outputs import Kept
from rigs.plugin_package import write_package
from rigs.service import answered, bundle, camera, holds
from rigs.stand_ins import Label, LabelOptions
from rigs.videos import moving_images
from tests.runner.test_scheduler import Camera, Faulty, Suspect, counters

EVENT = '[[event]]\nkind = "label"\nname = "light"\nlabel = "bright"\n'


@pytest.fixture
def engine(contract):
    return Arithmetic({"decay": 0.2}, contract)


@pytest.fixture(scope="module")
def film():
    """Dark and bright by turns."""
    frames = moving_images(24, 32, 48) // 8
    for begin in (3, 9, 16):
        frames[begin : begin + 4] += 200
    return frames


def play(contract, failover, film, live):
    """Run a film through one stream with an event stage; returns what its sinks got."""
    chain = EventChain([NamedStage("light", "label", Label(LabelOptions("bright"), contract))])
    kept = Kept()
    pipeline = StreamPipeline("door", contract, kept, StreamOptions(), live=live, events=chain)
    scheduler = Scheduler(failover)
    reader = Camera(scheduler, pipeline, film)
    thread = threading.Thread(target=scheduler.serve)
    thread.start()
    for _ in range(24):
        reader.send()
        while live and pipeline.meters.frames.to_json()["in_flight"]:
            threading.Event().wait(0.001)
    reader.end()
    scheduler.finish()
    thread.join()
    assert counters(pipeline) == {"captured": 24, "answered": 24}
    assert not chain.errors
    assert pipeline.confirmed is chain.state
    return kept, chain


def events_of(kept):
    return [(n, event) for n, line in enumerate(kept) for event in line.get("events", ())]


@pytest.mark.parametrize("kind", ["fails", "lies"])
@pytest.mark.parametrize("good", [0, 2, 3, 4, 6, 9, 11, 17])
def test_the_events_of_a_faulted_file_are_those_of_a_clean_one(contract, engine, film, kind, good):
    clean, _ = play(contract, SingleEngine(engine), film, live=False)
    assert len(events_of(clean)) == 6
    failover = Suspect(Faulty(engine, good, kind), engine, honest_until=good)
    faulted, _ = play(contract, failover, film, live=False)
    assert failover.degraded
    assert events_of(faulted) == events_of(clean)


@pytest.mark.parametrize("kind", ["fails", "lies"])
@pytest.mark.parametrize("good", [0, 2, 3, 4, 6, 9, 11, 17])
def test_a_live_stream_corrects_its_events_and_keeps_their_ids(contract, engine, film, kind, good):
    _, right = play(contract, SingleEngine(engine), film, live=True)
    failover = Suspect(Faulty(engine, good, kind), engine, honest_until=good)
    faulted, chain = play(contract, failover, film, live=True)
    assert failover.degraded
    # The state of the stage is as if nothing had happened: it counts every frame once.
    assert chain.state.stages == right.state.stages
    is_open, begun = set(), []
    for _, event in events_of(faulted):
        assert (event["id"] in begun) == (event["type"] != "new"), event
        begun += [event["id"]] if event["type"] == "new" else []
        (is_open.discard if event["type"] == "end" else is_open.add)(event["id"])
    assert is_open == {event.id for event in chain.state.open.values()}


def test_a_lie_that_was_an_event_ends_as_corrected(contract, engine, film):
    """The first engine sees light where it is dark, until its canary finds out."""

    class SeesLight(Faulty):
        def step(self, inputs, state):
            answer, after = super().step(inputs, state)
            if self._good < 0:
                answer = {name: value * 0 + [[0, 0, 1]] for name, value in answer.items()}
            return {name: value.astype("float32") for name, value in answer.items()}, after

    dark = film[:1].repeat(24, axis=0)
    failover = Suspect(SeesLight(engine, 5, "lies"), engine, honest_until=5)
    kept, chain = play(contract, failover, dark, live=True)
    found = [(event["id"], event["type"], event.get("reason")) for _, event in events_of(kept)]
    assert found == [("light:it@5", "new", None), ("light:it@5", "end", "corrected")]
    assert not chain.state.open
    withdrawing = [line for line in kept if line.get("events", [{}])[0].get("type") == "end"]
    assert withdrawing[0]["corrected"] is True


def test_an_engine_that_fails_while_steps_are_retaken_loses_no_event(contract, engine, film):
    _, right = play(contract, SingleEngine(engine), film, live=True)
    failover = Suspect(Faulty(engine, 4, "lies"), Faulty(engine, 2, "fails"), honest_until=4)
    spare = [engine]

    def lost(error):
        if failover.guarded:
            Suspect.lost(failover, error)
        elif spare:
            failover.engine = spare.pop()
        else:
            raise error

    failover.lost = lost
    _, chain = play(contract, failover, film, live=True)
    assert not spare
    assert chain.state.stages == right.state.stages


# ---------------------------------------------------------------- services


@pytest.fixture
def env(tmp_path):
    return {"PYTHONPATH": os.pathsep.join(write_package(tmp_path / "package"))}


def seen(service):
    """How many frames the durable state has counted, as the file says."""
    files = list((service.folder / "state" / "events").glob("*.json"))
    return json.loads(files[0].read_text())["stages"]["light"]["state"]["seen"] if files else 0


def test_a_durable_state_survives_a_kill(start, env, null_bundle):
    text = "\n".join(
        [
            'state = "state"',
            bundle(null_bundle),
            camera("door"),
            EVENT,
            "durable = true",
        ]
    )
    service = start(text, **env)
    service.until(lambda s: seen(service) > 10)
    service.process.send_signal(signal.SIGKILL)
    service.process.communicate()
    before = seen(service)
    again = service.again(**env)
    status = again.until(lambda s: answered(s, "door") > 5)
    assert status["events"] == [
        {**status["events"][0], "name": "light", "kind": "label", "failures": 0, "error": None}
    ]
    code, summary, _ = again.end()
    assert code == 0
    assert seen(again) == before + summary["frames"]["answered"]
    assert holds(summary["frames"])


def test_events_of_a_file_are_in_its_lines_and_only_for_their_camera(
    start, env, null_bundle, video
):
    text = "\n".join(
        [
            bundle(null_bundle, rate="all"),
            camera("seen", source=str(video)),
            camera("unseen", source=str(video)),
            EVENT.replace("bright", "dark"),
            'cameras = ["seen"]',
        ]
    )
    service = start(text, **env)
    out, said = service.process.communicate(timeout=60)
    assert service.process.returncode == 0, said
    found = [(line["source"], e["id"]) for line in service.lines() for e in line.get("events", ())]
    assert found
    assert {name for name, _ in found} == {"seen"}
    assert json.loads(out)["frames"]["answered"] == 80


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('lable = "x"', ":5: event 'light' has an unknown key 'lable'; did you mean 'label'?"),
        ('cameras = ["dor"]', "event 'light': there is no camera 'dor'; did you mean 'door'?"),
        ("durable = 1", "durable must be true or false"),
    ],
)
def test_a_mistake_in_an_event_is_named_with_its_line(stand_ins, tmp_path, more, says):
    file = tmp_path / "site.toml"
    file.write_text(f"{EVENT}{more}\n{bundle('m.edgevid')}\n{camera('door')}\n")
    with pytest.raises(Exception) as caught:
        read_config(file)
    assert says in str(caught.value)


def test_a_durable_event_needs_a_folder(start, env, null_bundle):
    service = start(
        "\n".join([bundle(null_bundle), camera("door"), EVENT, "durable = true"]), **env
    )
    out, said = service.process.communicate(timeout=60)
    assert service.process.returncode == 2, said
    assert "there is no folder for its state" in json.loads(out)["error"]


def test_a_stage_that_raises_is_reported_at_the_end(start, env, null_bundle, video):
    text = "\n".join(
        [
            bundle(null_bundle, rate="all"),
            camera("door", source=str(video)),
            '[[event]]\nkind = "raising"\n',
        ]
    )
    service = start(text, **env)
    out, said = service.process.communicate(timeout=60)
    assert service.process.returncode == 4, said
    assert "event stage raising: raised 1 times: ValueError: no such zone" in said
    assert json.loads(out)["events"][0]["failures"] == 1
