"""Questions about all runtimes: which one executes a format, and with which engines of a target.

The built-in runtimes come first. The runtimes of other packages are loaded only for a format that
no built-in one has, and for listings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from edgevid import registry
from edgevid.errors import BadInput, PluginFailed
from edgevid.targets import EngineChoice

if TYPE_CHECKING:
    from edgevid.runtimes.spec import RuntimeSpec
    from edgevid.targets import Target


def spec(name: str) -> RuntimeSpec:
    """The declaration of a runtime.

    Raises:
        BadInput: There is no such runtime.
        PluginFailed: The plug-in of another package cannot be imported.
    """
    found: RuntimeSpec = registry.load("runtime", name)
    return found


def built_in() -> list[RuntimeSpec]:
    """The declarations of the built-in runtimes, by name."""
    return [spec(name) for name in registry.builtin("runtime")]


def importable() -> list[RuntimeSpec]:
    """The declarations of all runtimes, by name, for listings.

    A runtime of another package that cannot be imported is left out; whoever lists plug-ins reports
    it, as `edgevid.doctor.plugins` does.
    """
    found = built_in()
    for name in registry.third_party("runtime"):
        with suppress(BadInput, PluginFailed):
            found.append(spec(name))
    return sorted(found, key=lambda one: one.name)


def made_for(format_name: str) -> tuple[str, ...]:
    """The runtimes that have a format of artifact, those that prefer it first; no stand-ins."""

    def able(specs: list[RuntimeSpec]) -> list[tuple[int, str]]:
        found = []
        for one in specs:
            names = [form.name for form in one.formats]
            if format_name in names and not one.stand_in:
                found.append((names.index(format_name), one.name))
        return sorted(found)

    return tuple(name for _, name in able(built_in()) or able(_of_others()))


def made_for_files(endings: Collection[str]) -> str | None:
    """The runtime made for an artifact with files of these endings; None if there is none."""
    for specs in (built_in(), _of_others):
        for one in specs() if callable(specs) else specs:
            if not one.stand_in and any(set(f.endings) == set(endings) for f in one.formats):
                return one.name
    return None


def engines(
    target: Target, formats: Collection[str], named: Collection[str] = ()
) -> tuple[EngineChoice, ...]:
    """A target's engines, the preferred one first, for artifacts of some formats.

    Args:
        target: The target.
        formats: Formats of the artifacts to execute.
        named: Runtimes that the user names.

    Returns:
        The engines in the target's file; then those of the runtimes of other packages that are
        named, or made for a format that no built-in runtime has. A shipped target cannot list them.
    """
    known = {form.name for one in built_in() for form in one.formats}
    listed = {way.runtime for way in target.engine}
    wanted = [name for name in named if registry.distribution("runtime", name)]
    wanted += [name for one in sorted(set(formats) - known) for name in made_for(one)]
    more: list[EngineChoice] = []
    for runtime in dict.fromkeys(wanted):
        if runtime not in listed:
            more += choices_of(spec(runtime))
    return (*target.engine, *more)


def choices_of(runtime: RuntimeSpec) -> Iterator[EngineChoice]:
    """Every way to execute with a runtime, in the order of its declaration."""
    for one in runtime.accelerators:
        yield EngineChoice(runtime.name, one.name, one.quantize)


def stand_ins() -> tuple[EngineChoice, ...]:
    """The built-in engines that only imitate others, for trials: every device has them."""
    return tuple(way for one in built_in() if one.stand_in for way in choices_of(one))


def requirements(way: EngineChoice) -> tuple[str, ...]:
    """What a device installs for one of its engines, as pip takes it."""
    return spec(way.runtime).requirements if way.requires is None else way.requires


def prefers(way: EngineChoice, format_name: str) -> bool:
    """Whether an engine executes artifacts of a format without being asked to."""
    found = spec(way.runtime).accelerator(way.accelerator)
    return found is not None and found.prefers(format_name)


def executes(way: EngineChoice, format_name: str) -> bool:
    """Whether an engine executes artifacts of a format if it is asked to."""
    found = spec(way.runtime).accelerator(way.accelerator)
    return found is not None and found.executes(format_name)


def _of_others() -> list[RuntimeSpec]:
    return [spec(name) for name in registry.third_party("runtime")]
