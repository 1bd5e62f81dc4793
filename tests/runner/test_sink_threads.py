"""Every sink behind its own queue: what a slow or a failing one does to the others."""

import json
import os
import signal
import threading

import pytest

from edgevid.predictions import RawOutputs
from edgevid.results import Result
from edgevid.runner.sink_threads import SinkFanOut, SinkThread
from edgevid.sinks import Sink
from rigs.plugin_package import write_package
from rigs.service import answered, bundle, camera, holds


class Held(Sink):
    """Writes into a list once it is let."""

    def __init__(self, error=None):
        super().__init__(None)
        self.got, self.batches, self.error = [], 0, error
        self.goes = threading.Event()
        self.began = threading.Event()

    def write(self, result):
        self.began.set()
        self.goes.wait(30)
        if self.error:
            raise self.error
        self.got.append(result.index)

    def flush(self):
        self.batches += 1


def result(index):
    return Result("door", index, index / 16, RawOutputs({}))


def started(sink, **options):
    thread = SinkThread("it", "held", sink, **options)
    thread.start()
    return thread


def balance(thread):
    return thread.written + thread.failed + thread.dropped + thread.queued


def ended(thread):
    thread.finish()
    assert thread.wait(10)
    return thread


def test_a_full_queue_drops_the_oldest_live_result():
    sink = Held()
    thread = started(sink, capacity=4)
    thread.put(result(0), live=True)
    assert sink.began.wait(10)  # the first one is in its hands
    for index in range(1, 11):
        thread.put(result(index), live=True)
    assert thread.dropped == 6
    assert balance(thread) == 11
    sink.goes.set()
    ended(thread)
    assert sink.got == [0, 7, 8, 9, 10]
    assert balance(thread) == 11


def test_results_of_a_finite_stream_are_never_dropped():
    sink = Held()
    thread = started(sink, capacity=4)
    thread.put(result(0), live=True)
    assert sink.began.wait(10)
    assert thread.has_room()
    for index in range(1, 5):
        thread.put(result(index), live=False)
    assert not thread.has_room()
    assert not SinkFanOut([thread]).has_room()
    thread.put(result(5), live=True)  # nothing that may be displaced: it goes itself
    assert thread.dropped == 1
    sink.goes.set()
    ended(thread)
    assert sink.got == [0, 1, 2, 3, 4]


def test_a_finite_stream_is_written_in_batches():
    sink = Held()
    sink.goes.set()
    thread = started(sink)
    for index in range(500):
        thread.put(result(index), live=False)
    ended(thread)
    assert sink.got == list(range(500))
    assert sink.batches < 50


def test_a_failing_sink_disturbs_no_other_one():
    good, bad = Held(), Held(OSError(28, "No space left on device"))
    threads = [started(one) for one in (bad, good)]
    fan_out = SinkFanOut(threads)
    good.goes.set()
    bad.goes.set()
    for index in range(20):
        fan_out.put(result(index), live=True)
    for thread in threads:
        ended(thread)
    assert good.got == list(range(20))
    assert (threads[1].written, threads[1].failed, threads[1].error) == (20, 0, None)
    assert (threads[0].written, threads[0].failed) == (0, 20)
    assert threads[0].error == "No space left on device"
    assert threads[0].fatal is None


def test_a_flush_that_fails_counts_its_whole_batch():
    class Buffered(Held):
        def flush(self):
            raise RuntimeError("gone\nfor good")

    sink = Buffered()
    sink.goes.set()
    thread = started(sink)
    for index in range(7):
        thread.put(result(index), live=False)
    ended(thread)
    assert (thread.written, thread.failed) == (0, 7)
    assert thread.error == "RuntimeError: gone"


def test_the_error_of_an_essential_sink_is_kept_and_reported():
    told = threading.Event()
    sink = Held(BrokenPipeError(32, "Broken pipe"))
    sink.goes.set()
    thread = started(sink, is_essential=True, failed=told.set)
    thread.put(result(0), live=False)
    assert told.wait(10)
    assert isinstance(thread.fatal, BrokenPipeError)
    ended(thread)


def test_a_sink_that_hangs_is_not_waited_for_forever():
    sink = Held()
    thread = started(sink, capacity=4)
    for index in range(3):
        thread.put(result(index), live=True)
    assert sink.began.wait(10)
    thread.finish()
    assert not thread.wait(0.2)
    assert thread.error == "it did not finish in time"
    sink.goes.set()
    thread.join(10)
    assert balance(thread) == 3


# ---------------------------------------------------------------- whole runs


@pytest.fixture
def env(tmp_path):
    return {"PYTHONPATH": os.pathsep.join(write_package(tmp_path / "package"))}


def run(edgevid, env, *words):
    done = edgevid("run", *words, "--rate", "all", "--json", env={**os.environ, **env})
    return done, json.loads(done.stdout) if done.stdout else None


