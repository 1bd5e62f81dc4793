"""The conformance suite for sinks.

Subclass `SinkSuite`, name the sink and give options with which it works::

    class TestWebhook(SinkSuite):
        name = "webhook"

        @pytest.fixture
        def options(self, server):
            return WebhookOptions(url=server.url)

Override `received` to check what arrives at the other end.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from edgevid.predictions import RawOutputs
from edgevid.results import Event, Frame, Result
from edgevid.sinks import Sink, open_sink, sink_class

TAKEN = {"kind", "name", "queue"}
"""Keys of every ``[[sink]]`` table, which are not options of a plug-in."""


class SinkSuite:
    """What every sink must do. See the module's docstring.

    Attributes:
        name: The sink's name in the registry, or of its entry point.
    """

    name: str

    @pytest.fixture
    def options(self) -> Any:
        """Options with which the sink works; subclasses override it."""
        raise NotImplementedError("give an instance of the sink's Options")

    @pytest.fixture
    def received(self) -> Callable[[], Sequence[dict[str, Any]]] | None:
        """A function that returns what arrived, as JSON objects; None checks nothing."""
        return None

    @pytest.fixture
    def results(self) -> list[Result]:
        """Some results: a plain one, one with all flags and an event, one with text of any kind."""
        event = Event("presence:person@1", "new", "person", {"zone": "door"}, since_s=0.5)
        frame = Frame(None, 64, 48, "door", 0, 0.0, 0.0)
        return [
            Result("door", 0, 0.0, RawOutputs({}), frame=frame),
            Result(
                *("door", 1, 0.5, RawOutputs({}), (event,)),
                warm=False,
                gap=True,
                degraded=True,
                corrected=True,
                captured_unix_s=1.7e9,
                bundle="motion",
            ),
            Result('T\u00fcr \u2603 "quoted"\n', 2, 1.0, RawOutputs({})),
        ]

    @pytest.fixture
    def sink(self, options: Any) -> Sink:
        """An open sink; the test closes it."""
        return open_sink(self.name, options)

    def test_the_class_declares_its_options(self) -> None:
        """``[[sink]]`` tables and ``--sink`` need them."""
        options = sink_class(self.name).Options
        assert is_dataclass(options)
        assert options.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert not TAKEN & {one.name for one in fields(options)}

    def test_results_arrive_in_order(
        self, sink: Sink, results: list[Result], received: Any
    ) -> None:
        """Every result arrives after the flush of its batch."""
        for result in results:
            sink.write(result)
        sink.flush()
        if received is not None:
            assert list(received()) == [result.to_json() for result in results]
        sink.close()

    def test_a_batch_may_be_empty(self, sink: Sink, received: Any) -> None:
        """The runner may flush without a result."""
        sink.flush()
        sink.close()
        if received is not None:
            assert list(received()) == []

    def test_it_works_after_it_was_reopened(
        self, sink: Sink, results: list[Result], received: Any
    ) -> None:
        """SIGHUP reopens files between two batches and loses nothing."""
        sink.write(results[0])
        sink.flush()
        sink.reopen()
        sink.write(results[1])
        sink.flush()
        sink.close()
        if received is not None:
            assert list(received())[-1] == results[1].to_json()

    def test_it_works_in_another_thread(self, sink: Sink, results: list[Result]) -> None:
        """The runner opens a sink in the main thread and uses it in one of its own."""
        errors: list[BaseException] = []

        def use() -> None:
            try:
                sink.write(results[0])
                sink.flush()
                sink.close()
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert not errors, errors

    def test_a_result_is_plain_data(self, results: list[Result]) -> None:
        """What a sink sends is JSON."""
        for result in results:
            assert json.loads(json.dumps(result.to_json())) == result.to_json()
