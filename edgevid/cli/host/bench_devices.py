"""``edgevid bench --target``: the host's side; what is not on a device is imported only here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli.console import Bar, emit, say, table
from edgevid.errors import BadInput

if TYPE_CHECKING:
    from edgevid.cli.bench_report import Reports
    from edgevid.flash.fleet import Outcome
    from edgevid.flash.inventory import DeviceEntry
    from edgevid.flash.keys import SigningKey
    from edgevid.jobs.client import BenchRequest

HERE = {"bundle", "source", "out", "words", "as_json", "kind", "root", "pause_service"}
HERE |= {"keep_runner", "end_other", "trust_new", "baseline", "page", "markdown", "wheels"}
"""Parameters of the command that mean something to this side only."""

Text = Callable[[Mapping[str, Any]], str]


def words_of(context: click.Context) -> list[str]:
    """Give the words of this call that mean something on a device, as they would be typed."""
    found: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        typed = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if name in HERE or name not in context.params or not typed:
            continue
        value = context.params[name]
        option = parameter.opts[0]
        for one in value if isinstance(value, tuple) else (value,):
            found += [option] if one is True else [option, str(one)]
    return found


def measure(
    context: click.Context, video: Path, as_json: bool, text: Text, reports: Reports
) -> int:
    """Measure on the devices that the call names, and tell; gives the exit code."""
    from edgevid.flash.inventory import read_inventory, resolve_all

    given = context.params
    devices = resolve_all(given["words"], read_inventory())
    _check_baseline(given.get("baseline"), devices)
    request = _request(context, video)
    out: Path | None = given["out"]
    if len(devices) == 1:
        return _one(devices[0], request, given.get("baseline"), out, as_json, text, reports)
    return _several(devices, request, out, as_json, reports)


def _check_baseline(baseline: Path | None, devices: Sequence[DeviceEntry]) -> None:
    from edgevid.cli.bench_compare import is_bundle

    if baseline is not None and len(devices) > 1:
        raise BadInput("--baseline is the result of one device; give one --target")
    if baseline is not None and is_bundle(baseline):
        raise BadInput(f"{baseline} is a bundle; with --target, --baseline takes a result")


def _request(context: click.Context, video: Path) -> BenchRequest:
    from edgevid.jobs.client import DEADLINE_S, BenchRequest

    given = context.params
    root = given["root"]
    if root is not None and not root.startswith("/"):
        raise BadInput("--root must be a whole path on the device")
    words = words_of(context)
    if given.get("tune") and given["source"] is None and not given["scenarios"]:
        words += ["--scenario", "step"]  # the video that is sent is none that anybody asked for
    deadline_s = DEADLINE_S + 20 * (given.get("sustained") or 0.0)
    return BenchRequest(
        given["bundle"],
        video,
        tuple(words),
        runtimes=_runtimes(given),
        kind=given["kind"],
        root=root,
        pause_service=given["pause_service"],
        keep_runner=given["keep_runner"],
        end_other=given["end_other"],
        trust_new=given["trust_new"],
        deadline_s=deadline_s,
        wheels=given["wheels"],
    )


def _runtimes(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Those that must be there even where flash would bring another one only."""
    from edgevid.bundle import Bundle
    from edgevid.runtimes import catalog

    if given.get("runtime"):
        return (given["runtime"],)
    bundle = Bundle.open(given["bundle"])
    if given.get("artifact"):
        formats = {bundle.artifact(given["artifact"]).format}
    elif given.get("tune") and not given.get("forget"):
        formats = {one.format for one in bundle.artifacts}
    else:
        return ()
    return tuple(dict.fromkeys(name for one in sorted(formats) for name in catalog.made_for(one)))


def signing_key() -> SigningKey:
    """The person's own key; one that is made now is told."""
    from edgevid.flash import keys

    key, made = keys.own_key()
    if made:
        say(f"{key.path}: made; it signs what goes to devices ({key.fingerprint})")
    return key


def _one(
    device: DeviceEntry,
    request: BenchRequest,
    baseline: Path | None,
    out: Path | None,
    as_json: bool,
    text: Text,
    reports: Reports,
) -> int:
    from edgevid.cli import bench_compare
    from edgevid.jobs.client import bench

    before = bench_compare.read(baseline) if baseline else None
    document = bench(device, request, key=signing_key, progress=Bar(), say=say)
    if out is not None:
        _write(out, document)
    code = 0 if document["valid"] else 3
    document, said, code = bench_compare.judged(before, document, text(document), code)
    emit(document, as_json, reports.give([document], said))
    return code


def _several(
    devices: Sequence[DeviceEntry],
    request: BenchRequest,
    out: Path | None,
    as_json: bool,
    reports: Reports,
) -> int:
    """Each device's document goes into the folder ``out``; one table for all."""
    from edgevid.bench.summary_table import HEAD, rows
    from edgevid.jobs.client import bench_all

    if out is not None and out.is_file():
        raise BadInput(f"{out} is a file; of several devices the results go into a folder")
    outcomes = bench_all(devices, request, key=signing_key, say=say)
    documents = [one.result["document"] for one in outcomes if one.result]
    for document in documents if out is not None else ():
        _write(out / f"{document['device']['name']}.json", document)  # type: ignore[operator]
    parts = [table(rows(documents), HEAD)] if documents else []
    failed = [f"{one.device}: {one.reason}" for one in outcomes if one.reason]
    parts += failed
    parts += [
        f"{document['device']['name']}: INVALID: {reason}"
        for document in documents
        for reason in document["reasons"]
    ]
    said = "\n".join(parts)
    if documents:
        reported = reports.give(documents, said)
        for line in failed if reported != said else ():  # there is nothing of them in a report
            say(line)
        said = reported
    emit({"devices": [asdict(one) for one in outcomes]}, as_json, said)
    return _exit_code(outcomes)


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    from edgevid.flash import fleet

    invalid = any(one.state == "INVALID" for one in outcomes)
    return fleet.exit_code(outcomes) or (3 if invalid else 0)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    from edgevid.files import write_json

    write_json(path, document)
    say(f"written: {path}")