def test_a_finite_run_waits_for_a_slow_sink_and_drains_it(
    edgevid, env, null_bundle, video, tmp_path
):
    slow = f"slow:path={tmp_path}/slow,seconds=0.01,queue=4"
    out = tmp_path / "results.jsonl"
    done, summary = run(edgevid, env, null_bundle, video, "--sink", slow, "--output", out)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "slow").read_text().split() == [str(n) for n in range(40)]
    assert len(out.read_text().splitlines()) == 40
    assert summary["frames"]["answered"] == 40
    assert {one["name"]: one["written"] for one in summary["sinks"]} == {"output": 40, "slow": 40}


def test_a_sink_that_fails_in_a_finite_run_is_reported(edgevid, env, null_bundle, video, tmp_path):
    bad = f"slow:path={tmp_path}/bad,fail=the line is cut"
    out = tmp_path / "results.jsonl"
    done, summary = run(edgevid, env, null_bundle, video, "--sink", bad, "--output", out)
    assert done.returncode == 4
    assert "sink slow: 40 results were not written: the line is cut" in done.stderr
    assert len(out.read_text().splitlines()) == 40
    assert summary["frames"]["answered"] == 40


def test_a_sink_gets_images_if_it_declares_that(edgevid, env, null_bundle, video, tmp_path):
    sink = f"pictures:path={tmp_path}/shapes"
    done, _ = run(edgevid, env, null_bundle, video, "--sink", sink)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shapes").read_text().splitlines() == ["(64, 96, 3)"] * 40


def test_a_live_stream_goes_on_beside_a_slow_and_a_failing_sink(start, env, null_bundle, tmp_path):
    sinks = (
        f'[[sink]]\nkind = "slow"\nname = "late"\npath = "{tmp_path}/late"\n'
        "seconds = 0.3\nqueue = 2\n"
        f'[[sink]]\nkind = "slow"\nname = "broken"\npath = "{tmp_path}/broken"\nfail = "cut"\n'
    )
    service = start("\n".join([bundle(null_bundle), camera("door"), sinks]), **env)
    status = service.until(
        lambda s: (
            answered(s, "door") > 30
            and s["sinks"][1]["dropped"] > 5
            and s["sinks"][0]["written"] > 20
        )
    )
    output, late, broken = status["sinks"]
    assert (output["failed"], output["dropped"]) == (0, 0)
    assert late["written"] > 0
    assert broken["written"] == 0
    assert broken["failed"] > 20
    assert broken["error"] == "cut"
    assert any(alarm.startswith("sink broken: cut;") for alarm in status["alarms"])
    assert status["frames"]["dropped"] < 5  # a busy machine may lose one; a stalled stream many
    code, summary, _ = service.end(signal.SIGTERM)
    assert code == 0
    assert holds(summary["frames"])


def test_a_new_configuration_changes_the_sinks(start, null_bundle, tmp_path):
    base = "\n".join([bundle(null_bundle), camera("door")])
    service = start(base)
    service.until(lambda s: answered(s, "door") > 2)
    service.write(f'{base}\n[[sink]]\nkind = "jsonl"\npath = "{tmp_path}/more.jsonl"')
    service.process.send_signal(signal.SIGHUP)
    service.until(lambda s: s["reloads"] == 1 and len(s["sinks"]) == 2)
    service.until(lambda s: s["sinks"][1]["written"] > 3)
    service.write(f'{base}\n[[sink]]\nkind = "jsonl"\npth = "{tmp_path}/more.jsonl"')
    service.process.send_signal(signal.SIGHUP)
    refused = service.until(lambda s: s["refused_configuration"])["refused_configuration"]
    assert "sink[0] has an unknown key 'pth'; did you mean 'path'?" in refused
    assert service.end()[0] == 0
    assert [json.loads(line) for line in (tmp_path / "more.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("sink", "reason"),
    [
        ("unopenable", "cannot be opened: RuntimeError: no such board"),
        ("no-sink", "is not a subclass of edgevid.sinks.Sink"),
    ],
)
def test_a_sink_with_a_fault_is_named_with_its_package(
    edgevid, env, null_bundle, video, sink, reason
):
    done, document = run(edgevid, env, null_bundle, video, "--sink", sink)
    assert done.returncode == 4
    assert reason in document["error"]
    assert "stand-ins 1.0" in document["error"]
    assert "Traceback" not in done.stderr


def test_a_finite_run_reports_what_a_stuck_sink_did_not_write(
    edgevid, env, null_bundle, video, tmp_path
):
    url = "webhook:url=http://127.0.0.1:9/,attempts=1,retry_s=0.01"
    done, _ = run(
        edgevid, env, null_bundle, video, "--sink", url, "--output", tmp_path / "results.jsonl"
    )
    assert done.returncode == 4
    assert "sink webhook: 40 results were not written: " in done.stderr
