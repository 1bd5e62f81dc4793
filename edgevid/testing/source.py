"""The conformance suite for sources.

Subclass `SourceSuite`, name the source, and give a name that opens it::

    from edgevid.testing.source import SourceSuite

    class TestImages(SourceSuite):
        scheme = "images"

        @pytest.fixture
        def name(self, tmp_path):
            write_images(tmp_path, count=20)
            return f"images:{tmp_path}?fps=25"
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from itertools import pairwise

import pytest

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.media.sources import (
    Source,
    SourceOptions,
    SourcePlugin,
    open_source,
    resolve,
    scheme_of,
)
from edgevid.results import Frame

STATES = {"connecting", "open", "waiting", "ended"}
STATUS = {"state", "reason", "detail", "reconnects"}
KNOWN_TYPES = {"str", "int", "float"}
FRAMES = 15
"""What a test waits for."""


class SourceReader:
    """Reads a source in a thread, as the runner does.

    Attributes:
        source: The source.
        frames: The frames so far.
        liveness: `Source.live` at each frame.
        error: What ended the iteration, if anything did.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.frames: list[Frame] = []
        self.liveness: list[bool | None] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for frame in self.source:
                self.frames.append(frame)
                self.liveness.append(self.source.live)
        except BaseException as error:  # noqa: BLE001 - the test reports it
            self.error = error

    def wait(self, condition: Callable[[], object], within_s: float = 30.0) -> None:
        """Wait for a condition; fails if it takes longer."""
        end = time.monotonic() + within_s
        while not condition():
            assert self.error is None, self.error
            assert time.monotonic() < end, f"not within {within_s} s: {self.source.status()}"
            time.sleep(0.01)

    def has_ended(self) -> bool:
        """Whether the iteration is over."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Stop and close the source; fails if its iteration continues. May be repeated."""
        self.source.stop()
        self._thread.join(10.0)
        assert self.has_ended(), "the iteration continues after stop()"
        self.source.close()
        assert self.error is None, self.error


class SourceSuite:
    """What every source does. Every test opens the source anew.

    Attributes:
        scheme: The source's name in the registry.
        options: How to read it.
    """

    scheme: str
    options = SourceOptions()

    @pytest.fixture
    def name(self) -> str:
        """A name of this source that delivers at least `FRAMES` frames. Override it."""
        raise NotImplementedError

    @pytest.fixture
    def reader(self, name: str) -> Iterator[SourceReader]:
        """A reader of the source."""
        reader = SourceReader(open_source(name, self.options, lambda _: None))
        yield reader
        reader.stop()

    def test_the_declaration_is_complete(self) -> None:
        """The registry's row names a `SourcePlugin` whose parameters have defaults."""
        plugin = registry.load("source", self.scheme)
        assert isinstance(plugin, SourcePlugin)
        if plugin.parameters is not None:
            assert is_dataclass(plugin.parameters)
            plugin.parameters()
            assert {_type_name(one.type) for one in fields(plugin.parameters)} <= KNOWN_TYPES

    def test_its_names_lead_to_it(self, name: str) -> None:
        """Names, the example among them, belong to this source."""
        plugin, address = resolve(name)
        assert scheme_of(name) == address.scheme == self.scheme
        assert scheme_of(plugin.example) in registry.names("source")

    def test_an_unknown_parameter_is_rejected(self, name: str) -> None:
        """An unknown key in the query is an error of one line that names it."""
        if resolve(name)[0].parameters is None:
            pytest.skip("it declares no parameters")
        mark = "&" if "?" in name else "?"
        with pytest.raises(BadInput, match="nonsense") as caught:
            open_source(f"{name}{mark}nonsense=1", self.options, lambda _: None)
        assert "\n" not in str(caught.value)

    def test_frames_are_numbered_in_order(self, reader: SourceReader) -> None:
        """Indices count from 0, time stamps increase, and sizes are those of the images."""
        reader.wait(lambda: len(reader.frames) >= FRAMES)
        reader.stop()
        frames = reader.frames
        assert [one.index for one in frames] == list(range(len(frames)))
        assert all(b.pts_s > a.pts_s for a, b in pairwise(frames))
        assert all(one.decode_s >= 0 for one in frames)
        assert all(one.captured_s <= time.perf_counter() for one in frames)
        assert all((one.image.width, one.image.height) == (one.width, one.height) for one in frames)
        assert {one.source for one in frames} == {reader.source.name}

    def test_every_packet_is_accounted_for(self, reader: SourceReader) -> None:
        """At the end, each packet became a frame, was skipped, or was lost."""
        reader.wait(lambda: len(reader.frames) >= FRAMES)
        reader.stop()
        counts = reader.source.arrivals
        assert counts.captured == len(reader.frames) + counts.skipped + counts.lost

    def test_liveness_is_decided_once(self, name: str, reader: SourceReader) -> None:
        """`Source.live` is known at the first frame, never changes, and fits the declaration."""
        finite = resolve(name)[0].finite
        assert reader.source.live in (None, True, False)
        reader.wait(lambda: len(reader.frames) >= FRAMES)
        reader.stop()
        assert len(set(reader.liveness)) == 1 and reader.liveness[0] is not None
        assert finite is None or reader.liveness[0] is not finite

    def test_a_finite_stream_ends_by_itself(self, reader: SourceReader) -> None:
        """The iteration over a stream that is not live ends without `stop`."""
        reader.wait(lambda: reader.liveness)
        if reader.source.live:
            pytest.skip("it is live")
        reader.wait(reader.has_ended)
        assert reader.source.status()["state"] == "ended"

    def test_the_status_is_plain_data(self, reader: SourceReader) -> None:
        """The status has the fixed keys, and a promise of the next sign of life."""
        assert reader.source.due_s > time.monotonic()
        reader.wait(lambda: len(reader.frames) >= 3)
        status = reader.source.status()
        assert status.keys() >= STATUS and status["state"] in STATES
        assert status["reason"] is None
        json.dumps(status)
        reader.stop()
        assert reader.source.status()["state"] == "ended"

    def test_it_can_be_closed_without_being_read(self, name: str) -> None:
        """A source that was stopped before anybody read it gives at most one frame."""
        source = open_source(name, self.options, lambda _: None)
        source.stop()
        assert len(list(source)) <= 1
        source.close()

    def test_a_reader_that_leaves_early_leaves_no_thread(self, name: str) -> None:
        """After an iteration that was broken off, `close` ends the source's threads."""
        before = set(threading.enumerate())
        source = open_source(name, self.options, lambda _: None)
        frames = iter(source)
        for _ in range(3):
            next(frames)
        del frames
        source.close()
        end = time.monotonic() + 10
        while left := set(threading.enumerate()) - before:
            assert time.monotonic() < end, left
            time.sleep(0.02)


def _type_name(declared: object) -> str:
    """The name of a field's type, which may be declared as text."""
    return str(getattr(declared, "__name__", declared))
