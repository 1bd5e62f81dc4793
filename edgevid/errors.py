"""Every error that edgevid raises on purpose.

    EdgevidError                    one line: what is wrong, where, and how to mend it
    ├── BadInput            (2)     wrong use, or a file that cannot be used
    │   ├── BadBundle               a bundle that is damaged, or of another version
    │   ├── BadVideo                a file or stream without usable frames
    │   └── MissingExtra            a package that an extra of edgevid provides
    ├── GateRefused         (1)     accuracy, parity, health or regression said no
    ├── Inconclusive        (3)     too noisy, or too few samples to say
    └── SurroundingsFailed  (4)     device unreachable, child process crashed
        ├── ConverterFailed (1)     a converter crashed, hung or took too much: a model's no
        ├── DeviceFailed            a device that cannot be reached, or could not do its part
        └── EngineFailed            an engine that crashed, hung, or could not load

The number is the exit code of the command line. Anything else that escapes is a bug in edgevid.
"""

from __future__ import annotations


class EdgevidError(Exception):
    """The root. Its message is one line that names the fault and the mend."""

    exit_code = 2


class BadInput(EdgevidError):
    """Wrong use, or a file, folder or value that cannot be used."""


class BadBundle(BadInput):
    """A bundle that is damaged, incomplete, or written by another version."""


class BadVideo(BadInput):
    """A video file or stream that gives no usable frames."""


class MissingExtra(BadInput):
    """A package that is not installed; the message carries the install line."""


class GateRefused(EdgevidError):
    """A gate said no: accuracy, parity, health or regression."""

    exit_code = 1


class Inconclusive(EdgevidError):
    """The measurement cannot decide: too noisy, or too few samples."""

    exit_code = 3


class SurroundingsFailed(EdgevidError):
    """Something outside failed: a device, a child process, the disk."""

    exit_code = 4


class ConverterFailed(SurroundingsFailed):
    """A converter crashed, hung or took too much memory over a model, and would again."""

    exit_code = 1


class DeviceFailed(SurroundingsFailed):
    """A device that cannot be reached, or could not do its part; ``kind`` is a word for machines.

    Kinds: unreachable, refused, denied, host-key-unknown, host-key-changed, configuration,
    no-python, protocol, lost, ended, and those that the agent on the device gives.
    """

    def __init__(self, message: str, kind: str = "device") -> None:
        super().__init__(message)
        self.kind = kind


class EngineFailed(SurroundingsFailed):
    """An engine crashed, hung, or could not load its artifact."""
