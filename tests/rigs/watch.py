"""A reader of a source, as the runner is one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Watcher:
    """Reads a source in a thread and keeps its frames."""

    def __init__(self, source, reported: list[str] | None = None) -> None:
        self.reported = [] if reported is None else reported
        self.source = source
        self.frames: list = []
        self.times: list[float] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for captured in self.source:
                self.times.append(time.monotonic())
                self.frames.append(captured)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def wait(self, what: Callable[[], object], within_s: float) -> float:
        """Wait until ``what()``; gives the seconds that it took, fails where it takes longer."""
        began = time.monotonic()
        while not what():
            took = time.monotonic() - began
            assert took < within_s, f"not within {within_s} s: {self.source.status()}"
            assert self.error is None, self.error
            time.sleep(0.01)
        return time.monotonic() - began

    def first(self, count: int, within_s: float = 10.0) -> float:
        """Wait until so many frames have come, those from before this call among them."""
        return self.wait(lambda: len(self.frames) >= count, within_s)

    def more(self, count: int = 1, within_s: float = 10.0) -> float:
        """Wait for so many more frames."""
        return self.first(len(self.frames) + count, within_s)

    def stop(self, within_s: float = 1.0) -> float:
        """Stop the source; gives the seconds until its iteration ended."""
        began = time.monotonic()
        self.source.stop()
        self._thread.join(within_s)
        assert not self._thread.is_alive(), "the iteration goes on after stop()"
        took = time.monotonic() - began
        self.source.close()
        assert self.error is None, self.error
        return took


def check_counts(source, pictures: int) -> None:
    """After the end every packet was shown, skipped or lost."""
    counts = source.arrivals
    assert counts.captured == pictures + counts.skipped + counts.lost, counts
