"""``edgevid bench --target``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli.console import Bar, emit, outputs, save, say, table
from edgevid.errors import BadInput
from edgevid.files import canonical_json
from edgevid.output import Destination, try_folder

if TYPE_CHECKING:
    from edgevid.bench.result import BenchResult, ForgottenTuning
    from edgevid.cli.host.bench_report import Reports
    from edgevid.flash.fleet import Outcome
    from edgevid.flash.inventory import DeviceEntry
    from edgevid.flash.keys import SigningKey
    from edgevid.jobs.request import BenchRequest

LOCAL = {"bundle", "source", "out", "devices", "as_json", "kind", "root", "pause_service"}
LOCAL |= {"keep_runner", "end_other", "trust_new", "baseline", "page", "markdown", "wheels"}
"""Parameters of the command that are not passed on to the device."""

Text = Callable[["BenchResult | ForgottenTuning"], str]


def device_args(context: click.Context) -> list[str]:
    """Return the arguments of this call that are passed on to the device."""
    found: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        typed = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if name in LOCAL or name not in context.params or not typed:
            continue
        value = context.params[name]
        option = parameter.opts[0]
        for one in value if isinstance(value, tuple) else (value,):
            found += [option] if one is True else [option, str(one)]
    return found


def measure(
    context: click.Context, video: Path, as_json: bool, text: Text, reports: Reports | None
) -> int:
    """Measure on the devices that the call names; returns the exit code."""
    from edgevid.flash.inventory import read_inventory, resolve_all

    options = context.params
    devices = resolve_all(options["devices"], read_inventory())
    _check_baseline(options.get("baseline"), devices)
    request = _request(context, video)
    out: Path | None = options["out"]
    if len(devices) == 1:
        file = outputs(as_json, out=out).get("out")
        return _one(devices[0], request, options.get("baseline"), file, as_json, text, reports)
    if out is not None:
        try_folder(out)
    return _several(devices, request, out, as_json, reports)


def _check_baseline(baseline: Path | None, devices: Sequence[DeviceEntry]) -> None:
    from edgevid.cli.host.bench_compare import is_bundle

    if baseline is not None and len(devices) > 1:
        raise BadInput("--baseline is the result of one device; give one --target")
    if baseline is not None and is_bundle(baseline):
        raise BadInput(f"{baseline} is a bundle; with --target, --baseline takes a result")


def _request(context: click.Context, video: Path) -> BenchRequest:
    from edgevid.jobs.request import DEADLINE_S, BenchRequest

    options = context.params
    root = options["root"]
    if root is not None and not root.startswith("/"):
        raise BadInput("--root must be an absolute path on the device")
    args = device_args(context)
    if options.get("tune") and options["source"] is None and not options["scenarios"]:
        args += ["--scenario", "step"]  # the video that is sent is not the user's choice
    deadline_s = DEADLINE_S + 20 * (options.get("sustained") or 0.0)
    return BenchRequest(
        options["bundle"],
        video,
        tuple(args),
        runtimes=_runtimes(options),
        kind=options["kind"],
        root=root,
        pause_service=options["pause_service"],
        keep_runner=options["keep_runner"],
        end_other=options["end_other"],
        trust_new=options["trust_new"],
        deadline_s=deadline_s,
        wheels=options["wheels"],
    )


def _runtimes(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The runtimes that must be on the device, even if flash would not install them."""
    from edgevid.bundle import Bundle
    from edgevid.runtimes import catalog

    if options.get("runtime"):
        return (options["runtime"],)
    bundle = Bundle.open(options["bundle"])
    if options.get("artifact"):
        formats = {bundle.artifact(options["artifact"]).format}
    elif options.get("tune") and not options.get("forget"):
        formats = {one.format for one in bundle.artifacts}
    else:
        return ()
    return tuple(dict.fromkeys(name for one in sorted(formats) for name in catalog.made_for(one)))


def signing_key() -> SigningKey:
    """Return the user's signing key, which is created if there is none."""
    from edgevid.flash import keys

    key, made = keys.own_key()
    if made:
        say(f"{key.path}: created; it signs what goes to devices ({key.fingerprint})")
    return key


def _one(
    device: DeviceEntry,
    request: BenchRequest,
    baseline: Path | None,
    out: Destination | None,
    as_json: bool,
    text: Text,
    reports: Reports | None,
) -> int:
    from edgevid.bench.result import BenchResult
    from edgevid.cli.host import bench_compare
    from edgevid.documents import to_json
    from edgevid.jobs.client import bench

    before = bench_compare.read(baseline) if baseline else None
    data = bench(device, request, key=signing_key, progress=Bar(), log=say)
    if out is not None:
        save(out, canonical_json(data))
    result = _read(data, device.name)
    code, shown = 0 if result.valid else 3, text(result)
    if before is not None and isinstance(result, BenchResult):
        result, shown, code = bench_compare.with_baseline(before, result, shown, code)
    if reports is not None and isinstance(result, BenchResult):
        reports.write([result])
    emit(to_json(result), as_json, shown)
    return code


def _read(data: Mapping[str, Any], device: str) -> BenchResult | ForgottenTuning:
    from edgevid.bench.result import ForgottenTuning, read_result
    from edgevid.documents import from_json

    if (data.get("tuned") or {"choice": ""})["choice"] is None:
        return from_json(ForgottenTuning, data, f"the result of {device}")
    return read_result(data, f"the result of {device}")


def _several(
    devices: Sequence[DeviceEntry],
    request: BenchRequest,
    out: Path | None,
    as_json: bool,
    reports: Reports | None,
) -> int:
    """Write each device's result to the directory ``out``, and print one table."""
    from edgevid.bench.result import read_result
    from edgevid.bench.summary_table import HEAD, rows
    from edgevid.jobs.client import bench_all

    outcomes = bench_all(devices, request, key=signing_key, log=say)
    data = [one.result["document"] for one in outcomes if one.result]
    for one in data if out is not None else ():
        save(Destination(out / f"{one['device']['name']}.json"), canonical_json(one))  # type: ignore[operator]
    results = [read_result(one, one["device"]["name"]) for one in data if one["results"]]
    parts = [table(rows(results), HEAD)] if results else []
    parts += [f"{one.device}: {one.reason}" for one in outcomes if one.reason]
    parts += [f"{one.device_name}: INVALID: {why}" for one in results for why in one.reasons]
    text = "\n".join(parts)
    if results and reports is not None:
        reports.write(results)
    emit({"devices": [asdict(one) for one in outcomes]}, as_json, text)
    return _exit_code(outcomes)


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    from edgevid.flash import fleet

    invalid = any(one.state == "INVALID" for one in outcomes)
    return fleet.exit_code(outcomes) or (3 if invalid else 0)
