"""The options of a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from edgevid.arguments import check_fields
from edgevid.errors import BadInput
from edgevid.output import Destination, reject_input
from edgevid_converters.acceptance.gates import MAX_DROP, Budget
from edgevid_converters.child_process import DEFAULT_LIMITS, Limits
from edgevid_converters.page import page_path


class ConvertArguments(TypedDict, total=False):
    """The keyword arguments of `edgevid_converters.convert`; see `ConvertOptions`."""

    formats: Sequence[str] | None
    quantize: Sequence[str] | None
    target: str | None
    contract: Path | str | None
    calibrate: Path | str | None
    data: Path | str | None
    reference: Path | str | None
    max_drop: float
    min_metric: float | None
    repair: bool
    allow_float: bool
    trust_model: bool
    time_limit_s: float
    memory_limit_mb: int | None
    cache: bool
    out: Path | str


@dataclass(frozen=True)
class ConvertOptions:
    """What to convert, to what, and within which limits.

    Attributes:
        model: A run folder of ``edgevid train``, a SavedModel, ``.keras``, ``.h5``, ``.onnx``,
            ``.tflite``, or OpenVINO's ``.xml``.
        formats: Formats of the artifacts: those of the converters, and ``edgetpu``, which
            compiles the int8 ``.tflite`` further. Default: the formats of the engines of
            ``target``, or else ``tflite`` and ``openvino``.
        quantize: Quantisations. Default: the preferred one of each engine of ``target``, or else
            ``float32`` and ``int8``.
        target: Name of a target, see ``edgevid targets``.
        contract: A TOML file with what the model's file does not record. Default:
            ``MODEL.contract.toml`` next to the model.
        calibrate: A folder of clips to calibrate on. Default: the recorded training split.
        data: Labelled clips to measure on. Default: the recorded test split.
        reference: An ``.npz`` of inputs and the owner's outputs, or a folder of them; see
            `edgevid_converters.acceptance.reference`.
        max_drop: Largest drop of the task's metric from model to artifact.
        min_metric: Floor of the metric, for model and artifact; None for none.
        repair: Keep layers of an int8 artifact in float32 if it breaks the budget.
        allow_float: Accept float operators in an integer artifact.
        trust_model: Accept code in the model, which is executed when it is loaded.
        time_limit_s: Time limit of one converter's process, in seconds.
        memory_limit_mb: Memory limit of it in MB; None: most of the free memory.
        cache: Reuse what earlier conversions have computed from the same bytes, and keep what
            this one computes.
        out: The bundle to write; a page of the evidence is written next to it.
    """

    model: Path
    formats: Sequence[str] | None = None
    quantize: Sequence[str] | None = None
    target: str | None = None
    contract: Path | None = None
    calibrate: Path | None = None
    data: Path | None = None
    reference: Path | None = None
    max_drop: float = MAX_DROP
    min_metric: float | None = None
    repair: bool = True
    allow_float: bool = False
    trust_model: bool = False
    time_limit_s: float = DEFAULT_LIMITS.time_s
    memory_limit_mb: int | None = None
    cache: bool = True
    out: Path = Path("model.edgevid")

    def __post_init__(self) -> None:
        """Check the types.

        Raises:
            WrongType: An option has another type.
        """
        check_fields(self)

    @property
    def budget(self) -> Budget:
        """Limits of the task's metric."""
        return Budget(self.max_drop, self.min_metric)

    @property
    def limits(self) -> Limits:
        """Limits of a converter's process."""
        return Limits(self.time_limit_s, self.memory_limit_mb)

    @property
    def page(self) -> Path:
        """The page of the evidence, next to ``out``."""
        return page_path(self.out)

    def check(self) -> None:
        """Check the values.

        Raises:
            BadInput: A value is out of range, or ``out`` is no name for a bundle.
            OutputFailed: The bundle or its page may not be written.
        """
        self.limits.check()
        for option in ("calibrate", "data", "reference"):
            path = getattr(self, option)
            if path is not None and not Path(path).exists():
                raise BadInput(f"{path} does not exist; give another --{option}")
        inputs = (self.model, self.contract)
        if self.page.is_dir():
            raise BadInput(f"{self.page} is a folder; remove it, or give another --out")
        for path in (self.out, self.page):
            with Destination(path) as output:
                if not output.is_regular:
                    raise BadInput(f"{path} is a device or a pipe; a bundle needs a file")
            reject_input(path, (one for one in inputs if one is not None))
