"""What stands in a result document, in words: for pages and for Markdown."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edgevid.bench import summary_table

Raw = Mapping[str, Any]


def engine(result: Raw) -> tuple[str, str]:
    """The artifact, and the runtime with its accelerator."""
    job = result["job"]
    return job["artifact"], f"{job['runtime']}/{job['accelerator']}"


def label(result: Raw) -> str:
    """The artifact and the engine."""
    return ", ".join(engine(result))


def interval(estimate: Raw | None) -> str:
    """A figure with its interval, or how many samples it needs."""
    if estimate is None:
        return "–"
    if "insufficient" in estimate:
        return f"insufficient, needs {estimate['insufficient']}"
    return f"{estimate['value']:.4g} ({estimate['low']:.4g}–{estimate['high']:.4g})"


def facts(document: Raw) -> Iterator[tuple[str, object]]:
    """What stayed the same of a document's machine, in words."""
    machine = document["machine"]
    cpu = machine.get("cpu") or {}
    yield "device", summary_table.device(document)
    yield "board", machine.get("board")
    yield "processor", cpu.get("model")
    yield "cores", _joined([cpu.get("cores"), f"{cpu.get('usable_cores')} usable"])
    yield "features", _joined(cpu.get("features") or ())
    yield "clock", _joined(_clock(one) for one in machine.get("clock") or ()) or "not told"
    yield "CPU quota, cores", machine.get("cgroup_cpu_limit") or "none"
    yield "memory MB", machine.get("memory_mb")
    yield "virtual machine", machine.get("virtual_machine") or "no"
    yield "container", machine.get("container") or "no"
    yield "kernel", machine.get("kernel")
    yield "power", _joined(_power(one) for one in machine.get("power") or ()) or "not told"
    yield "heat", _joined(_heat(one) for one in machine.get("heat") or ()) or "not told"
    versions = machine.get("versions") or {}
    yield "versions", _joined(f"{name} {told}" for name, told in versions.items() if told)


def _joined(words: Iterable[object]) -> str:
    return ", ".join(str(word) for word in words if word)


def _clock(one: Raw) -> str:
    return f"cores {one['cores']}: {one['governor']}, {one['least_mhz']}–{one['most_mhz']} MHz"


def _power(one: Raw) -> str:
    return f"{one['name']} ({one['kind']}){': ' + one['why'] if one.get('why') else ''}"


def _heat(one: Raw) -> str:
    return f"{one['zone']} slows down at {one['slows_at_c']} °C"


def origin(document: Raw) -> Iterator[tuple[str, object]]:
    """Bundle, release, video and harness of a document."""
    source, overhead = document["source"], document["harness"]["overhead_us"]
    size = " × ".join(str(side) for side in reversed(source["size"]))
    yield "measured", when(document)
    yield "bundle", document["bundle"]["name"]
    yield "bundle's sha256", document["bundle"]["key"]
    yield "release", document.get("release") or "none"
    yield "video", f"{source['name']}, {size}, {source['rate_fps']} frames/s, {source['codec']}"
    yield "video's sha256", source["sha256"]
    told = ", ".join(f"{name} {value:.4g}" for name, value in overhead.items())
    yield "the harness itself, us a step", told
    yield "edgevid", document["edgevid"]


def when(document: Raw) -> str:
    """The date of a document."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(document["created_unix_s"]))
