"""Every error that edgevid raises on purpose.

    EdgevidError                    one line: what is wrong; what to do
    ├── BadInput            (2)     a usage error, or a file that cannot be used
    │   ├── BadBundle               a bundle that is damaged or of another version
    │   ├── BadOutput               an output that can never be written, such as a folder
    │   ├── BadVideo                a file or stream without usable frames
    │   ├── MissingExtra            a package that one of edgevid's extras provides
    │   └── WrongType               an argument of the Python API, also a TypeError
    ├── CheckFailed         (1)     an accuracy, parity, health or regression check failed
    ├── Inconclusive        (3)     too much noise or too few samples to decide
    └── EnvironmentFailed   (4)     a device is unreachable, a child process crashed
        ├── ConverterFailed (1)     a converter crashed, hung or ran out of memory on this model
        ├── DeviceFailed            a device cannot be reached or failed at its part
        ├── EngineFailed            an engine crashed, hung or failed to load
        ├── OutputFailed            no permission to write an output, or the disk is full
        └── PluginFailed            a plug-in of another package cannot be imported

The number is the exit code of the command line. Any other exception that escapes is a bug.
"""

from __future__ import annotations

READABLE = "give one that this user can read"
"""What to do about a file without permission."""
MOST_CHARACTERS = 300
"""Longest text of another program that goes into a message as it is."""


def shorten(text: str, most: int = MOST_CHARACTERS) -> str:
    """Put a text of another program into one line, without its middle if it is long.

    Libraries say what is wrong at the beginning or at the end, so both are kept, in whole words.

    Args:
        text: The text, of any number of lines.
        most: Longest result in characters.
    """
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    gap = " ... "
    tail = line[-(most // 3) :]
    head = line[: most - len(tail) - len(gap)]
    return (head.rpartition(" ")[0] or head) + gap + (tail.partition(" ")[2] or tail)


def reason_of(error: BaseException, *, last: bool = False) -> str:
    """Return the line of a library's error that has the reason; its type if it says nothing.

    Args:
        error: The error, whose text may begin with empty lines.
        last: Take the last line: those before it are positions in the library's source.
    """
    lines = [line.strip(" \t└") for line in str(error).splitlines() if line.strip(" \t└")]
    return lines[-1 if last else 0] if lines else type(error).__name__


def named_reason(error: BaseException) -> str:
    """Return the type of a library's error with the line that has the reason, if there is one."""
    kind, reason = type(error).__name__, reason_of(error)
    return kind if reason == kind else f"{kind}: {reason}"


class EdgevidError(Exception):
    """The root. Its message is one line: what is wrong; what to do."""

    exit_code = 2


class BadInput(EdgevidError):
    """A usage error, or a file, folder or value that cannot be used."""


class BadBundle(BadInput):
    """A bundle that is damaged, incomplete or written by another version."""


class BadOutput(BadInput, OSError):
    """An output that can never be written as named: a folder, or too long a name."""


class BadVideo(BadInput):
    """A video file or stream without usable frames."""


class MissingExtra(BadInput):
    """A package that is not installed; the message carries the install line."""


class WrongType(BadInput, TypeError):
    """An argument of the Python API that has a type which is not accepted."""


class CheckFailed(EdgevidError):
    """An accuracy, parity, health or regression check failed."""

    exit_code = 1


class Inconclusive(EdgevidError):
    """The measurement cannot decide: too much noise or too few samples."""

    exit_code = 3


class EnvironmentFailed(EdgevidError):
    """Something outside edgevid failed: a device, a child process, the disk."""

    exit_code = 4


class ConverterFailed(EnvironmentFailed):
    """A converter crashed, hung or ran out of memory on a model, and would again."""

    exit_code = 1


class DeviceFailed(EnvironmentFailed):
    """A device cannot be reached or failed at its part.

    Args:
        message: What is wrong; what to do.
        kind: A fixed reason code for programs: unreachable, refused, denied, host-key-unknown,
            host-key-changed, configuration, no-python, protocol, lost, slow, ended, or one of the
            codes that the agent on the device sends.
    """

    def __init__(self, message: str, kind: str = "device") -> None:
        super().__init__(message)
        self.kind = kind


class EngineFailed(EnvironmentFailed):
    """An engine crashed, hung or failed to load its artifact."""


class OutputFailed(EnvironmentFailed, OSError):
    """An output that the user may not write, or that does not fit on the disk."""


class PluginFailed(EnvironmentFailed):
    """A plug-in of another package is installed and cannot be imported."""
