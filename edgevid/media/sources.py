"""Sources: what every source of frames provides, and how a name leads to one.

A name with a scheme belongs to the source of that name in the registry (``rtsp://...``,
``synthetic:640x480@15``), ``/dev/video...`` belongs to ``v4l2``, anything else is a file, also
``12:30:05.mp4``. The case of a scheme does not matter; ``./`` before a name makes it a file.

To add a source, write a `SourcePlugin` and name it in a registry row or an entry point::

    def open_images(address: SourceAddress, options: SourceOptions, report: Report) -> Source: ...

    IMAGES = SourcePlugin(open_images, "images:FOLDER?fps=25", ImagesParameters, finite=True)

`edgevid.testing.source` has the tests that every source passes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import parse_qsl, unquote

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.media.secrets import HIDDEN, without_secrets
from edgevid.text import expand

if TYPE_CHECKING:
    from edgevid.media.decode import Arrivals
    from edgevid.results import Frame

Report = Callable[[str], None]
"""Takes one human-readable line whenever the state of a stream changes."""


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source. Every kind of source gets the same options and uses what applies.

    Attributes:
        rate_fps: The common rate of all models that read the source, if they have one: frames
            that no step needs may be left undecoded. None decodes every frame.
        transport: The transport of RTSP.
        stall_s: Seconds of silence after which a connection counts as frozen; None derives them
            from the stream.
        decoder: ``software``, ``auto`` for any hardware that works, or a device such as ``vaapi``.
        skip_loop_filter: Skip the deblocking filter of H.264 and HEVC: faster, with slightly
            different pixels.
        frame_threads: Whether a file's frames may be decoded in parallel, which delays each.
        source_fps: The true rate of a file in frames per second, in place of its own times. None
            uses the file's time stamps; without any, the rate in the bitstream, or a guess.
        user: User name for the source.
        password: Password for the source.
        tls_ca: The certificate of the source, or its issuer's, in place of the system's issuers.
        tls_insecure: Whether its certificate is not checked.
    """

    rate_fps: float | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    stall_s: float | None = None
    decoder: str = "software"
    skip_loop_filter: bool = False
    frame_threads: bool = True
    source_fps: float | None = None
    user: str | None = None
    password: str | None = None
    tls_ca: Path | None = None
    tls_insecure: bool = False

    def __repr__(self) -> str:
        shown = {**vars(self), "password": self.password and HIDDEN}
        return f"SourceOptions({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


class Source(Protocol):
    """An opened source of frames. Iterate over it once, then close it.

    Attributes:
        name: What people see; never with a password.
        arrivals: Counts of the packets so far.
        due_s: `time.monotonic` until which a sign of life is promised: a frame, or the end of an
            attempt to connect.
    """

    name: str
    arrivals: Arrivals
    due_s: float

    @property
    def live(self) -> bool | None:
        """Whether the stream has no end, so that a slow reader has to drop frames.

        None until it is known, which is the first frame at the latest; it never changes after
        that. Whoever reads a finite stream makes it wait and drops nothing.
        """

    @property
    def truncated(self) -> bool:
        """Whether frames that the stream promised cannot be had."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames in presentation order; a live stream ends only after `stop`."""

    def stop(self) -> None:
        """Request the end, from any thread. Returns at once; the iteration ends soon after."""

    def close(self) -> None:
        """Release everything, once the iteration has ended."""

    def status(self) -> dict[str, Any]:
        """The state of the stream as plain data.

        Returns:
            ``state`` (``connecting``, ``open``, ``waiting`` or ``ended``), ``reason`` (a
            `edgevid.media.unavailable.Reason` or None), ``detail``, ``reconnects``, and whatever
            else the source reports.
        """


@dataclass(frozen=True)
class SourceAddress:
    """The parts of a source's name.

    Attributes:
        name: The name as given; it may contain a password.
        scheme: The source's name in the registry.
        target: What follows the scheme, without the query if the source declares parameters.
        parameters: An instance of the plug-in's ``parameters``; None if it declares none.
    """

    name: str
    scheme: str
    target: str
    parameters: Any = None


@dataclass(frozen=True)
class SourcePlugin:
    """The declaration of one kind of source, which a registry row names.

    Attributes:
        open: Opens a source, given its address, the options, and a function that takes one line
            whenever the stream's state changes. Raises `BadInput` if the address is wrong.
        example: A valid name, for error messages.
        parameters: A frozen dataclass of what the query may set, or None if the query belongs to
            the target. Fields are `str`, `int` or `float` with a default; ``metadata["pattern"]``
            may restrict the text.
        finite: Whether its streams end. None if that is known only once a stream is open.
        local: Whether the target is a path of this machine: a ``file``, which has to exist, or a
            ``device``, which may be plugged in later.
    """

    open: Callable[[SourceAddress, SourceOptions, Report], Source]
    example: str
    parameters: type[Any] | None = None
    finite: bool | None = False
    local: Literal["file", "device"] | None = None


def parameter(pattern: str, default: str = "") -> Any:
    """A text field of a source's ``parameters``.

    Args:
        pattern: Regular expression that the whole text has to match.
        default: The value if the query does not set it.

    Returns:
        The dataclass field.
    """
    return field(default=default, metadata={"pattern": pattern})


