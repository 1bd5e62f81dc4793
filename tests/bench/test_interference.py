"""What is counted of real processes, and what of it makes a measurement worthless."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edgevid.bench.interference import (
    InterferenceLimits,
    Monitor,
    MonitorRecord,
    Quota,
    Span,
    disturbances,
    machine,
)
from edgevid.bench.interference import monitor as monitors
from edgevid.documents import to_json
from edgevid.isolation.process import python_module
from edgevid.isolation.sandbox import LIMITS_ONLY
from edgevid.system import load
from edgevid.system.cgroups import lowest_limit
from rigs import machines
from rigs.cgroups import cgroup
from rigs.processes import descriptors, wait_for

BURN = "while True: sum(range(1000))"


def alone(code: str, *words: str) -> list[str]:
    """The command of a Python process that does ``code``, and dies with this one."""
    program = (sys.executable, "-c", code, *words)
    return python_module("edgevid.isolation.process", LIMITS_ONLY, *program)


@contextmanager
def python(code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that does ``code``, killed at the end."""
    with subprocess.Popen(alone(code, *words), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def nobody() -> list[int]:
    return []


def reasons(record: MonitorRecord, word: str) -> list[str]:
    """Those reasons that speak of something: others' load on this machine may give more."""
    return [reason for reason in disturbances(record) if word in reason]


# --- quotas, by real cgroups ----------------------------------------------------------------------


def test_a_cpu_quota_that_comes_in_the_middle_of_a_run_is_reported_with_figures():
    with cgroup() as group, python(BURN) as process:
        group.take(process.pid)
        with Monitor(lambda: [process.pid]) as monitor:
            monitor.mark("before")
            time.sleep(0.7)
            monitor.mark("under")
            group.limit(0.25)
            time.sleep(1.5)
            group.limit(None)
            monitor.mark("after")
            time.sleep(0.5)
            record = monitor.stop()
    (reason,) = reasons(record, "quota")
    assert reason.startswith(f"the CPU quota of 0.25 cores of cgroup /{group.folder.name} stopped")
    (quota,) = [q for q in record.total().quotas.values() if q.stopped]
    # A quarter of a core was left to it of 1.5 s, at most all of it on a machine that is busy.
    assert 0.3 < quota.stopped_s < 1.6
    assert quota.stopped >= 5
    assert f"for {quota.stopped_s:.1f} s of {record.total().elapsed_s:.1f} s" in reason
    assert reasons(record.part(lambda label: label == "before"), "quota") == []
    assert reasons(record.part(lambda label: label == "under"), "quota")


def test_a_quota_of_a_cgroup_further_up_is_found_and_so_is_a_process_that_is_moved_there():
    with cgroup() as group, python(BURN) as process:
        inner = group.below("inner")
        group.limit(0.2)
        with Monitor(lambda: [process.pid]) as monitor:
            time.sleep(0.3)
            inner.take(process.pid)
            time.sleep(1.8)
            record = monitor.stop()
        assert lowest_limit(Path("/"), str(process.pid)) == 0.2
    (reason,) = reasons(record, "quota")
    assert f"0.2 cores of cgroup /{group.folder.name} stopped" in reason


def test_a_quota_that_is_never_used_up_is_no_reason():
    idle = "import time; print(flush=True); time.sleep(60)"
    with cgroup() as group, python(idle) as process:
        process.stdout.readline()  # its start needs more than half a core
        group.take(process.pid)
        group.limit(0.5)
        with Monitor(lambda: [process.pid]) as monitor:
            time.sleep(0.5)
            record = monitor.stop()
    assert record.total().quotas[f"/{group.folder.name}"].limit_cores == 0.5
    assert reasons(record, "quota") == []


MOUNTS = {
    1: "30 24 0:27 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "31 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    2: "29 23 0:26 {top} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
}
MEMBER = {1: "4:memory:/\n3:cpu,cpuacct:{name}\n", 2: "0::{name}\n"}
FOLDER = {1: "sys/fs/cgroup/cpu,cpuacct", 2: "sys/fs/cgroup"}


def counted(version: int, periods: int, stopped: int, seconds: float) -> str:
    name, scale = {1: ("throttled_time", 1e9), 2: ("throttled_usec", 1e6)}[version]
    usage = "usage_usec 9\n" if version == 2 else ""
    return f"{usage}nr_periods {periods}\nnr_throttled {stopped}\n{name} {scale * seconds:.0f}\n"


def quota_files(version: int) -> dict[str, str]:
    if version == 2:
        return {"cpu.max": "150000 100000\n"}
    return {"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("top", "name", "where"),
    [
        ("/", "/system.slice/x.service", "system.slice"),  # on the machine itself
        ("/", "/", ""),  # in a container with a namespace of its own
        ("/docker/12ab", "/docker/12ab", ""),  # in one without: it only sees its own
        ("/docker/12ab", "/docker/12ab/inner", "inner"),
        ("/", "/../../other", ""),  # looked at from beside it
    ],
)
def test_both_versions_of_cgroups_are_read(tmp_path, version, top, name, where):
    folder = Path(FOLDER[version]) / where
    files = {
        "proc/self/mountinfo": MOUNTS[version].format(top=top),
        "proc/77/cgroup": MEMBER[version].format(name=name),
        f"{folder}/cpu.stat": counted(version, 100, 7, 0.5),
        **{f"{folder}/{file}": content for file, content in quota_files(version).items()},
    }
    root = machines.machine(tmp_path, files)
    assert lowest_limit(root, "77") == 1.5
    with Monitor(lambda: [77], root) as monitor:
        machines.machine(root, {f"{folder}/cpu.stat": counted(version, 120, 17, 2.5)})
        record = monitor.stop()
    reported = str(Path(top) / where)
    assert record.total().quotas == {reported: Quota(1.5, 20, 10, pytest.approx(2.0))}
    (reason,) = disturbances(record)
    assert reason.startswith(
        f"the CPU quota of 1.5 cores of cgroup {reported} stopped it for 2.0 s of"
    )
    assert reason.endswith("(10 of 20 periods)")


# --- what processes got, by real processes --------------------------------------------------------


def work(seconds: float) -> str:
    """Code that works for so many seconds of CPU, and stays."""
    return (
        "import time\n"
        f"while time.process_time() < {seconds}: sum(range(1000))\n"
        "print('done', flush=True); time.sleep(60)"
    )


def test_the_work_of_measured_processes_is_not_others():
    with python(work(1.0)) as before:
        pids = [before.pid]
        with Monitor(lambda: pids) as monitor:
            with python(work(0.5)) as between:
                pids = [before.pid, between.pid]
                assert before.stdout.readline() == between.stdout.readline() == "done\n"
                time.sleep(0.3)
            between.wait()
            pids = [before.pid]  # it is of the past, and its work remains
            record = monitor.stop()
    whole = record.total()
    assert 1.3 < whole.measured_s < 1.75  # the first may have worked a little before the start
    assert whole.busy_s >= whole.measured_s - 0.2


def test_work_that_was_done_before_a_process_was_followed_does_not_count():
    with python(work(0.8)) as process:
        assert process.stdout.readline() == "done\n"
        pids: list[int] = []
        with Monitor(lambda: pids) as monitor:
            time.sleep(0.5)
            pids = [process.pid]
            time.sleep(0.5)
            process.kill()
            process.wait()
            record = monitor.stop()
    assert record.total().measured_s < 0.1


TWO = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=sys.stdout)
print(child.pid, flush=True)
if sys.argv[2] == "stay":
    child.wait()
