"""LiteRT's own profiler on the CPU, through the C interface of the wheel's library.

Python has no access to it, and the interface has no version, so this runs in a process that may die
of it and refuses libraries older than the one it was written for. Times are whole microseconds per
run; anything quicker shows as 0.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgevid.errors import EngineFailed
from edgevid.runtimes import Operator
from edgevid.system import devices

PACKAGE, LIBRARY = "ai_edge_litert", "libLiteRt.so"
OLDEST = (2, 3)
CPU = 1
ROW = re.compile(
    r"^\s+(?P<kind>\S.*?)\s+[\d.]+\s+[\d.]+\s+(?P<ms>[\d.]+)\s+[\d.]+%\s+[\d.]+%"
    r"\s+[\d.]+\s+(?P<times>\d+)\s+(?P<name>\S.*)$"
)
_WRITE = 1


def profile(content: bytes, runs: int) -> list[Operator]:
    """Execute an artifact on zeros and report its operators.

    Args:
        content: The ``.tflite`` file.
        runs: How often to execute it.

    Raises:
        EngineFailed: There is no profiler here, or it failed.
    """
    model = _Model(ctypes.CDLL(str(_folder() / LIBRARY)), content)
    return read(model.run(runs), runs)


def read(summary: str, runs: int) -> list[Operator]:
    """The operators of the summary of ``runs`` runs, in the order in which they ran."""
    found = []
    table = summary.partition("Top by Computation Time")[0]
    for row in filter(None, map(ROW.match, table.splitlines())):
        kind = row["kind"].removeprefix("Delegate/")
        mean_ms = float(row["ms"]) * int(row["times"]) / runs
        found.append(Operator(row["name"], kind, "cpu", mean_ms))
    return found


def _folder() -> Path:
    if not devices.in_package(PACKAGE, LIBRARY):
        raise EngineFailed("only ai-edge-litert has a profiler; run: pip install ai-edge-litert")
    version = metadata.version("ai-edge-litert")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        raise EngineFailed(f"ai-edge-litert {version} has no profiler; upgrade it to 2.3 or newer")
    spec = find_spec(PACKAGE)
    assert spec is not None
    folders = (Path(folder) for folder in spec.submodule_search_locations or ())
    return next(folder for folder in folders if (folder / LIBRARY).exists())


class _Model:
    """A compiled model with the profiler on; it lives as long as its process."""

    def __init__(self, library: ctypes.CDLL, content: bytes) -> None:
        self._library = library
        self._held: list[Any] = [content]
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._environment, self._compiled = pointer(), pointer()
        model, options, profiling = pointer(), pointer(), pointer()
        self._call("CreateEnvironment", 0, None, ctypes.byref(self._environment))
        buffer = (self._environment, content, size(len(content)), ctypes.byref(model))
        self._call("CreateModelFromBuffer", *buffer)
        self._call("CreateOptions", ctypes.byref(options))
        self._call("SetOptionsHardwareAccelerators", options, CPU)
        self._call(
            "CreateOpaqueOptions",
            b"runtime_options_string",
            self._text(b"enable_profiling = true\n"),
            self._destructor(),
            ctypes.byref(profiling),
        )
        self._call("AddOpaqueOptions", options, profiling)
        compile_this = (self._environment, model, options, ctypes.byref(self._compiled))
        self._call("CreateCompiledModel", *compile_this)
        self._signature = pointer()
        self._call("GetModelSignature", model, size(0), ctypes.byref(self._signature))
        self._inputs, self._outputs = self._buffers("Input"), self._buffers("Output")

    def run(self, runs: int) -> str:
        """The profiler's summary of ``runs`` runs, after one that does not count."""
        profiler, summary = ctypes.c_void_p(), ctypes.c_char_p()
        self._call("CompiledModelGetProfiler", self._compiled, ctypes.byref(profiler))
        self._run()
        self._call("StartProfiler", profiler)
        for _ in range(runs):
            self._run()
        self._call("StopProfiler", profiler)
        self._call("GetProfileSummary", profiler, self._compiled, ctypes.byref(summary))
        return (summary.value or b"").decode(errors="replace")

    def _run(self) -> None:
        both = [(ctypes.c_size_t(len(one)), one) for one in (self._inputs, self._outputs)]
        self._call("RunCompiledModel", self._compiled, ctypes.c_size_t(0), *both[0], *both[1])

    def _buffers(self, kind: str) -> ctypes.Array[ctypes.c_void_p]:
        """Memory for all inputs or outputs, inputs filled with zeros."""
        count = ctypes.c_size_t()
        self._call(f"GetNumSignature{kind}s", self._signature, ctypes.byref(count))
        buffers = (ctypes.c_void_p * count.value)()
        for index in range(count.value):
            at = ctypes.c_size_t(index)
            tensor, needs, one = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
            shape = ctypes.create_string_buffer(512)  # larger than any version's structure
            self._call(
                f"GetSignature{kind}TensorByIndex", self._signature, at, ctypes.byref(tensor)
            )
            self._call("GetRankedTensorType", tensor, shape)
            first = ctypes.c_size_t(0)
            asked = (self._compiled, first, at, ctypes.byref(needs))
            self._call(f"GetCompiledModel{kind}BufferRequirements", *asked)
            made = (self._environment, shape, needs, ctypes.byref(one))
            self._call("CreateManagedTensorBufferFromRequirements", *made)
            if kind == "Input":
                self._clear(one)
            buffers[index] = one
        return buffers

    def _clear(self, buffer: ctypes.c_void_p) -> None:
        size, address = ctypes.c_size_t(), ctypes.c_void_p()
        self._call("GetTensorBufferPackedSize", buffer, ctypes.byref(size))
        self._call("LockTensorBuffer", buffer, ctypes.byref(address), _WRITE)
        ctypes.memset(address, 0, size.value)
        self._call("UnlockTensorBuffer", buffer)

    def _text(self, content: bytes) -> ctypes.c_void_p:
        buffer = ctypes.create_string_buffer(content)
        self._held.append(buffer)
        return ctypes.cast(buffer, ctypes.c_void_p)

    def _destructor(self) -> Callable[..., Any]:
        """LiteRT calls it with memory that Python owns, so it does nothing."""
        nothing = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda pointer: None)
        self._held.append(nothing)
        return nothing

    def _call(self, name: str, *args: Any) -> None:
        try:
            status = getattr(self._library, f"LiteRt{name}")(*args)
        except AttributeError as error:
            raise EngineFailed(f"this ai-edge-litert has another profiler: {error}") from error
        if status:
            raise EngineFailed(f"LiteRt's {name} failed with status {status}")
