"""A year of outages in minutes: what a source leaves behind after each is nothing."""

import gc
import threading
import time

import pytest

from edgevid.media.live import LiveSource
from edgevid.media.network import NetworkCamera
from edgevid.media.pace import Patience
from edgevid.media.sources import SourceOptions
from rigs.processes import children, descriptors, resident_mb, shared_memory
from rigs.watch import Watcher, check_books

QUICK = Patience(first_s=0.05, most_s=0.1)


def holdings() -> dict[str, float]:
    """What this process holds now."""
    gc.collect()
    return {
        "rss_mb": round(resident_mb(), 1),
        "descriptors": descriptors(),
        "threads": threading.active_count(),
        "children": len(children()),  # zombies are among them
        "shared": len(shared_memory()),
    }


def settled() -> dict[str, float]:
    """The same, once connections that froze have reached their time limits."""
    before = holdings()
    for _ in range(40):
        time.sleep(1.0)
        now = holdings()
        if now["threads"] == before["threads"] and now["descriptors"] == before["descriptors"]:
            return now
        before = now
    return before


def cycles(proxy, camera, count: int) -> tuple[dict, dict, Watcher]:
    url = camera.url("fast", port=proxy.port)
    options = SourceOptions(stall_s=0.5)
    said: list[str] = []
    source = LiveSource(NetworkCamera(url, options), options, said.append, QUICK)
    watcher = Watcher(source, said)
    watcher.more(5)
    for name in ("cut", "freeze", "cut"):  # what is made once is made now
        cycle(proxy, watcher, name)
    before = settled()
    for n in range(count):
        cycle(proxy, watcher, "freeze" if n % 10 == 0 else "cut")
    return before, settled(), watcher


def cycle(proxy, watcher, how: str) -> None:
    getattr(proxy, how)()
    watcher.wait(lambda: watcher.source.status()["state"] == "waiting", 5)
    proxy.restore()
    watcher.wait(lambda: watcher.source.status()["state"] == "open", 10)
    watcher.frames.clear()  # pictures are memory, too
    watcher.times.clear()


@pytest.mark.soak
def test_500_outages_leave_nothing_behind(proxy, camera):
    before, after, watcher = cycles(proxy, camera, 500)
    print(f"\nbefore {before}\nafter  {after}\n{watcher.source.arrivals}")
    assert watcher.source.status()["reconnects"] >= 500
    watcher.stop(2)
    assert after["threads"] <= before["threads"]
    assert after["descriptors"] <= before["descriptors"] + 1  # the proxy's, in the act
    assert after["children"] == before["children"]
    assert after["shared"] <= before["shared"]
    assert after["rss_mb"] < before["rss_mb"] + 10


def test_a_few_outages_leave_no_thread_and_no_descriptor_behind(proxy, camera):
    before, after, watcher = cycles(proxy, camera, 4)
    watcher.stop(2)
    assert after["threads"] <= before["threads"]
    assert after["descriptors"] <= before["descriptors"] + 1


def test_the_books_are_right_at_the_end_of_many_connections(proxy, camera):
    url = camera.url("fast", port=proxy.port)
    options = SourceOptions()
    source = LiveSource(NetworkCamera(url, options), options, lambda _: None, QUICK)
    watcher = Watcher(source)
    for _ in range(5):
        watcher.more(5)
        proxy.drop()
        watcher.wait(lambda: watcher.source.status()["state"] == "waiting", 5)
    watcher.more(5)
    watcher.stop()
    check_books(source, len(watcher.frames))
    assert [f.index for f in watcher.frames] == list(range(len(watcher.frames)))
