"""A year of outages in minutes: what a source leaves behind after each is nothing."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgevid.media.live import ReconnectingSource
from edgevid.media.network import NetworkEndpoint
from edgevid.media.sources import SourceOptions
from edgevid.media.timing import Backoff
from rigs.processes import shared_memory, wait_for
from rigs.watch import Watcher, check_counts

QUICK = Backoff(first_s=0.05, max_s=0.1)

READER = """
import sys
from edgevid.media.live import ReconnectingSource
from edgevid.media.network import NetworkEndpoint
from edgevid.media.timing import Backoff
from edgevid.media.sources import SourceOptions
options = SourceOptions(stall_s=0.5)
camera = NetworkEndpoint(sys.argv[1], options)
source = ReconnectingSource(
    camera, options, lambda line: print(line, flush=True), Backoff(first_s=0.05, max_s=0.1)
)
for captured in source:
    pass
"""


class Reader:
    """A process that reads a camera and does nothing else."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", READER, url], stdout=subprocess.PIPE, text=True
        )
        self.reported: list[str] = []
        self.threads = 0
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        self.reported.extend(self._process.stdout)

    def hears(self, count: int) -> None:
        """Wait until it reported so many lines."""
        wait_for(lambda: len(self.reported) >= count, 15)

    def holdings(self) -> dict[str, float]:
        """What it holds now."""
        proc = Path(f"/proc/{self._process.pid}")
        status = (proc / "status").read_text()
        children = [f.read_text().split() for f in proc.glob("task/*/children")]
        return {
            "own_mb": round(int(status.partition("RssAnon:")[2].split()[0]) / 1024, 1),
            "descriptors": len(list((proc / "fd").iterdir())),
            "threads": len(list((proc / "task").iterdir())),
            "children": sum(map(len, children)),  # zombies are among them
            "shared": len(shared_memory()),
        }

    def settled(self) -> dict[str, float]:
        """The same, once connections that froze have reached their time limits."""
        wait_for(lambda: self.holdings()["threads"] <= self.threads, 15)
        return self.holdings()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._process.stdout.close()


@pytest.fixture
def reader(proxy, camera):
    reader = Reader(camera.url("fast", port=proxy.port))
    reader.hears(1)
    reader.threads = int(reader.holdings()["threads"])
    yield reader
    reader.kill()


def outages(proxy, reader, count: int) -> dict[str, float]:
    """Cut and restore so many times, each tenth time freeze; gives what is held then."""
    for n in range(count):
        reported = len(reader.reported)
        if n % 10 == 1:
            proxy.freeze()
        else:
            proxy.cut()
        reader.hears(reported + 1)
        proxy.restore(silent=n % 20 == 1)
        reader.hears(reported + 2)
    return reader.settled()


def test_a_few_outages_leave_no_thread_and_no_descriptor_behind(proxy, reader):
    before = outages(proxy, reader, 2)
    after = outages(proxy, reader, 4)
    assert {**after, "own_mb": 0} == {**before, "own_mb": 0}


@pytest.mark.soak
def test_500_outages_leave_nothing_behind(proxy, reader):
    shown = [outages(proxy, reader, 20)]
    for _ in range(5):
        shown.append(outages(proxy, reader, 100))
        print(f"\nafter {20 + 100 * (len(shown) - 1)} outages: {shown[-1]}", end="")
    before, after = shown[0], shown[-1]
    print(f"\nafter 20 outages: {before}")
    assert len(reader.reported) == 1 + 2 * 520
    assert {**after, "own_mb": 0, "shared": 0} == {**before, "own_mb": 0, "shared": 0}
    assert after["own_mb"] < before["own_mb"] + 5


def test_the_books_are_right_at_the_end_of_many_connections(proxy, camera):
    options = SourceOptions()
    network_camera = NetworkEndpoint(camera.url("fast", port=proxy.port), options)
    watcher = Watcher(ReconnectingSource(network_camera, options, lambda _: None, QUICK))
    for _ in range(5):
        watcher.more(5)
        proxy.drop()
        watcher.wait(lambda: watcher.source.status()["state"] == "waiting", 5)
    watcher.more(5)
    watcher.stop()
    check_counts(watcher.source, len(watcher.frames))
    assert [f.index for f in watcher.frames] == list(range(len(watcher.frames)))
