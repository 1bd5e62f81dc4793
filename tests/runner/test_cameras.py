"""Real RTSP cameras, one service: what befalls one camera is told of it, and the others run on."""

import json
import time

import numpy as np
import pytest

from rigs.proxy import Proxy
from rigs.rtsp import RtspCamera
from rigs.service import answered, bundle, camera, holds
from rigs.videos import moving_images, write_video


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    film = write_video(
        tmp_path_factory.mktemp("rtsp") / "long.mp4",
        np.concatenate([moving_images(125, 48, 64)] * 12),
        fps=25,
        faststart=True,
        g="25",
        bf="0",
    )
    with RtspCamera(one=film, two=film) as camera:
        yield camera


def of(status, name):
    (found,) = [one for one in status["cameras"] if one["name"] == name]
    return found["sources"][0]


def test_a_frozen_camera_comes_back_and_the_others_are_not_disturbed(scheduler, start, null_bundle):
    proxy = Proxy(scheduler.port)
    absent = f"rtsp://viewer:s3cr%40t@127.0.0.1:{Proxy(1).port}/gone"
    cameras = [
        camera("steady", scheduler.url("one")),
        camera("shaky", scheduler.url("two", port=proxy.port)),
        camera("absent", absent),
    ]
    service = start("\n".join([bundle(null_bundle, rate="all"), *cameras]))
    service.until(lambda s: min(answered(s, "steady"), answered(s, "shaky")) > 25)
    for break_it, reasons in (
        (proxy.freeze, {"time-out"}),
        (proxy.drop, {"ended"}),
        (proxy.cut, {"refused", "time-out", "ended", "unreachable"}),
    ):
        connections = of(service.status(), "shaky")["reconnects"]
        break_it()
        lost = time.monotonic()

        def noticed(status, connections=connections):
            now = of(status, "shaky")  # written once a second: it may be back already
            return now["state"] != "open" or now["reconnects"] > connections

        status = service.until(noticed, timeout_s=10)
        assert time.monotonic() - lost < 3.5
        assert of(status, "shaky")["reason"] in {*reasons, None}
        proxy.restore()
        back = time.monotonic()
        before = answered(service.status(), "shaky")
        service.until(lambda s, n=before: answered(s, "shaky") > n, timeout_s=10)
        assert time.monotonic() - back < 5.5
    status = service.status()
    assert of(status, "absent")["state"] in ("waiting", "connecting")
    assert answered(status, "absent") == 0
    assert of(status, "shaky")["reconnects"] >= 3
    assert of(status, "steady")["reconnects"] == 0
    assert status["alarms"] == []
    code, summary, said = service.end()
    assert code == 0, said
    assert holds(summary["frames"])
    assert summary["frames"]["in_flight"] == 0
    lines = service.lines()
    steady = np.array([one["captured_unix_s"] for one in lines if one["source"] == "steady"])
    assert np.diff(steady).max() < 0.5, "the steady camera was disturbed"
    # after a long gap the memory starts afresh, and the line says so
    assert any(one.get("gap") for one in lines if one["source"] == "shaky")
    told = said + json.dumps(status) + service.answers.read_text()
    assert "s3cr" not in told
    assert len([line for line in said.splitlines() if "absent" in line]) <= 2
    proxy.close()


def test_corrupted_pictures_are_survived_and_accounted_for(scheduler, start, null_bundle):
    proxy = Proxy(scheduler.port)
    cameras = [camera("spoilt", scheduler.url("one", port=proxy.port))]
    service = start("\n".join([bundle(null_bundle, rate="all"), *cameras]))
    service.until(lambda s: answered(s, "spoilt") > 10)
    proxy.corrupt(0.02)
    for _ in range(20):
        assert holds(service.status()["frames"])
        time.sleep(0.2)
    proxy.restore()
    before = answered(service.status(), "spoilt")
    service.until(lambda s: answered(s, "spoilt") > before + 25, timeout_s=20)
    code, summary, said = service.end()
    assert code == 0, said
    assert holds(summary["frames"])
    assert "Traceback" not in said
    proxy.close()
