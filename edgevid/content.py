"""Limits on the content of untrusted files, checked before memory is allocated.

A manifest, a contract or an array may declare far more than it holds. These limits are well above
anything that edgevid writes.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgevid.errors import BadInput
from edgevid.settings import shown
from edgevid.text import is_printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

JSON_BYTES = 16 << 20
JSON_ENTRIES = 500_000
JSON_DEPTH = 24
JSON_NESTING = 200
"""The most brackets that are open at once."""
TEXT_CHARACTERS = 8192
"""The longest text in a manifest or a contract."""
NPZ_BYTES = 4 << 30
"""The most that an ``.npz`` file may unpack to."""


def parse_json(content: bytes) -> Any:
    """Parse a JSON document of limited size.

    Args:
        content: The document, in UTF-8.

    Raises:
        ValueError: It is not JSON, or larger than these limits; the message says which.
    """
    if len(content) > JSON_BYTES:
        raise ValueError(f"is larger than {JSON_BYTES >> 20} MB")
    if content.count(b",") + content.count(b"[") + content.count(b"{") > JSON_ENTRIES:
        raise ValueError(f"has more than {JSON_ENTRIES} entries")
    return parse_nested(content)


def parse_nested(content: bytes) -> Any:
    """Parse a JSON document of limited nesting.

    Python's recursion limit is no protection where a library has raised it (onnx2tf sets the
    largest integer): the parser would overflow the stack and crash the process.

    Args:
        content: The document, in UTF-8.

    Raises:
        ValueError: It is not JSON, or more than `JSON_NESTING` brackets are open at once.
    """
    found = re.findall(rb'(?s)"(?:[^"\\]|\\.)*+"?|[\[\]{}]', content)
    if max(accumulate(_STEPS.get(one, 0) for one in found), default=0) > JSON_NESTING:
        raise ValueError("is nested too deeply")
    # Decoded here: given bytes, json would also accept UTF-16, in which brackets are miscounted.
    return json.loads(content.decode())


_STEPS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


def check_texts(value: Any, place: str, depth: int = 0) -> None:
    """Check that every text in plain data is printable, and that lengths and nesting are limited.

    Args:
        value: Plain data.
        place: Its name, for messages.
        depth: How deep it is nested already.

    Raises:
        BadInput: A text is not printable or too long, or the nesting too deep.
    """
    if depth > JSON_DEPTH:
        raise BadInput(f"{place[:TEXT_CHARACTERS]} is nested too deeply; reduce the nesting")
    if isinstance(value, str):
        if len(value) > TEXT_CHARACTERS:
            raise BadInput(
                f"{place}: a text has {len(value)} characters; use at most {TEXT_CHARACTERS}"
            )
        if not is_printable(value):
            raise BadInput(
                f"{place}: {shown(value)} has characters that are not printable; leave them out"
            )
    elif isinstance(value, Mapping):
        for key, one in value.items():
            check_texts(key, place, depth)
            check_texts(one, f"{place}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for one in value:
            check_texts(one, place, depth + 1)


def load_npy(content: bytes) -> NDArray[Any]:
    """Read an array of numbers from the content of a ``.npy`` file.

    Args:
        content: The whole file.

    Returns:
        The array, of the shape and dtype in its header.

    Raises:
        ValueError: It is damaged, or its header declares more or less than it holds.
    """
    import numpy as np

    file = io.BytesIO(content)
    _check_header(file, len(content))
    file.seek(0)
    loaded: NDArray[Any] = np.load(file, allow_pickle=False)
    return loaded


def load_npz(file: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of numbers in an ``.npz`` file.

    Args:
        file: The file.

    Returns:
        Name -> array, of the shape and dtype in its header.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, unpacks to more than `NPZ_BYTES`, or an array's header declares
            more or less than it holds.
        zipfile.BadZipFile: It is not a zip file.
    """
    import numpy as np

    with zipfile.ZipFile(file) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if sum(sizes.values()) > NPZ_BYTES:
            raise ValueError(f"it unpacks to more than {NPZ_BYTES >> 30} GB")
        for name, size in sizes.items():
            with archive.open(name) as member:
                _check_header(member, size)
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _check_header(file: IO[bytes], size: int) -> None:
    """Check that an array's header declares exactly the bytes that follow it."""
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"the array format {version} is not supported")
    shape, _, dtype = readers[version](file)
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError("an array's dtype is not numeric")
    declared, there = prod(shape) * dtype.itemsize, size - file.tell()
    if declared != there or min(shape, default=0) < 0:
        raise ValueError(f"an array declares {declared} bytes and has {there}")
