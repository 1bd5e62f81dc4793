"""The sink of the documentation, in one file of at most 60 lines, used as another package's."""

import os
from urllib.error import HTTPError

import pytest

from edgevid.errors import BadInput
from edgevid.predictions import RawOutputs
from edgevid.results import Result
from edgevid.runner.plugin_tables import parse_sink
from edgevid.sinks import open_sink
from edgevid.testing.sink import SinkSuite
from rigs.plugin_package import EXAMPLES, write_package


@pytest.fixture(autouse=True)
def installed(stand_ins):
    return stand_ins


class TestWebhook(SinkSuite):
    name = "webhook"

    @pytest.fixture
    def options(self, receiver):
        return parse_sink(f"webhook:url={receiver.url}").options

    @pytest.fixture
    def received(self, receiver):
        return lambda: receiver.got


def test_it_is_short():
    assert len((EXAMPLES / "edgevid_webhook.py").read_text().splitlines()) <= 60


def test_it_retries_while_the_server_is_away(receiver):
    sink = open_sink("webhook", parse_sink(f"webhook:url={receiver.url},retry_s=0.01").options)
    receiver.refuse = [503, 503]
    sink.write(Result("door", 0, 0.0, RawOutputs({})))
    assert len(receiver.got) == 1
    receiver.refuse = [404]
    with pytest.raises(HTTPError):
        sink.write(Result("door", 1, 0.0, RawOutputs({})))
    assert len(receiver.got) == 1


def test_a_whole_run_posts_every_result(edgevid, null_bundle, video, receiver, tmp_path):
    path = os.pathsep.join(write_package(tmp_path / "package"))
    done = edgevid(
        *("run", null_bundle, video, "--rate", "all", "--json"),
        *("--sink", f"webhook:url={receiver.url}"),
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert [line["index"] for line in receiver.got] == list(range(40))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("webhok", "--sink: unknown sink 'webhok'; did you mean webhook?"),
        ("webhook", "--sink webhook: lacks the key 'url'; add it"),
        ("webhook:ulr=x", "--sink webhook: unknown key 'ulr'; did you mean 'url'?"),
        ("webhook:url=x,timeout_s=no", "--sink webhook: timeout_s must be a number above 0"),
        ("webhook:url=x,attempts=1.5", "attempts must be "),
        ("webhook:url", "--sink webhook: 'url' has no value; write url=VALUE"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(text, says):
    with pytest.raises(BadInput) as caught:
        parse_sink(text)
    assert says in str(caught.value)


def test_a_comma_belongs_to_a_value_unless_an_option_follows():
    options = parse_sink("webhook:url=http://a/?x=1,2,attempts=5").options
    assert (options.url, options.attempts) == ("http://a/?x=1,2", 5)
