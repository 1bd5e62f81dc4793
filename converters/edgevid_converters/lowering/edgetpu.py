"""Google's compiler for the Edge TPU, and its report.

It takes an int8 ``.tflite`` and writes one in which a part is compiled for the Edge TPU; its report
lists what stays on the CPU and why. Not yet proven on hardware.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgevid.errors import CheckFailed, ConverterFailed, MissingExtra, shorten

FORMAT = "edgetpu"
ARTIFACT = f"{FORMAT}-int8"
PROGRAM = "edgetpu_compiler"
GET = (
    f"there is no {PROGRAM} on PATH (x86-64 Linux only); run: echo 'deb "
    "https://packages.cloud.google.com/apt coral-edgetpu-stable main' | sudo tee "
    "/etc/apt/sources.list.d/coral-edgetpu.list, then: sudo apt-get update, then: "
    "sudo apt-get install edgetpu-compiler"
)
TIMEOUT_S = 600.0
TAKEN = "Mapped to Edge TPU"
UNPROVEN = "compiled for the Edge TPU, not yet proven on hardware: the device's own proof decides"
_LINE = re.compile(r"^([A-Z][A-Z0-9_]*) +(\d+) +(\S.*?) *$")
_VERSION = re.compile(r"^Edge TPU Compiler version (\S+)", re.MULTILINE)
_STREAMED = re.compile(
    r"^Off-chip memory used for streaming uncached model parameters: (\S+)", re.M
)
_FAULTS = (
    "Invalid model",
    "Model not quantized",
    "Internal compiler error",
    "ERROR",
    "terminating",
)


@dataclass(frozen=True)
class OperatorRow:
    """The operators of one kind in the compiler's report.

    Attributes:
        kind: Kind of operator.
        count: How many.
        status: What the compiler says of them.
    """

    kind: str
    count: int
    status: str

    @property
    def taken(self) -> bool:
        """Whether the Edge TPU executes them."""
        return self.status == TAKEN


@dataclass(frozen=True)
class CompilerReport:
    """The compiler's report.

    Attributes:
        version: Version of the compiler.
        rows: One for each kind and status.
        streamed: Size of the weights that do not fit on the chip, in the compiler's format.
    """

    version: str
    rows: tuple[OperatorRow, ...]
    streamed: str | None = None

    @property
    def taken(self) -> int:
        """How many operators the Edge TPU executes."""
        return sum(row.count for row in self.rows if row.taken)

    @property
    def left(self) -> tuple[OperatorRow, ...]:
        """What stays on the CPU."""
        return tuple(row for row in self.rows if not row.taken)

    def lines(self) -> list[str]:
        """Describe the outcome in lines of text."""
        total = sum(row.count for row in self.rows)
        found = [f"the Edge TPU executes {self.taken} of {total} operators; {UNPROVEN}"]
        found += [f"{row.count} {row.kind} stay on the CPU: {row.status}" for row in self.left]
        if self.streamed and not self.streamed.startswith("0.00"):
            found.append(f"{self.streamed} of weights do not fit on the Edge TPU and are streamed")
        return found


def read_report(text: str) -> CompilerReport:
    """Read what the compiler prints with ``--show_operations``, or its ``.log`` file."""
    version, streamed = _VERSION.search(text), _STREAMED.search(text)
    found = (_LINE.match(line) for line in text.splitlines())
    rows = tuple(OperatorRow(one[1], int(one[2]), one[3]) for one in found if one)
    return CompilerReport(
        version[1] if version else "unknown", rows, streamed[1] if streamed else None
    )


def there() -> bool:
    """Whether the compiler is on PATH."""
    return shutil.which(PROGRAM) is not None


def need() -> None:
    """Check that the compiler is on PATH.

    Raises:
        MissingExtra: It is not; the message has the commands that install it.
    """
    if not there():
        raise MissingExtra(GET)


def compile_model(content: bytes, timeout_s: float = TIMEOUT_S) -> tuple[bytes, CompilerReport]:
    """Compile an int8 ``.tflite``.

    Args:
        content: The file.
        timeout_s: Time limit in seconds.

    Returns:
        The compiled file, and the report.

    Raises:
        MissingExtra: The compiler is not installed.
        CheckFailed: The Edge TPU executes none of its operators.
        ConverterFailed: The compiler failed; the message quotes it.
    """
    need()
    with tempfile.TemporaryDirectory(prefix="edgevid-edgetpu-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(content)
        args = [PROGRAM, "--show_operations", "--out_dir", name, str(folder / "model.tflite")]
        text = _run(args, timeout_s)
        made = folder / "model_edgetpu.tflite"
        if not made.is_file():
            raise ConverterFailed(f"{PROGRAM} wrote nothing{_fault(text)}; {_REMEDY}")
        log = folder / "model_edgetpu.log"
        output = text + (log.read_text() if log.is_file() and not read_report(text).rows else "")
        report = read_report(output)
        if not report.rows:
            raise ConverterFailed(f"{PROGRAM} gave no readable report; {_REMEDY}")
        if not report.taken:
            raise CheckFailed(f"the Edge TPU executes no operator: {'; '.join(report.lines()[1:])}")
        return made.read_bytes(), report


_REMEDY = "leave the format edgetpu out, or change the model: coral.ai/docs/edgetpu/models-intro"


def _run(args: list[str], timeout_s: float) -> str:
    try:
        done = subprocess.run(
            args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConverterFailed(f"{PROGRAM} did not finish in {timeout_s:g} s; {_REMEDY}") from None
    except OSError as error:
        raise ConverterFailed(f"{PROGRAM} cannot be run ({error.strerror}); {GET}") from None
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise ConverterFailed(f"{PROGRAM} failed{_fault(text)}; {_REMEDY}")
    return text


def _fault(text: str) -> str:
    """Return the compiler's own error messages, if any."""
    lines = (line.strip() for line in text.splitlines())
    found = [line for line in lines if line.startswith(_FAULTS)]
    return f" ({shorten(', '.join(found))})" if found else ""
