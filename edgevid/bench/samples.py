"""Raw samples of a benchmark: durations in seconds, and their packed form in a result.

    {"unit": "ns", "count": 700, "every": 1, "data": "<base64 of zlib of little-endian uint32>"}

Samples are integers in nanoseconds, or in microseconds if one of them would exceed 32 bits. Of a
long round only every second, fourth, ... sample is kept: ``every``.
"""

from __future__ import annotations

import base64
import binascii
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgevid.documents import from_json
from edgevid.errors import BadInput

LIMIT = (1 << 32) - 1
UNITS = {"ns": 1e9, "us": 1e6}


@dataclass(frozen=True)
class PackedSamples:
    """Durations of one round."""

    unit: Literal["ns", "us"]
    count: int
    data: str
    """Base64 of zlib of little-endian uint32."""
    every: int = 1
    """One of so many samples was kept."""


class Series:
    """Durations of one round in seconds, at most ``capacity`` of them.

    When the series is full, every second sample is dropped, and from then on only every second one
    is added. The samples that remain are spread evenly over the round, however long it was.
    """

    def __init__(self, capacity: int = 1 << 12) -> None:
        self.seconds = array("d")
        self.every = 1
        self.count = 0
        self._capacity = capacity

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Series:
        """Return a series of these durations."""
        series = cls()
        for one in seconds:
            series.add(one)
        return series

    def add(self, seconds: float) -> None:
        """Add a duration; it is kept or not, see above."""
        if self.count % self.every == 0:
            self.seconds.append(seconds)
            if len(self.seconds) == self._capacity:
                self.seconds = self.seconds[::2]
                self.every *= 2
        self.count += 1


def pack(seconds: Iterable[float] | Series) -> PackedSamples:
    """Pack durations in seconds; ``every`` is that of a series, else 1."""
    values = seconds.seconds if isinstance(seconds, Series) else list(seconds)
    unit: Literal["ns", "us"] = "ns" if max(values, default=0.0) * UNITS["ns"] <= LIMIT else "us"
    whole = array("I", (min(LIMIT, max(0, round(one * UNITS[unit]))) for one in values))
    if sys.byteorder == "big":
        whole.byteswap()
    data = base64.b64encode(zlib.compress(whole.tobytes())).decode("ascii")
    every = seconds.every if isinstance(seconds, Series) else 1
    return PackedSamples(unit, len(whole), data, every)


def unpack(packed: PackedSamples | Mapping[str, Any]) -> array[float]:
    """Unpack durations.

    Args:
        packed: What `pack` returned, or its JSON.

    Returns:
        Seconds, float64.

    Raises:
        BadInput: If they are damaged.
    """
    if not isinstance(packed, PackedSamples):
        packed = from_json(PackedSamples, packed, "a series of samples", "measure again")
    whole = array("I")
    try:
        whole.frombytes(zlib.decompress(base64.b64decode(packed.data, validate=True)))
    except (ValueError, binascii.Error, zlib.error) as error:
        raise BadInput(f"the result's samples are damaged ({error}); measure again") from None
    if sys.byteorder == "big":
        whole.byteswap()
    if len(whole) != packed.count:
        raise BadInput(f"the result holds {len(whole)} samples of {packed.count}; measure again")
    unit = UNITS[packed.unit]
    return array("d", (value / unit for value in whole))


def unpack_steady(packed: Iterable[PackedSamples], warm_up: int) -> list[array[float]]:
    """Unpack the samples of consecutive rounds without the warm-up.

    Args:
        packed: One series a round, in the order of the rounds.
        warm_up: How many samples from the start to leave out, counted as they were taken.

    Returns:
        One array of seconds a round; empty for a round that is all warm-up.
    """
    rounds = []
    for one in packed:
        samples = unpack(one)
        skip = min(len(samples), -(-warm_up // one.every))
        warm_up = max(0, warm_up - skip * one.every)
        rounds.append(samples[skip:])
    return rounds
