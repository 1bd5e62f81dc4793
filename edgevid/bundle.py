"""One ``.edgevid`` file: everything that a device needs to run a model and to trust it.

A zip whose members are uncompressed, sorted and dated alike, so that equal inputs give equal bytes:

    artifacts/<name>.<ending>   the lowered steps, ``<name>`` is ``<format>-<quantisation>``
    golden/...                  recorded inputs and outputs, one ``.npy`` or clip per member
    manifest.json               contract, artifacts, evidence, sha256 and size of all other members
    report.html                 optional

`Bundle.open` reads the manifest only; the hash of a member is checked when it is read. The
manifest's own sha256 (`Bundle.key`) identifies the whole content and costs nothing at start-up.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edgevid import settings
from edgevid.content import JSON_BYTES, check_texts, parse_json
from edgevid.contract import Contract
from edgevid.errors import BadBundle, BadInput
from edgevid.files import canonical_json, sha256_of, writing
from edgevid.registry import unknown
from edgevid.settings import shown
from edgevid.text import printable

FORMAT = 3
"""Version of this layout; a reader accepts no other. Version 1 had no named inputs; version
2 was calibrated and proven on other pixels, with half the columns of colour."""

MANIFEST = "manifest.json"
REPORT = "report.html"
_MEMBERS_LIMIT = 10_000
_DIRECTORY_LIMIT_BYTES = 4 << 20
_END = struct.Struct("<4s4H2IH")
_LOCATOR_BYTES = 20
_WITH_FILE_NAMES = ("calibration", "held_out", "split")
"""Parts of the evidence that contain file names, which may be any; the console escapes them."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_NAME_LIMIT = 200
_LOCAL_HEADER_BYTES = 30
# What zipfile raises for a file that is not a whole zip.
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    ValueError,
    NotImplementedError,
    EOFError,
    OSError,
    OverflowError,
    struct.error,
)
_COPY_AGAIN = "copy it again, or make it again with: edgevid convert"


@dataclass(frozen=True)
class Artifact:
    """One lowered step as the manifest lists it.

    Attributes:
        name: ``<format>-<quantisation>``.
        format: Artifact format.
        quantize: Quantisation.
        members: Names of its members in the bundle.
        bytes: Size of its files.
        float_ops: Operators that compute in float, with counts.
        parity: Comparison with the source model: ``max_abs`` on the golden trajectories, and
            ``agreement`` on ``n`` steps: those of the golden trajectories, or of an integer
            artifact all frames at hand, with ``agreement_at_least`` and ``frames_max_abs``.
        metric: The task's metric of source and artifact on held-out data.
        tolerance: Largest difference from the artifact's own recorded outputs that a proof accepts,
            by the precision that ran.
        tensor_tolerance: Output or ``next_<state>`` -> what a proof accepts of it, where the source
            model is so sensitive that this exceeds ``tolerance``.
        smallest_runtime: Oldest version that loads it, by runtime.
    """

    name: str
    format: str
    quantize: str
    members: tuple[str, ...] = ()
    bytes: int = 0
    float_ops: tuple[str, ...] = ()
    parity: Mapping[str, float | None] = field(default_factory=dict)
    metric: Mapping[str, Any] = field(default_factory=dict)
    tolerance: Mapping[str, float] = field(default_factory=dict)
    tensor_tolerance: Mapping[str, float] = field(default_factory=dict)
    smallest_runtime: Mapping[str, str] = field(default_factory=dict)

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of its members, such as ``("bin", "xml")``."""
        return tuple(member.rpartition(".")[2] for member in self.members)


@dataclass(frozen=True)
class _MemberEntry:
    """What the manifest records of another member."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Manifest:
    format: int
    contract: Mapping[str, Any]
    artifacts: tuple[Artifact, ...]
    evidence: Mapping[str, Any]
    members: Mapping[str, _MemberEntry]


@dataclass(frozen=True)
class _Split:
    split: Mapping[str, tuple[str, ...]]


