"""``edgevid flash``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli.console import (
    OUTPUT_FILE,
    PATH,
    Bar,
    FiniteRange,
    common,
    emit,
    outputs,
    save,
    say,
    table,
)
from edgevid.errors import BadInput
from edgevid.output import STDOUT, Destination

if TYPE_CHECKING:
    from edgevid.flash.fleet import Outcome
    from edgevid.flash.inventory import DeviceEntry
    from edgevid.flash.request import DeployOptions, DeployRequest

Act = Callable[["DeviceEntry"], dict[str, Any]]

_VERBS = ("activate", "rollback", "uninstall", "revoke", "archive")

_ON_INSTALLED = ("activate", "rollback", "uninstall", "revoke")


@click.command(name="flash")
@click.argument("bundles", nargs=-1, metavar="[BUNDLE]...", type=PATH)
@click.option(
    "--target",
    "names",
    multiple=True,
    metavar="T",
    help="A device or tag from the inventory, or user@host:port; repeatable.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="URL",
    help="A camera; see: edgevid run --help. Repeatable.",
)
@click.option("--config", type=PATH, help="Serve this configuration (site.toml).")
@click.option("--add", is_flag=True, help="Add the bundles to what the device already serves.")
@click.option("--replace", is_flag=True, help="Replace everything that the device serves now.")
@click.option(
    "--wheel",
    "wheels",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="The wheel of a plug-in that is served; repeatable.",
)
@click.option("--kind", metavar="NAME", help="The kind of device; see: edgevid targets.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would change; write nothing to the device."
)
@click.option("--stage", is_flag=True, help="Send the release, but do not activate it.")
@click.option("--activate", is_flag=True, help="Activate the staged release.")
@click.option("--rollback", is_flag=True, help="Activate the previous release.")
@click.option("--uninstall", is_flag=True, help="Remove edgevid from the device.")
@click.option(
    "--revoke",
    metavar="ID",
    help="Make the device permanently reject this release, or the key with this fingerprint.",
)
@click.option(
    "--archive",
    type=OUTPUT_FILE,
    help="Write an installer for a device without a network.",
)
@click.option("--python", metavar="3.11", help="With --archive: the device's Python.")
@click.option(
    "--device",
    metavar="ID",
    help="With --archive: sign it only for this device, not for every one of its kind; "
    "edgevid fleet status --json shows the ID.",
)
@click.option("--trust-new", is_flag=True, help="Accept an unknown host key.")
@click.option(
    "--allow-downgrade",
    is_flag=True,
    help="Permit this device, once, to replace a newer release.",
)
@click.option(
    "--allow-root",
    is_flag=True,
    help="Without systemd, run the service as root instead of as its own user.",
)
@click.option(
    "--allow-degraded", is_flag=True, help="Count a release on a fallback engine as healthy."
)
@click.option(
    "--p95-ms",
    type=FiniteRange(0, min_open=True),
    help="The highest latency that counts as healthy (95th percentile).",
)
@click.option(
    "--health-s",
    type=FiniteRange(0),
    default=20.0,
    help="Health window in seconds. Default: 20.",
)
@click.option("--key", type=PATH, help="Sign with this SSH key; see: edgevid keys.")
@click.option(
    "--old-key",
    type=PATH,
    help="The key that the device trusts now; it signs the change to the new key.",
)
@click.option("--root", metavar="DIR", help="edgevid's folder on the device.")
@click.option(
    "--limit-kbit",
    type=FiniteRange(1),
    help="Limit the transfer to this many kilobits per second.",
)
@click.option(
    "--wave", default="1,25%,100%", help="For several devices: how many are done after each wave."
)
@click.option(
    "--max-failures", default="0", help="How many devices may fail before the roll-out stops."
)
@common
def command(
    bundles: tuple[Path, ...],
    names: tuple[str, ...],
    as_json: bool,
    wave: str,
    max_failures: str,
    archive: Path | None,
    python: str | None,
    **given: Any,
) -> int:
    """Deploy the runner and bundles to a device, or leave the device as it was.

    The device needs SSH and python3, but no internet and no pip. The release is signed, checked on
    the device, and kept only if it is healthy there; otherwise the device returns to what it served
    before and reports the reason. Without --add or --replace, a bundle of the same name is
    replaced.

    \b
    Example:  edgevid flash motion.edgevid --target pi@10.0.0.21 --source rtsp://10.0.0.5/stream
              edgevid flash motion.edgevid --target gate-1 --dry-run
              edgevid flash --rollback --target gates
              edgevid flash motion.edgevid --kind raspberry-pi-5 --archive f.sh --source picamera:
    """
    from edgevid.flash import commands
    from edgevid.flash.request import DeployRequest

    verb = _verb(given, archive)
    request = DeployRequest(
        bundles,
        given["sources"],
        given["config"],
        given["add"],
        given["replace"],
        given["kind"],
        given["wheels"],
        given["allow_root"],
    )
    _fits(request, verb, names, given)
    beside = archive and archive.with_name(f"{archive.name}.sig") if archive != STDOUT else None
    opened = outputs(as_json, archive=archive, signature=beside)
    devices = [] if verb == "archive" else _devices(names)
    options = _options(given, one=len(devices) <= 1)
    if archive is not None:
        return _archive(archive, opened, request, options, python, as_json)
    acts: dict[str, Act] = {
        "flash": lambda entry: commands.deploy(entry, request, options),
        "activate": lambda entry: commands.perform(entry, commands.activate, options),
        "rollback": lambda entry: commands.perform(entry, commands.rollback, options),
        "revoke": lambda entry: commands.perform(
            entry, partial(commands.revoke, what=given["revoke"]), options
        ),
        "uninstall": lambda entry: commands.perform(entry, commands.uninstall, options),
    }
    if len(devices) > 1:
        return _several(devices, acts[verb], wave, max_failures, as_json)
    return _one(devices[0], acts[verb], as_json)


def _archive(
    path: Path,
    opened: dict[str, Destination],
    request: DeployRequest,
    options: DeployOptions,
    python: str | None,
    as_json: bool,
) -> int:
    """Write the file and its signature, and show how they are used."""
    from edgevid.flash import archive

    with opened["archive"].file() as file:
        made = archive.make(file, request, options, python)
        signature = archive.signature(file, options.signer())
    text = f"{path}: release {made['release']}, {made['bytes'] / 1e6:.1f} MB"
    made["archive"] = str(path)
    if "signature" in opened:
        save(opened["signature"], signature)
        made["signature"] = str(opened["signature"].path)
        text = "\n".join([text, *archive.instructions(path.name, options.root)])
    emit(made, as_json, text)
    return 0


def _verb(given: dict[str, Any], archive: Path | None) -> str:
    asked = [verb for verb in _VERBS if (archive if verb == "archive" else given[verb])]
    if len(asked) > 1:
        raise BadInput(f"--{asked[0]} and --{asked[1]} cannot be combined; give one")
    return asked[0] if asked else "flash"


def _fits(request: DeployRequest, verb: str, names: Sequence[str], given: dict[str, Any]) -> None:
    """Reject options that would have no effect."""
    serves = bool(request.bundles or request.sources or request.config)
    if verb in _ON_INSTALLED:
        if serves or request.add or request.replace or request.wheels:
            raise BadInput(
                f"--{verb} takes only a --target and nothing to serve; leave the rest out"
            )
        if given["stage"] or given["dry_run"]:
            raise BadInput(
                f"--{verb} takes only a --target and nothing to serve; leave the rest out"
            )
    elif not serves:
        raise BadInput("name a bundle, or --config; as in: edgevid flash x.edgevid --target T")
    if request.add and request.replace:
        raise BadInput("--add and --replace cannot be combined; give one")
    if verb == "archive" and names:
        raise BadInput("--archive is for a device that is not connected; give --kind, not --target")
    if given["device"] is not None and not re.fullmatch("[0-9a-f]{32}", given["device"]):
        raise BadInput("--device takes the id of a device; see: edgevid fleet status --json")
    if verb != "archive" and given["device"] is not None:
        raise BadInput("--device is for --archive; with --target a release is for that device")
    if verb != "archive" and not names:
        raise BadInput("name a device with --target: a name from the inventory, or user@host:port")
    for bundle in request.bundles:
        if not bundle.is_file():
            raise BadInput(f"{bundle}: no such bundle; make one with: edgevid convert")
    if given["root"] is not None and not given["root"].startswith("/"):
        raise BadInput("--root must be an absolute path on the device")


def _options(given: dict[str, Any], *, one: bool) -> DeployOptions:
    from edgevid.flash import keys
    from edgevid.flash.activation import Health
    from edgevid.flash.request import DeployOptions
    from edgevid.flash.signed_request import hand_over
    from edgevid.progress import silent

    key = pin = old_key = None
    if given["key"] is not None:
        key = keys.load(given["key"])
    elif not any(given[verb] for verb in _ON_INSTALLED):
        key, made = keys.own_key()
        if made:
            say(f"{key.path}: created; it signs your deployments ({key.fingerprint})")
    if key is not None and given["old_key"] is not None:
        old = keys.load(given["old_key"])
        old_key, pin = old.public, hand_over(old, key)
    return DeployOptions(
        key=key,
        old_key=old_key,
        pin=pin,
        health=Health(given["health_s"], given["p95_ms"], given["allow_degraded"]),
        trust_new=given["trust_new"],
        allow_downgrade=given["allow_downgrade"],
        device=given["device"],
        stage=given["stage"],
        dry_run=given["dry_run"],
        limit_kbit=given["limit_kbit"],
        root=given["root"],
        progress=Bar() if one else silent,
        log=say,
    )


def _devices(names: Sequence[str]) -> list[DeviceEntry]:
    from edgevid.flash.inventory import read_inventory, resolve_all

    return resolve_all(names, read_inventory())


def _one(device: DeviceEntry, act: Act, as_json: bool) -> int:
    from edgevid.flash.activation import RolledBack

    try:
        result = act(device)
    except RolledBack as error:
        emit({**error.result, "error": str(error)}, as_json, "")
        say(f"edgevid: {error}")
        for line in (error.result.get("reason") or {}).get("log") or ():
            say(f"    {line}")
        return error.exit_code
    text = result.pop("text", None) or _text(device.name, result)
    emit(result, as_json, text)
    return 0 if result.get("fits", True) else 4


def _text(name: str, result: dict[str, Any]) -> str:
    outcome = result["outcome"]
    if outcome == "uninstalled":
        left = "".join(
            f"; the device has another installation in {folder}: remove it with --uninstall, and "
            "--root with that folder"
            for folder in result["others"]
        )
        left += "".join(f"; {path} is not edgevid's and was kept" for path in result["left"])
        return f"{name}: edgevid is removed ({len(result['removed'])} items){left}"
    if outcome == "revoked":
        return f"{name}: permanently rejects {', '.join(result['revoked'])}"
    text = f"{name}: {outcome}, release {result['release']}"
    if "sent_bytes" in result:
        text += f", {result['sent_bytes'] / 1e6:.1f} MB sent"
    p95 = (result.get("health") or {}).get("p95_ms")
    text += f", p95 {p95:.3g} ms" if p95 is not None else ""
    return f"{text}, {result['seconds']:.1f} s"


def _several(
    devices: Sequence[DeviceEntry], act: Act, wave: str, max_failures: str, as_json: bool
) -> int:
    from edgevid.flash import fleet

    outcomes = fleet.roll(
        devices,
        act,
        waves=fleet.read_waves(wave, len(devices)),
        may_fail=fleet.read_threshold(max_failures, len(devices)),
        log=say,
    )
    _emit_several(outcomes, as_json)
    return fleet.exit_code(outcomes)


def _emit_several(outcomes: Sequence[Outcome], as_json: bool) -> None:
    from dataclasses import asdict

    from edgevid.flash import fleet

    text = table(fleet.rows(outcomes), fleet.HEAD)
    emit({"devices": [asdict(outcome) for outcome in outcomes]}, as_json, text)
