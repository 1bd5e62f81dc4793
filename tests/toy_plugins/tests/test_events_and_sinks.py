"""edgevid's conformance suites over the event stage and the sink of this package."""

from __future__ import annotations

import pytest
from edgevid_toy.brightness_device import Brightness
from edgevid_toy.lines import LinesOptions

from edgevid.contract import Contract, FrameInput, Output
from edgevid.testing.event import EventSuite
from edgevid.testing.sink import SinkSuite


class TestEventStage(EventSuite):
    name = "toy-threshold"

    @pytest.fixture
    def contract(self):
        return Contract(
            task="toy-brightness",
            inputs=(FrameInput("frame", 16, 24),),
            outputs=(Output("brightness", (1, 1)),),
            labels=(),
            rate_fps=10.0,
        )

    @pytest.fixture
    def predictions(self):
        return [Brightness(value) for value in (0.1, 0.7, 0.8, 0.2, 0.9, 0.1)]


class TestSink(SinkSuite):
    name = "toy-lines"

    @pytest.fixture
    def options(self, tmp_path):
        return LinesOptions(tmp_path / "lines.txt")