def artifact_member(name: str, ending: str) -> str:
    """Return the name of an artifact's member."""
    return f"artifacts/{name}.{ending}"


def write(
    path: Path,
    contract: Contract,
    artifacts: Sequence[tuple[Artifact, Mapping[str, bytes]]],
    golden: Mapping[str, bytes],
    evidence: Mapping[str, Any],
    report: bytes | None = None,
) -> Bundle:
    """Write a bundle atomically.

    Args:
        path: The file to write.
        contract: The model's contract.
        artifacts: Each artifact with its files, ending -> content. Its ``members`` and ``bytes``
            are filled in here.
        golden: Members below ``golden/``, name -> content.
        evidence: What a conversion recorded.
        report: A page to include.

    Returns:
        The opened bundle.

    Raises:
        BadBundle: A member's name is unsafe.
        OSError: The file cannot be written.
    """
    members = {f"golden/{name}": content for name, content in golden.items()}
    if report is not None:
        members[REPORT] = report
    listed = []
    for artifact, files in sorted(artifacts, key=lambda pair: pair[0].name):
        own = {artifact_member(artifact.name, ending): files[ending] for ending in sorted(files)}
        members |= own
        size = sum(map(len, own.values()))
        listed.append(asdict(artifact) | {"members": list(own), "bytes": size})
    manifest = {
        "format": FORMAT,
        "contract": contract.to_json(),
        "artifacts": listed,
        "evidence": {
            key: one if key in _WITH_FILE_NAMES else _made_printable(one)
            for key, one in evidence.items()
        },
        "members": {
            name: {"sha256": sha256_of(content), "bytes": len(content)}
            for name, content in members.items()
        },
    }
    for name in members:
        _check_name(path, name)
    members[MANIFEST] = canonical_json(manifest)
    with writing(path) as part:
        part.write_bytes(serialise(members))
    return Bundle.open(path)


