import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from edgevid.errors import BadInput
from edgevid.runner.status import SEND_S, StatusBoard, ask

SERVICE = """
import sys, time
from pathlib import Path
from edgevid.runner.status import StatusBoard
board = StatusBoard(Path(sys.argv[1]), lambda: {"state": "serving"})
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def document():
    return {"state": "serving", "written": 0}


@pytest.fixture
def board(tmp_path, document):
    board = StatusBoard(tmp_path, lambda: document)
    yield board
    board.close()


@pytest.fixture
def service(tmp_path):
    """A service in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def connect(folder: Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX)
    channel.settimeout(10)
    channel.connect(str(folder / "status.sock"))
    return channel


def test_file_and_socket_say_the_same_from_the_start(board, tmp_path, document):
    assert json.loads((tmp_path / "status.json").read_bytes()) == document == ask(tmp_path)
    document["written"] = 1
    board.write()
    assert json.loads((tmp_path / "status.json").read_bytes()) == document == ask(tmp_path)


def test_the_file_is_never_seen_in_part(board, tmp_path, document):
    document["padding"] = "x" * 300_000
    board.write()
    ended, seen = threading.Event(), []

    def look():
        while not ended.is_set():
            seen.append(json.loads((tmp_path / "status.json").read_bytes())["written"])

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(300):
        document["written"] = number
        board.write()
    ended.set()
    reader.join()
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


def test_many_readers_at_once_each_get_a_whole_document(board, tmp_path, document):
    document["padding"] = "x" * 100_000
    board.write()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(tmp_path, 20), range(200)))
    assert answers == [document] * 200


def test_readers_that_do_not_read_neither_block_nor_leak(board, tmp_path, document):
    document["padding"] = "x" * 2_000_000  # more than the kernel's buffer takes
    board.write()
    before = held()
    stuck = [connect(tmp_path) for _ in range(4)]
    began = time.monotonic()
    board.write()
    assert time.monotonic() - began < SEND_S  # the writer does not wait for them
    assert ask(tmp_path, 30) == document  # and others have their turn
    for channel in stuck:
        channel.close()
    for _ in range(50):  # those that leave at once
        with suppress(BlockingIOError):  # the backlog is full: it is small on purpose
            connect(tmp_path).close()
    assert ask(tmp_path, 30) == document
    deadline = time.monotonic() + 10
    while held() != before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert held() == before


def held() -> tuple[int, int]:
    """Open descriptors and threads of this process."""
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def test_a_closed_board_says_so_and_leaves_no_socket(tmp_path):
    board = StatusBoard(tmp_path, lambda: {"state": "serving", "answered": 7})
    board.close()
    board.close()
    last = json.loads((tmp_path / "status.json").read_bytes())
    assert last == {"state": "stopped", "answered": 7}
    assert not (tmp_path / "status.sock").exists()
    assert not [t for t in threading.enumerate() if t.name == "status"]
    with pytest.raises(BadInput, match=r"no service answers at .*status\.sock"):
        ask(tmp_path)
    StatusBoard(tmp_path, lambda: {"state": "serving"}).close()  # the folder is free again


def test_a_folder_in_use_is_refused_with_its_holder(service, tmp_path):
    with pytest.raises(BadInput, match=f"{tmp_path} belongs to .* {service.pid};") as refused:
        StatusBoard(tmp_path, lambda: {"state": "second"})
    assert "\n" not in str(refused.value)
    assert ask(tmp_path) == {"state": "serving"}  # undisturbed


def test_a_killed_service_leaves_its_folder_to_the_next(service, tmp_path):
    service.send_signal(signal.SIGKILL)
    service.wait()
    assert (tmp_path / "status.sock").exists()
    board = StatusBoard(tmp_path, lambda: {"state": "restarted"})
    assert ask(tmp_path) == {"state": "restarted"}
    board.close()


def test_a_folder_that_cannot_be_used_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="Not a directory; part of the path is a file"):
        StatusBoard(tmp_path / "file" / "status", dict)
    with pytest.raises(BadInput, match="too long; name another status folder"):
        StatusBoard(tmp_path / ("x" * 120), dict)
    StatusBoard(tmp_path / "deep" / "er", dict).close()


def test_a_full_disk_is_told_and_survived(board, tmp_path, document):
    (tmp_path / ".status.json.part").mkdir()  # stands for a disk that takes nothing more
    document["written"] = 1
    board.write()
    assert "status.json cannot be written" in board.trouble
    assert ask(tmp_path) == document
    (tmp_path / ".status.json.part").rmdir()
    board.write()
    assert board.trouble is None