def open_source(name: str, options: SourceOptions, report: Report) -> Source:
    """Open a source.

    Args:
        name: The name of the source, such as ``clip.mp4`` or ``rtsp://host/stream``.
        options: How to read it.
        report: Gets one line whenever the state of the stream changes.

    Returns:
        The source. A source that reconnects raises nothing because of its peer: it reports the
        reason and tries again.

    Raises:
        BadInput: The name is wrong, or the file cannot be read.
    """
    try:
        plugin, address = resolve(name)
        return plugin.open(address, options, report)
    except BadInput as error:
        scheme, colon, _ = name.partition(":")
        if colon and registry.has("source", scheme.lower()) and os.path.lexists(name):
            raise BadInput(f"{error}; or ./{name} for the file of that name") from error
        raise


def resolve(name: str) -> tuple[SourcePlugin, SourceAddress]:
    """Find the plug-in for a name and parse the name; nothing is opened.

    Args:
        name: The name of a source.

    Returns:
        The plug-in and the parsed name.

    Raises:
        BadInput: The scheme or a parameter is unknown, or a parameter has a bad value.
    """
    scheme = scheme_of(name)
    plugin: SourcePlugin = registry.load("source", scheme)
    has_scheme = name[: len(scheme) + 1].lower() == f"{scheme}:"
    target = name[len(scheme) + 1 :] if has_scheme else name
    if has_scheme:
        name = f"{scheme}:{target}"
    if plugin.local == "file":
        target, _, query = target.partition("?") if plugin.parameters else (target, "", "")
        path = _path_of_url(name, target) if has_scheme and scheme == "file" else expand(target)
        parameters = _parameters(name, query, plugin) if plugin.parameters else None
        return plugin, SourceAddress(name, scheme, path, parameters)
    if plugin.parameters is None:
        return plugin, SourceAddress(name, scheme, target)
    target, _, query = target.partition("?")
    return plugin, SourceAddress(name, scheme, target, _parameters(name, query, plugin))


def _path_of_url(name: str, target: str) -> str:
    """The path that ``file:`` or ``file://`` leads to; percent escapes are decoded.

    A file whose name has the escapes in it, literally, takes precedence.
    """
    path = target
    if target.startswith("//"):
        host, slash, rest = target[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise BadInput(f"{name}: points to another machine; write file:///path/of/clip.mp4")
        path = f"{slash}{rest}"
    path = expand(path)
    return path if Path(path).exists() else unquote(path, errors="surrogateescape")


def scheme_of(name: str) -> str:
    """The registry's name of the source that reads a name.

    Args:
        name: The name of a source; the case of its scheme does not matter.

    Returns:
        The scheme, or ``file``.

    Raises:
        BadInput: The name is a URL with an unknown scheme.
    """
    if name.startswith("/dev/video"):
        return "v4l2"
    scheme, colon, _ = name.partition(":")
    for known in (scheme, scheme.lower()):
        if colon and registry.has("source", known):
            return known
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
        registry.row("source", scheme.lower())  # raises, because the scheme is unknown
    return "file"


def local_file(name: str) -> Path | None:
    """The file of this machine that a name leads to; None if it leads to something else.

    Args:
        name: The name of a source.

    Returns:
        The path, with ``~`` and escapes of a ``file:`` URL resolved.

    Raises:
        BadInput: The name is wrong.
    """
    plugin, address = resolve(name)
    return Path(address.target) if plugin.local == "file" else None


def always_ends(name: str) -> bool:
    """Whether every stream of this name's kind is finite.

    Args:
        name: The name of a source.

    Returns:
        False for cameras, and for URLs whose streams may or may not end: `Source.live` is known
        once the stream is open.

    Raises:
        BadInput: The name is wrong.
    """
    return resolve(name)[0].finite is True


def relative_to(name: str, folder: Path) -> str:
    """The name with a relative file replaced by its path below a folder; others are unchanged.

    Args:
        name: The name of a source.
        folder: The folder that a relative path starts from.

    Returns:
        The new name.

    Raises:
        BadInput: The name is wrong.
    """
    plugin, address = resolve(name)
    if plugin.local != "file":
        return name
    path = folder / address.target
    if address.scheme == "file":
        return str(path) if scheme_of(str(path)) == "file" else f"file:{path}"
    _, asked, query = name.partition("?") if plugin.parameters else (name, "", "")
    return f"{address.scheme}:{path}{asked}{query}"


def _parameters(name: str, query: str, plugin: SourcePlugin) -> Any:
    """Parse a query such as ``size=640x480&fps=30``."""
    declared: Any = plugin.parameters
    known = {one.name: one for one in fields(declared)}
    values: dict[str, Any] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in known:
            shown = without_secrets(name)
            raise BadInput(f"{shown}: {registry.unknown('parameter', key, known)}")
        try:
            values[key] = _value(text, known[key])
        except ValueError:
            shown = without_secrets(name)
            raise BadInput(f"{shown}: bad value {key}={text}; example: {plugin.example}") from None
    return declared(**values)


def _value(text: str, declared: Field[Any]) -> str | int | float:
    pattern = declared.metadata.get("pattern")
    if pattern is not None and not re.fullmatch(pattern, text):
        raise ValueError(text)
    known = {"int": int, "float": float}
    name = str(getattr(declared.type, "__name__", declared.type))  # a type, or its name
    value: str | int | float = known.get(name, str)(text)
    return value
