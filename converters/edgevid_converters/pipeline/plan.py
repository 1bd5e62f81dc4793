"""The first stage of a conversion: which artifacts to build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from edgevid import registry, targets
from edgevid.errors import BadInput, MissingExtra
from edgevid.targets import Target
from edgevid_converters import target_selection
from edgevid_converters.lowering import edgetpu
from edgevid_converters.lowering.protocol import CALIBRATED, INTEGERS
from edgevid_converters.pipeline.context import BUILD, CLIPS, LOWER, PAGE, PROVE, READ
from edgevid_converters.pipeline.options import ConvertOptions

FORMATS = ("tflite", "openvino")
QUANTISATIONS = ("float32", "int8")
NEEDED = ("keras", "nncf", "tensorflow")
"""Packages that the built-in converters need."""


@dataclass(frozen=True)
class Plan:
    """Which artifacts to build.

    Attributes:
        options: The options.
        target: The target, if one is named.
        quantisations: Format -> its quantisations, in order.
        edgetpu: Whether the int8 ``.tflite`` is compiled for the Edge TPU too.
        as_it_is: Whether the model is quantised already, and is only repackaged.
    """

    options: ConvertOptions
    target: Target | None
    quantisations: Mapping[str, tuple[str, ...]]
    edgetpu: bool
    as_it_is: bool = False

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of the planned artifacts."""
        return (*self.quantisations, *([edgetpu.FORMAT] if self.edgetpu else []))

    @property
    def weight(self) -> int:
        """How long the conversion takes, in the units of `edgevid_converters.pipeline.context`."""
        artifacts = sum(map(len, self.quantisations.values()))
        return READ + CLIPS + LOWER + artifacts * (BUILD + PROVE) + PAGE

    @property
    def observes(self) -> bool:
        """Whether the agreement of any artifact is measured on all available frames."""
        return any(one in INTEGERS for listed in self.quantisations.values() for one in listed)

    @property
    def calibrates(self) -> bool:
        """Whether any artifact needs calibration."""
        return not self.as_it_is and any(
            one in CALIBRATED for listed in self.quantisations.values() for one in listed
        )


def make_plan(options: ConvertOptions) -> Plan:
    """Decide which artifacts to build; nothing heavy is imported.

    Raises:
        BadInput: An option is out of range, or a name is unknown.
        MissingExtra: A package of a converter is missing.
    """
    options.check()
    target = targets.load(options.target) if options.target else None
    planned = _for_target(target, options) if target else _by_names(options)
    quantisations = {name: tuple(listed) for name, listed in planned.items()}
    return Plan(options, target, quantisations, _wants_edgetpu(options, quantisations, target))


def _for_target(target: Target, options: ConvertOptions) -> dict[str, list[str]]:
    formats, quantize = options.formats or (), options.quantize or ()
    wanted = [name for name in formats if name != edgetpu.FORMAT]
    if edgetpu.FORMAT in formats:
        wanted.append("tflite")
    _check_names(wanted or registry.builtin("converter"), quantize)
    return target_selection.plan(target, wanted, quantize)


def _by_names(options: ConvertOptions) -> dict[str, list[str]]:
    """Each format with each quantisation that it has, once, in order."""
    formats = FORMATS if options.formats is None else tuple(dict.fromkeys(options.formats))
    quantize = QUANTISATIONS if options.quantize is None else dict.fromkeys(options.quantize)
    if not formats or not quantize:
        raise BadInput("no format or no quantisation is named; name at least one of each")
    plain = [name for name in formats if name != edgetpu.FORMAT]
    _check_names(plain or ["tflite"], tuple(quantize))
    planned = {
        name: [one for one in quantize if one in registry.load("converter", name).quantisations]
        for name in plain
    }
    if edgetpu.FORMAT in formats and "int8" not in planned.setdefault("tflite", []):
        planned["tflite"].append("int8")
    return {name: listed for name, listed in planned.items() if listed}


def _check_names(formats: Sequence[str], quantize: Sequence[str]) -> None:
    known: list[str] = []
    for format_name in formats:
        known += registry.load("converter", format_name).quantisations
        _check_packages(format_name)
    for quantisation in quantize:
        if quantisation not in known:
            what = f"quantisation of {' and '.join(formats)}"
            raise BadInput(registry.unknown(what, quantisation, set(known)))


def _check_packages(format_name: str) -> None:
    """Raise `MissingExtra` for a missing package, without importing the heavy ones here."""
    row = registry.row("converter", format_name)
    if row.origin != registry.BUILT_IN:
        return
    for package in sorted({*NEEDED, *row.needs}):
        if find_spec(package) is None:
            line = registry.install_line(f"package {package}", row.extra or "convert")
            raise MissingExtra(line)


def _wants_edgetpu(
    options: ConvertOptions, planned: Mapping[str, Sequence[str]], target: Target | None
) -> bool:
    """Whether to compile for the Edge TPU.

    A target with an Edge TPU gets the artifact if the compiler is installed, or else a note.

    Raises:
        MissingExtra: The format is named, but the compiler is not installed.
    """
    if options.formats and edgetpu.FORMAT in options.formats:
        edgetpu.need()
        return True
    if target is None or not target_selection.wants_edgetpu(target):
        return False
    return "int8" in planned.get("tflite", ()) and edgetpu.there()