"""


@pytest.mark.parametrize("parent", ["stay", "leave"])
def test_the_work_of_a_grandchild_is_kept_when_it_has_ended_and_counted_once(parent):
    with python(TWO, work(0.5), parent) as process:
        worker = int(process.stdout.readline())
        with Monitor(lambda: [worker]) as monitor:
            if parent == "leave":
                process.wait()
            assert process.stdout.readline() == "done\n"
            time.sleep(0.3)
            os.kill(worker, signal.SIGKILL)
            process.wait()
            time.sleep(0.3)
            record = monitor.stop()
    assert 0.3 < record.total().measured_s < 0.65


def test_a_busy_neighbour_is_noise():
    count = max(1, (os.cpu_count() or 1) // 2)
    with python(work(1e9)) as process:
        neighbours = [subprocess.Popen(alone(BURN)) for _ in range(count)]
        try:
            with Monitor(lambda: [process.pid]) as monitor:
                time.sleep(1.5)
                record = monitor.stop()
        finally:
            for neighbour in neighbours:
                neighbour.kill()
                neighbour.wait()
    whole = record.total()
    assert whole.others_s > 0.3 * 1.5 * count
    (reason,) = reasons(record, "other processes")
    assert f"({whole.others_s:.1f} s of {whole.capacity_s:.1f} s)" in reason


def test_the_bench_itself_is_not_others():
    with Monitor(nobody) as monitor:
        end = time.thread_time() + 0.5
        while time.thread_time() < end:
            pass
        record = monitor.stop()
    assert 0.45 < record.total().own_s < 0.8
    assert record.total().measured_s < 0.05


CROWD = """
import os, threading, time
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
def burn():
    while True: sum(range(1000))
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
if os.fork() == 0: burn()
threading.Thread(target=burn, daemon=True).start()
print("there", flush=True)
time.sleep(60)
"""


def test_waiting_for_a_core_is_seen_in_every_thread():
    """The thread that waits is not the first of its process."""
    with python(CROWD) as process:
        assert process.stdout.readline() == "there\n"
        with Monitor(lambda: [process.pid]) as monitor:
            time.sleep(1.0)
            record = monitor.stop()
        (twin,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(twin), signal.SIGKILL)
    whole = record.total()
    assert whole.waited_s > 0.25
    assert whole.involuntary > 5


def test_a_process_that_stalled_is_reported():
    code = (
        "import time\n"
        "from edgevid.bench.interference import Monitor, disturbances\n"
        "monitor = Monitor(lambda: []); monitor.start(); print('go', flush=True)\n"
        "time.sleep(0.5); print(disturbances(monitor.stop()))"
    )
    with python(code) as process:
        assert process.stdout.readline() == "go\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        process.send_signal(signal.SIGCONT)
        assert "the monitor could not run for 2." in process.stdout.readline()


def test_a_suspended_machine_is_reported(monkeypatch):
    real = load.suspended_s
    with Monitor(nobody) as monitor:
        monitor.mark("A 1")
        monkeypatch.setattr(load, "suspended_s", lambda: real() + 7.3)
        monitor.mark("A 2")
        record = monitor.stop()
    assert reasons(record, "suspended") == ["the machine was suspended for 7.3 s"]
    assert reasons(record.part(lambda label: label == "A 2"), "suspended") == []


def test_the_work_of_a_process_of_somebody_else_is_kept_when_it_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(monitors, "LOOK_S", 0.02)
    files = {
        "proc/77/stat": stat_line(parent=1, ticks=100),
        f"proc/{os.getpid()}/stat": stat_line(parent=1, ticks=0),
    }
    root = machines.machine(tmp_path, files)
    looks = machines.Looks(77)
    with Monitor(looks, root) as monitor:
        machines.machine(root, {"proc/77/stat": stat_line(parent=1, ticks=150)})
        looks.wait()
        machines.machine(root, {"proc/77/stat": ""})  # so it reads once it is gone
        record = monitor.stop()
    assert record.total().measured_s == pytest.approx(0.5)


def stat_line(parent: int, ticks: int) -> str:
    return f"77 (x) S {parent} {'0 ' * 9}{ticks} {'0 ' * 40}"


# --- the whole machine, by files as other kernels write them --------------------------------------

STAT = "cpu  {busy} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 0 0 0\ncpu1 1 0 0 0\nintr 5 0\n"
SEEN = {
    "proc/stat": STAT.format(busy=100, idle=9000, steal=0),
    "proc/vmstat": "pgpgin 3\npswpin 100\n",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000\nfull total=9\n",
}


def seen(tmp_path: Path, **changes: str) -> MonitorRecord:
    """A record of a machine of two cores, whose files change after the start."""
    root = machines.machine(tmp_path, SEEN)
    with Monitor(nobody, root) as monitor:
        machines.machine(root, SEEN, **changes)
        time.sleep(0.05)
        return monitor.stop()


def test_time_that_the_host_took_is_reported(tmp_path):
    record = seen(tmp_path, proc__stat=STAT.format(busy=100, idle=9000, steal=40))
    assert record.total().cores == 2
    (reason,) = disturbances(record)
    assert reason.startswith("the host of this virtual machine took 0.4 s of 0.1 s of core time")


def test_work_of_others_on_a_fake_machine(tmp_path):
    record = seen(tmp_path, proc__stat=STAT.format(busy=150, idle=9800, steal=0))
    assert record.total().others_s == pytest.approx(0.5)
    assert disturbances(record)[0].startswith("other processes used ")


def test_short_memory_is_reported(tmp_path):
    some = "some avg10=0.00 avg60=0.00 avg300=0.00 total=401000\nfull total=9\n"
    record = seen(tmp_path, proc__pressure__memory=some)
    assert record.total().pressure_s == {"memory": pytest.approx(0.4)}
    assert disturbances(record) == ["memory was short: processes waited for it 0.4 s of 0.1 s"]


def test_swapping_counts_only_where_the_measured_faulted(tmp_path):
    record = seen(tmp_path, proc__vmstat="pgpgin 3\npswpin 1100\n")
    assert disturbances(record) == []
    record.spans[0] = replace(record.spans[0], major_faults=3)
    assert disturbances(record) == ["memory was short: 1000 pages were read back from swap"]


def test_a_machine_that_tells_nothing_gives_no_reason(tmp_path):
    with Monitor(lambda: [os.getpid()], tmp_path) as monitor:
        record = monitor.stop()
    whole = record.total()
    assert disturbances(record) == []
    assert whole.busy_s is whole.others_s is whole.steal_s is whole.waited_s is None
    assert whole.energy_j is whole.swapped_in is None
    assert machine(tmp_path).cpu is None


# --- what the limits say --------------------------------------------------------------------------


def span(**values) -> Span:
    return replace(Span("", 0.0, 100.0, looks=500, cores=4, busy_s=0.0), **values)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"quotas": {"/x": Quota(1, 900, 9, 0.4)}}, None),
        ({"quotas": {"/x": Quota(1, 900, 90, 0.6)}}, "of 1 core of cgroup /x stopped"),
        ({"busy_s": 139.0, "measured_s": 100.0}, None),
        ({"busy_s": 145.0, "measured_s": 100.0}, "used 11 % of the cores (45.0 s of 400.0 s)"),
        ({"busy_s": 145.0, "measured_s": 100.0, "own_s": 6.0}, None),
        ({"busy_s": 30.0, "waited_s": 5.5}, "waited 5.5 s of 100.0 s for cores"),
        ({"busy_s": 4.0, "waited_s": 90.0}, None),  # its own threads wait for each other
        ({"steal_s": 7.0}, None),
        ({"steal_s": 9.0}, "took 9.0 s of 400.0 s of core time for other guests (2 %)"),
        ({"pressure_s": {"memory": 0.4, "cpu": 90.0, "io": 90.0}}, None),
        ({"pressure_s": {"memory": 0.6}}, "memory was short"),
        ({"slept_s": 0.01, "gap_s": 1.5}, None),
        ({"gap_s": 2.5}, "for 2.5 s"),
    ],
)
def test_what_is_left_to_the_statistics_and_what_is_not(values, word):
    found = disturbances(MonitorRecord([span(**values)], []))
    assert found == [] if word is None else (len(found) == 1 and word in found[0])


def test_one_round_in_which_others_worked_is_found():
    calm = [span(label=f"A {n}", elapsed_s=10.0) for n in range(9)]
    loud = span(label="A 9", elapsed_s=10.0, busy_s=13.0)
    (reason,) = disturbances(MonitorRecord([*calm, loud], []))
    assert reason == "other processes used 32 % of the cores in one of 10 rounds (13.0 s of 40.0 s)"
    assert (
        disturbances(MonitorRecord([*calm, loud], []), InterferenceLimits(others_span_share=0.4))
        == []
    )


# --- the monitor itself ---------------------------------------------------------------------------


def test_marks_divide_the_time_and_a_part_is_judged_alone():
    with Monitor(nobody) as monitor:
        for label in ("A 1", "B 1", "A 2"):
            monitor.mark(label)
            time.sleep(0.25)
        record = monitor.stop()
        assert monitor.stop() is record
    assert [one.label for one in record.spans] == ["", "A 1", "B 1", "A 2"]
    assert {look.label for look in record.timeline} == {"", "A 1", "B 1", "A 2"}
    part = record.part(lambda label: label.startswith("A"))
    assert part.total().elapsed_s == pytest.approx(0.5, abs=0.2)
    assert {look.label for look in part.timeline} == {"A 1", "A 2"}
    whole = record.total()
    assert whole.looks == sum(one.looks for one in record.spans) >= 6
    assert whole.busy_s == pytest.approx(sum(one.busy_s for one in record.spans))
    assert json.loads(json.dumps(to_json(record)))["spans"][1]["label"] == "A 1"


def test_the_monitor_leaves_nothing_behind():
    before, threads = descriptors(), threading.active_count()
    with Monitor(lambda: [os.getpid()]) as monitor:
        time.sleep(0.3)
        assert threading.active_count() == threads + 1
        monitor.stop()
    assert (descriptors(), threading.active_count()) == (before, threads)


def test_a_long_timeline_is_thinned(monkeypatch, tmp_path):
    monkeypatch.setattr(monitors, "LONGEST", 20)
    monkeypatch.setattr(monitors, "LOOK_S", 0.002)
    looks = []

    def nobody_counted() -> list[int]:
        looks.append(1)
        return []

    with Monitor(nobody_counted, tmp_path / "absent") as monitor:
        wait_for(lambda: len(looks) > 45)
        record = monitor.stop()
    assert record.total().looks > 40
    assert 5 <= len(record.timeline) <= 20
    times = [look.t_s for look in record.timeline]
    assert times == sorted(times)
    assert times[-1] > record.total().elapsed_s / 2


def test_no_library_is_imported():
    code = "import sys, edgevid.bench.interference as c; c.machine(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"av", "openvino", "ai_edge_litert", "cv2"} & set(done.stdout.split())
