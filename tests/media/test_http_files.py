"""Files that a web server does not have, and cameras that it refuses."""

import re

import pytest

from edgevid.errors import BadVideo
from edgevid.media.sources import SourceOptions, open_source
from edgevid.media.timing import Backoff
from rigs.watch import Watcher
from rigs.web import answering


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (404, "404 Not Found; check the address"),
        (410, "check the address"),
        (429, "check the address"),
        (401, "check user and password; they belong in front of the host"),
        (403, "check user and password"),
        (200, "FFmpeg cannot read what it sends; open the address"),
    ],
)
def test_a_file_that_a_web_server_does_not_have_is_one_line(status, advice):
    with answering(status) as (url, requests):
        source = open_source(f"{url}/Clip.MP4?token=1", SourceOptions(), lambda line: None)
        with pytest.raises(BadVideo, match=re.escape(advice)) as caught:
            source.decide()
        source.close()
    assert len(requests) == 1 and "\n" not in str(caught.value)


def test_a_file_on_a_server_that_is_not_there_is_tried_a_few_times():
    told: list[str] = []
    source = open_source("http://127.0.0.1:1/clip.mp4", SourceOptions(), told.append)
    source._backoff = Backoff(first_s=0.01, max_s=0.01)
    with pytest.raises(BadVideo, match="Connection refused; check the port"):
        source.decide()
    source.close()
    assert len(told) == 1 and told[0].endswith("retrying a few times")


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "not-found"), (410, "not-found"), (401, "auth")]
)
def test_what_may_be_a_camera_is_tried_on_and_says_why(status, reason):
    reported: list[str] = []
    with answering(status) as (url, requests):
        source = open_source(f"{url}/video", SourceOptions(), reported.append)
        source.decide()
        watcher = Watcher(source)
        watcher.wait(lambda: watcher.source.status()["reason"] == reason, 5)
        watcher.wait(lambda: len(requests) > 1, 5)
        watcher.stop()
    assert source.live is None
    assert len(reported) == 1 and reported[0].endswith("retrying until it is back")
