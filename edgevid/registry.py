"""What is plugged in where: kind -> name -> ``module:attribute``, and the extra that provides it.

A name here is the file's name and the option's value. To add a backend, write its file and add its
row; the conformance tests find it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from edgevid.errors import BadInput, MissingExtra


@dataclass(frozen=True)
class Row:
    """Where one backend lives, the extra that provides it, and the modules that extra brings.

    Any one of ``needs`` is enough (a library and its successor, for instance).
    """

    where: str
    extra: str | None = None
    needs: tuple[str, ...] = ()


TABLE: dict[str, dict[str, Row]] = {
    "accelerator": {  # <runtime>/<accelerator>; the CPU is every runtime's own
        "null/null": Row("edgevid.runtimes.null.null:NullAccelerator"),
        "openvino/gpu": Row("edgevid.runtimes.openvino.gpu:GPU", "openvino", ("openvino",)),
        "openvino/npu": Row("edgevid.runtimes.openvino.npu:NPU", "openvino", ("openvino",)),
        "tflite/edgetpu": Row("edgevid.runtimes.tflite.edgetpu:EdgeTPU", "runner"),
        "tflite/gpu": Row("edgevid.runtimes.tflite.gpu:GPU", "runner", ("ai_edge_litert",)),
    },
    "converter": {
        "openvino": Row(
            "edgevid_converters.lowering.openvino.converter:OpenVINO", "convert", ("openvino",)
        ),
        "tflite": Row(
            "edgevid_converters.lowering.tflite.converter:TFLite", "convert", ("tensorflow",)
        ),
    },
    "runtime": {
        "null": Row("edgevid.runtimes.null:Null"),
        "openvino": Row("edgevid.runtimes.openvino:OpenVINO", "openvino", ("openvino",)),
        "tflite": Row(
            "edgevid.runtimes.tflite:TFLite", "runner", ("ai_edge_litert", "tflite_runtime")
        ),
    },
    "scenario": {  # ways to load what is measured
        "multi": Row("edgevid.bench.scenarios.multi:Multi"),
        "offline": Row("edgevid.bench.scenarios.offline:Offline"),
        "paced": Row("edgevid.bench.scenarios.paced:Paced"),
        "single": Row("edgevid.bench.scenarios.single:Single"),
        "step": Row("edgevid.bench.scenarios.step:Step"),
    },
    "sink": {
        "jsonl": Row("edgevid.runner.jsonl:JsonLines"),
    },
    "source": {
        "file": Row("edgevid.media.video:open_file", "runner", ("av",)),
        "http": Row("edgevid.media.network:open_network", "runner", ("av",)),
        "https": Row("edgevid.media.network:open_network", "runner", ("av",)),
        "picamera": Row("edgevid.media.picamera:open_picamera", "runner", ("av",)),
        "rtsp": Row("edgevid.media.network:open_network", "runner", ("av",)),
        "rtsps": Row("edgevid.media.network:open_network", "runner", ("av",)),
        "synthetic": Row("edgevid.media.synthetic:open_synthetic", "runner", ("av",)),
        "v4l2": Row("edgevid.media.v4l2:open_v4l2", "runner", ("av",)),
    },
    "task": {
        "classification": Row("edgevid.tasks.classification:Classification"),
        "raw": Row("edgevid.tasks.raw:Raw"),
    },
    "tool": {  # host-only work that the device's package reaches by name alone
        "contract": Row(
            "edgevid_converters.importers.contract_draft:start",
            "convert",
            ("tensorflow", "openvino"),
        ),
        "convert": Row("edgevid_converters:convert", "convert", ("tensorflow", "openvino")),
        "page": Row("edgevid_converters.page:page", "convert", ("ai_edge_litert", "openvino")),
    },
}


def names(kind: str) -> tuple[str, ...]:
    """Every name of ``kind``, sorted."""
    return tuple(sorted(TABLE[kind]))


def row(kind: str, name: str) -> Row:
    """The row of ``name``; raises `BadInput` with the nearest name where there is none."""
    try:
        return TABLE[kind][name]
    except KeyError:
        raise BadInput(unknown(kind, name, TABLE[kind])) from None


def load(kind: str, name: str) -> Any:
    """Import and give the backend; raises `MissingExtra` with the install line."""
    found = row(kind, name)
    module, _, attribute = found.where.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if found.extra and missing in found.needs:
            raise MissingExtra(install_line(f"{kind} {name}", found.extra)) from error
        raise


def lack(kind: str, name: str) -> str | None:
    """The install line where a backend's library is missing; nothing is imported for it."""
    found = row(kind, name)
    if not found.extra or not found.needs or any(find_spec(module) for module in found.needs):
        return None
    return install_line(f"{kind} {name}", found.extra)


def unknown(kind: str, name: str, known: Any) -> str:
    """Say that ``name`` is not known, with the nearest one that is."""
    near = get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}known: {', '.join(sorted(known))}"


def install_line(what: str, extra: str) -> str:
    """Say which install line brings what is missing."""
    return f"{what} is not installed; run: pip install 'edgevid[{extra}]'"


def need(module: str, extra: str) -> Any:
    """Import ``module``, or raise `MissingExtra` with the line that installs ``extra``.

    An import error from deeper down, about another package, is let through as it is.
    """
    try:
        return import_module(module)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == module.partition(".")[0]:
            raise MissingExtra(
                install_line(f"package {module.partition('.')[0]}", extra)
            ) from error
        raise
