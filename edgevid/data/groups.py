"""Which clips were cut from one recording, so that no recording is in two splits.

Clips of one recording look alike: a model that has trained on one of them knows the others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgevid.data.layout import ClipFile
from edgevid.errors import BadInput

NONE = "none"
"""The pattern that says: every file is a recording of its own."""


@dataclass(frozen=True)
class NamingRule:
    """How a known dataset, or a common tool, names the clips of one recording.

    Attributes:
        name: What people see.
        pattern: Matches a whole file name without its ending; group 1 is the recording.
        certain: Whether nothing else is named so.
    """

    name: str
    pattern: re.Pattern[str]
    certain: bool = True


RULES = (
    # Soomro, Zamir and Shah, "UCF101", 2012: g is the recording, c the clip.
    NamingRule("UCF101 names", re.compile(r"(v_.+_g\d+)_c\d+")),
    # Kuehne et al., "HMDB", ICCV 2011: SOURCE_ACTION_properties_NUMBER.
    NamingRule(
        "HMDB51 names",
        re.compile(r"(.+?)_[a-z]+(?:_[a-z]+)*_[uflh]_(?:cm|nm)_np\d+_[a-z]{2}_(?:goo|med|bad)_\d+"),
    ),
    # Schuldt, Laptev and Caputo, "Recognizing Human Actions", ICPR 2004: the person.
    NamingRule("KTH names", re.compile(r"(person\d+)_[a-z]+_d\d.*")),
    # Kay et al., "The Kinetics Human Action Video Dataset", 2017: ID_BEGIN_END in seconds.
    NamingRule("Kinetics names", re.compile(r"([\w-]{11})_\d{6}_\d{6}")),
    NamingRule(
        "names of cuts",
        re.compile(
            r"(.+?)[ _.-]+(?:clip|part|seg|segment|chunk|scene|shot|cut|snippet)[ _.-]?\d+",
            re.IGNORECASE,
        ),
        certain=False,
    ),
    NamingRule(
        "names of copies",
        re.compile(
            r"(.+?)(?: \(\d+\)|[ _-]+(?:copy|aug|augmented|flip|flipped|mirror|mirrored)[ _-]?\d*)",
            re.IGNORECASE,
        ),
        certain=False,
    ),
)
"""The rules in the order in which they are tried on each file."""


@dataclass(frozen=True)
class Recordings:
    """Which recording each clip is from.

    Attributes:
        rule: How recordings were recognised: the name of a rule, the user's pattern, or None if
            each file counts as a recording of its own.
        by_path: Recording of each clip that the rule knows; others are recordings of their own.
        files: Number of all clips.
        unknown: Path of the first clip that the user's pattern does not match; None if it matches
            all.
    """

    rule: str | None = None
    by_path: Mapping[str, str] = field(default_factory=dict)
    files: int = 0
    unknown: str | None = None

    @property
    def count(self) -> int:
        """Number of recordings."""
        return len(set(self.by_path.values())) + self.files - len(self.by_path)

    def notes(self) -> list[str]:
        """Notes for the user, one line each."""
        if self.rule is None:
            return []
        lines = [f"{self.files} clips of {self.count} recordings, recognised by {self.rule}"]
        if self.unknown:
            alone = self.files - len(self.by_path)
            lines.append(
                f"{alone} clips, such as {self.unknown}, do not match --group; each counts as a "
                "recording of its own"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"rule": self.rule, "recordings": self.count, "clips": self.files}

    def joined(self, same: Sequence[Sequence[str]]) -> dict[str, str]:
        """Recording of every clip, where equal files belong to one recording.

        Args:
            same: Sets of paths with equal content.

        Returns:
            Path -> name of the recording, for the clips of a rule or with an equal file.
        """
        known = dict(self.by_path)
        for paths in same:
            names = {known.get(path, path) for path in paths}
            first = min(names)
            known |= {path: first for path, name in known.items() if name in names}
            known |= dict.fromkeys(paths, first)
        return known


def find_recordings(files: Sequence[ClipFile], pattern: str | None = None) -> Recordings:
    """Find out which clips are from one recording.

    Args:
        files: The clips.
        pattern: A regular expression that is searched for in each relative path. What it matches,
            or the groups in it if it has any, names the recording. ``none``: every file is a
            recording of its own. Default: the names of known datasets and tools are recognised.

    Returns:
        The recordings.

    Raises:
        BadInput: ``pattern`` is not a regular expression, or matches no clip.
    """
    if pattern == NONE:
        return Recordings(files=len(files))
    if pattern is None:
        return _recognised(files)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise BadInput(
            f"--group {pattern!r} is not a valid regular expression ({error}); use one such as "
            "'_g(\\d+)_'"
        ) from None
    found = {file.path: _named(compiled.search(file.path)) for file in files}
    known = {path: name for path, name in found.items() if name}
    if not known:
        raise BadInput(
            f"--group {pattern!r} matches no clip, such as {files[0].path}; use a regular "
            "expression that matches the part of a path that names the recording"
        )
    unknown = next((path for path in found if path not in known), None)
    return Recordings(f"--group {pattern}", known, len(files), unknown)


def _named(match: re.Match[str] | None) -> str:
    """The name of a recording: the groups of a match, or all of it."""
    if match is None:
        return ""
    return "/".join(part or "" for part in match.groups()).strip("/") or match.group()


def _recognised(files: Sequence[ClipFile]) -> Recordings:
    """Recordings by the first rule that matches each name.

    If all files of a class would be of one recording by a rule that is not certain, each is a
    recording of its own: their common part is more likely the name of the class.
    """
    found: dict[str, str] = {}
    rules: dict[str, NamingRule] = {}
    for file in files:
        stem = file.path.rpartition("/")[2]
        stem = stem.rpartition(".")[0] or stem
        for rule in RULES:
            if match := rule.pattern.fullmatch(stem):
                found[file.path] = match.group(1)
                rules[file.path] = rule
                break
    of_class: dict[str, set[str]] = defaultdict(set)
    for file in files:
        of_class[file.stratum].add(found.get(file.path, file.path))
    known = {
        file.path: found[file.path]
        for file in files
        if file.path in found and (rules[file.path].certain or len(of_class[file.stratum]) > 1)
    }
    if not known or len(set(known.values())) == len(known):
        return Recordings(files=len(files))
    names = sorted({rules[path].name for path in known})
    return Recordings(" and ".join(names), known, len(files))
