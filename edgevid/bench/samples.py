"""The result document, JSON of format 1, and raw samples as they travel in it.

    format, edgevid, created_unix_s, release, valid, reasons
    machine         see `edgevid.bench.interference.machine`
    harness         {"overhead_us": {"p50", "p99"}}
    bundle, source  names and hashes; the bundle's artifacts with their metric
    comparison      with a baseline, where one was given
    results         of each job:
        job         artifact, runtime, accelerator, scenario, threads, decoder, rate_fps, ...
        precision, valid, reasons, peak_rss_mb, timeline
        warm_up     {"samples", "seconds", "found"}: left out of what follows
        latency_ms, step_ms, runner_ms    {"p50": estimate, ..., "mean": estimate}
        fps         estimate: {"value", "low", "high"} or {"insufficient": samples needed}
        stages_ms   the mean of each; in ``single`` their sum is the wall time
        deadlines   of ``paced``; streams: of ``multi``; sustained: of ``--sustained``
        ready_s, first_answer_s           of fresh processes
        operators   see `edgevid.bench.operators.profile`
        rounds      started_unix_s, elapsed_s, frames, and samples by name, packed:

    {"unit": "ns", "count": 700, "every": 1, "data": "<base64 of zlib of little-endian uint32>"}

Whole nanoseconds, or microseconds where one would not fit into 32 bits; of a long round only
``every`` second, fourth, ... sample is kept.
"""

from __future__ import annotations

import base64
import binascii
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from edgevid.errors import BadInput

FORMAT = 1
"""The version of the document; a reader refuses a larger one."""

LIMIT = (1 << 32) - 1
UNITS = {"ns": 1e9, "us": 1e6}


class Series:
    """Durations of one round in seconds, at most ``capacity`` of them.

    When it is full every second one is let go of, and from then on every second one is kept: what
    is left is spread evenly over the round, however long that was.
    """

    def __init__(self, capacity: int = 1 << 12) -> None:
        self.seconds = array("d")
        self.every = 1
        self.count = 0
        self._capacity = capacity

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Series:
        """Give a series of all these."""
        series = cls()
        for one in seconds:
            series.add(one)
        return series

    def add(self, seconds: float) -> None:
        """Keep one more, or not."""
        if self.count % self.every == 0:
            self.seconds.append(seconds)
            if len(self.seconds) == self._capacity:
                self.seconds = self.seconds[::2]
                self.every *= 2
        self.count += 1


def pack(seconds: Iterable[float] | Series) -> dict[str, Any]:
    """Give durations in seconds as plain data for JSON; ``every`` is a series' own."""
    values = seconds.seconds if isinstance(seconds, Series) else list(seconds)
    unit = "ns" if max(values, default=0.0) * UNITS["ns"] <= LIMIT else "us"
    whole = array("I", (min(LIMIT, max(0, round(one * UNITS[unit]))) for one in values))
    if sys.byteorder == "big":
        whole.byteswap()
    return {
        "unit": unit,
        "count": len(whole),
        "every": seconds.every if isinstance(seconds, Series) else 1,
        "data": base64.b64encode(zlib.compress(whole.tobytes())).decode("ascii"),
    }


def unpack(packed: Mapping[str, Any]) -> array[float]:
    """Give durations in seconds, as float64; raises `BadInput` where they are damaged."""
    whole = array("I")
    try:
        unit, count = UNITS[packed["unit"]], packed["count"]
        whole.frombytes(zlib.decompress(base64.b64decode(packed["data"], validate=True)))
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise BadInput(f"the result's samples are damaged ({error}); measure again") from None
    if sys.byteorder == "big":
        whole.byteswap()
    if len(whole) != count:
        raise BadInput(f"the result holds {len(whole)} samples of {count}; measure again")
    return array("d", (value / unit for value in whole))