def serialise(members: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a bundle of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, on every system
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


class Bundle:
    """An opened bundle; members are read, and their hashes checked, on request."""

    def __init__(self, path: Path, manifest: bytes, extents: Mapping[str, tuple[int, int]]) -> None:
        self.path = path
        self._extents = extents
        self.key = sha256_of(manifest)
        """Identity of the content: the manifest holds the hash of everything else."""
        data = _parse(path, manifest)
        try:
            read = settings.build_json(_Manifest, data, MANIFEST)
            _check_texts(read)
            self.contract = Contract.from_json(read.contract)
        except BadInput as error:
            raise BadBundle(f"{path}: {MANIFEST} is not usable: {error}; {_COPY_AGAIN}") from None
        self.evidence = read.evidence
        self.artifacts = read.artifacts
        self._sums = read.members
        self._check_directory()

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Read and check the manifest, and that every member is present.

        Raises:
            BadBundle: The file is not a bundle, is truncated or damaged, or was written by another
                version of edgevid.
        """
        path = Path(path)
        extents = _directory(path)
        if MANIFEST not in extents:
            raise BadBundle(f"{path} is a zip but not an edgevid bundle; make one: edgevid convert")
        start, size, crc = extents[MANIFEST]
        if size > JSON_BYTES:
            raise BadBundle(f"{path}: {MANIFEST} is too large for a text file; {_COPY_AGAIN}")
        manifest = _slice(path, start, size)
        if zlib.crc32(manifest) != crc:
            raise BadBundle(f"{path}: {MANIFEST} is damaged; {_COPY_AGAIN}")
        return cls(path, manifest, {name: extent[:2] for name, extent in extents.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members except the manifest, sorted."""
        return tuple(sorted(self._sums))

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole file, which is read once for this."""
        return sha256_of(self.path)

    def size(self, artifact: str) -> int:
        """Return the size of an artifact's files in bytes, by the manifest; 0 if it is unknown."""
        named = (name for one in self.artifacts if one.name == artifact for name in one.members)
        return sum(self._sums[name].bytes for name in named if name in self._sums)

    @property
    def split(self) -> Mapping[str, Sequence[str]]:
        """The split of the data that training recorded: name -> paths; empty if there is none."""
        return settings.build_json(
            _Split, {"split": self.evidence.get("split", {})}, "evidence"
        ).split

    def artifact(self, name: str) -> Artifact:
        """Return an artifact by name.

        Raises:
            BadInput: There is none of that name; the message has the closest match.
        """
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        raise BadInput(unknown("artifact", name, [a.name for a in self.artifacts]))

    def member(self, name: str) -> bytes:
        """Read one member.

        Raises:
            BadBundle: It is missing, or its hash is wrong.
        """
        if name not in self._sums:
            raise BadBundle(f"{self.path} has no member {name}; {_COPY_AGAIN}")
        content = _slice(self.path, *self._extents[name])
        if sha256_of(content) != self._sums[name].sha256:
            raise BadBundle(f"{self.path}: member {name} is damaged; {_COPY_AGAIN}")
        return content

    def files(self, artifact: Artifact | str) -> dict[str, bytes]:
        """Read an artifact's files, ending -> content, as `Runtime.load` takes them.

        Raises:
            BadInput: There is no artifact of that name.
            BadBundle: A file is damaged.
        """
        found = self.artifact(artifact) if isinstance(artifact, str) else artifact
        return {name.rpartition(".")[2]: self.member(name) for name in found.members}

    def check(self) -> None:
        """Check the hash of every member, and every byte between the members.

        Raises:
            BadBundle: The message names the damaged member, or the zip's headers.
        """
        members = {name: self.member(name) for name in self.names}
        start, size = self._extents[MANIFEST]
        members[MANIFEST] = _slice(self.path, start, size)
        if sha256_of(members[MANIFEST]) != self.key:
            raise BadBundle(f"{self.path}: {MANIFEST} is damaged; {_COPY_AGAIN}")
        if self.path.read_bytes() != serialise(members):
            raise BadBundle(f"{self.path}: the zip's headers are damaged; {_COPY_AGAIN}")

    def _check_directory(self) -> None:
        """Check that the zip's directory has the names and sizes of the manifest."""
        for name, entry in self._sums.items():
            _check_name(self.path, name)
            if name not in self._extents:
                raise BadBundle(f"{self.path}: member {name} is missing; {_COPY_AGAIN}")
            if self._extents[name][1] != entry.bytes:
                raise BadBundle(f"{self.path}: the zip's headers are damaged; {_COPY_AGAIN}")
        if extra := sorted(set(self._extents) - set(self._sums) - {MANIFEST}):
            raise BadBundle(f"{self.path}: member {extra[0]!r} is not listed in {MANIFEST}")
        for artifact in self.artifacts:
            _check_name(self.path, artifact.name)
            for name in artifact.members:
                _check_name(self.path, name)
                if name not in self._sums:
                    raise BadBundle(f"{self.path}: member {name} is missing; {_COPY_AGAIN}")


def _directory(path: Path) -> dict[str, tuple[int, int, int]]:
    """Find each member's content: name -> (start, size, CRC-32)."""
    size = _size(path)
    try:
        _check_end(path, size)
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except PermissionError as error:
        raise BadBundle(_unreadable(path, error)) from None
    except _BROKEN_ZIP:
        raise BadBundle(_not_a_zip(path)) from None
    extents: dict[str, tuple[int, int, int]] = {}
    for info in infos:
        _check_name(path, info.filename)
        # The layout determines where the content starts, so a bad local header cannot mislead.
        start = info.header_offset + _LOCAL_HEADER_BYTES + len(info.filename)
        sound = info.compress_type == zipfile.ZIP_STORED and info.filename not in extents
        if not sound or start < 0 or start + info.file_size > size:
            raise BadBundle(f"{path}: the zip's headers are damaged; {_COPY_AGAIN}")
        extents[info.filename] = (start, info.file_size, info.CRC)
    return extents


def _check_end(path: Path, size: int) -> None:
    """Check how many members the zip declares, before its directory is read.

    Raises:
        BadBundle: There are more than a bundle has, or the zip ends with a comment.
        BadZipFile: It does not end like a zip.
    """
    tail = _slice(path, max(0, size - _END.size - _LOCATOR_BYTES), _END.size + _LOCATOR_BYTES)
    locator, end = tail[: -_END.size], tail[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        with zipfile.ZipFile(io.BytesIO(_slice(path, max(0, size - (1 << 16)), 1 << 16))):
            raise BadBundle(f"{path}: the zip's headers are damaged; {_COPY_AGAIN}")
    _, _, _, _, members, directory_bytes, _, _ = _END.unpack(end)
    is_zip64 = locator.startswith(b"PK\x06\x07")  # whose counts are elsewhere
    if is_zip64 or members > _MEMBERS_LIMIT or directory_bytes > _DIRECTORY_LIMIT_BYTES:
        raise BadBundle(f"{path} has more than {_MEMBERS_LIMIT} members; do not use this file")


def _size(path: Path) -> int:
    """The size in bytes; raises `BadBundle` unless it is a regular file (a pipe would block)."""
    try:
        status = path.stat()
    except (FileNotFoundError, ValueError):  # a name with a NUL
        raise BadBundle(f"{path} does not exist; make a bundle with: edgevid convert") from None
    except OSError as error:
        raise BadBundle(_unreadable(path, error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise BadBundle(f"{path} is a folder, not a bundle; name the .edgevid file")
    if not stat.S_ISREG(status.st_mode):
        raise BadBundle(f"{path} is a device or a pipe, not a bundle; name the .edgevid file")
    return status.st_size


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path}: {error.strerror}; name a bundle that this user can read"


def _not_a_zip(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PK\x03\x04":
        return f"{path} is truncated, or the zip's headers are damaged; {_COPY_AGAIN}"
    return f"{path} is not an edgevid bundle; make one with: edgevid convert"


def _slice(path: Path, start: int, size: int) -> bytes:
    """Read ``size`` bytes, or fewer if the file ends early, which the hash then reveals."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _check_name(path: Path, name: str) -> None:
    """Reject a member name that could escape a folder, or that has unusual characters."""
    if len(name) > _NAME_LIMIT or not _NAME.fullmatch(name):
        raise BadBundle(f"{path}: a member has the unsafe name {shown(name)}; do not use this file")


def _check_texts(manifest: _Manifest) -> None:
    """Check that texts are printable; member names have stricter rules, and file names none.

    Raises:
        BadInput: One is not.
    """
    for artifact in manifest.artifacts:
        named = ("name", "members")
        texts = {key: one for key, one in vars(artifact).items() if key not in named}
        check_texts(texts, f"artifacts.{artifact.name}")
    evidence = manifest.evidence
    check_texts({k: v for k, v in evidence.items() if k not in _WITH_FILE_NAMES}, "evidence")


def _made_printable(value: Any) -> Any:
    """Escape unprintable characters in all strings of plain data."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): _made_printable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_made_printable(one) for one in value]
    return value


def _parse(path: Path, manifest: bytes) -> dict[str, Any]:
    """Parse the manifest and check its version."""
    try:
        data = parse_json(manifest)
        version = data["format"]
        newer = isinstance(version, int) and version > FORMAT
    except (ValueError, KeyError, TypeError):
        raise BadBundle(f"{path}: {MANIFEST} is damaged; {_COPY_AGAIN}") from None
    if newer:
        raise BadBundle(
            f"{path} was written by a newer edgevid (format {version}, this one reads {FORMAT}); "
            "upgrade: pip install -U edgevid"
        )
    if isinstance(version, int) and 1 <= version < FORMAT:
        raise BadBundle(
            f"{path} was written by an older edgevid (format {version}, this one reads {FORMAT}); "
            "convert the model again: edgevid convert"
        )
    if version != FORMAT:
        raise BadBundle(
            f"{path}: {MANIFEST} has the unknown format {shown(str(version))}; {_COPY_AGAIN}"
        )
    return dict(data)
