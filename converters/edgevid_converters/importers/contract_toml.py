"""The contract that stands in a TOML file: what an imported model's own file does not say.

    task = "classification"             # or "raw": the tensors as they are
    rate_fps = 15                       # steps per second
    labels_file = "labels.txt"          # or labels = [...]

    [[input]]                           # x = (pixel / scale - mean) / std
    kind = "frame"                      # or audio, vector; constant never changes
    scale = 255
    mean = [0.485, 0.456, 0.406]

    [[state]]                           # memory: an output that is the next step's input
    name = "memory"
    input = "state"
    output = "stateN"

    [[output]]
    name = "scores"
    output = "logits"
    softmax = true

    [shapes]
    "input.1" = [1, 3, 224, 224]

It is strict: what is not known is refused, with its line and the nearest name that is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from edgevid import registry, settings
from edgevid.contract import (
    FRAME,
    AudioInput,
    Contract,
    Fit,
    FrameInput,
    Input,
    Output,
    StateTensor,
    VectorInput,
)
from edgevid.errors import BadInput
from edgevid.settings import Place, option, positive, shown, whole
from edgevid.tasks.host import open_host
from edgevid.tasks.host.importing import ImportedOutput
from edgevid_converters.importers.preprocessing import (
    Colour,
    ConstantInput,
    ImageMapping,
    Layout,
    Preprocessing,
    TensorMapping,
)

ENDING = ".contract.toml"
CARRIED_FRAMES = 8
_TOOK = ("float32", "float16", "float64", "uint8", "int8", "int32", "int64", "bool")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model as its file tells it; None is a size that it leaves open."""

    name: str
    shape: Shape
    dtype: str

    def __str__(self) -> str:
        return f"{shown(self.name)} {self.dtype} {sizes(self.shape)}"


def sizes(shape: Shape) -> str:
    """Write a shape, as in ``(1, 3, ?, ?)``."""
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("a name of letters, digits and underscores")
    return value


def _values(value: Any) -> tuple[float, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or any(type(one) not in (int, float) or not abs(one) < 1e30 for one in listed):
        raise ValueError("a number, or a list of numbers")
    return tuple(float(one) for one in listed)


def _channels(value: Any) -> tuple[float, ...]:
    listed = _values(value)
    if len(listed) not in (1, 3):
        raise ValueError("a number, or one for each of three channels")
    return listed


def _divisors(value: Any) -> tuple[float, ...]:
    listed = _channels(value)
    if not all(listed):
        raise ValueError("numbers other than 0")
    return listed


@dataclass(frozen=True)
class _Frame:
    name: str = option(FRAME, read=_name)
    input: str | None = None
    height: int | None = option(None, read=whole(1))
    width: int | None = option(None, read=whole(1))
    fit: Fit = "stretch"
    colour: Colour = "rgb"
    layout: Layout | None = None
    scale: float = option(1.0, read=positive)
    mean: tuple[float, ...] = option((0.0,), read=_channels)
    std: tuple[float, ...] = option((1.0,), read=_divisors)
    kind: Literal["frame"] = "frame"


@dataclass(frozen=True)
class _Audio:
    sample_rate_hz: int = option(read=whole(1))
    name: str | None = option(None, read=_name)
    input: str | None = None
    samples: int | None = option(None, read=whole(1))
    kind: Literal["audio"] = "audio"


@dataclass(frozen=True)
class _Vector:
    name: str | None = option(None, read=_name)
    input: str | None = None
    shape: tuple[int, ...] = ()
    kind: Literal["vector"] = "vector"


@dataclass(frozen=True)
class _Constant:
    input: str
    value: tuple[float, ...] = option(read=_values)
    shape: tuple[int, ...] = ()
    kind: Literal["constant"] = "constant"


@dataclass(frozen=True)
class _State:
    name: str = option(read=_name)
    input: str = ""
    output: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Fed:
    """One table of ``[[input]]`` that is new at every step, and the model's input it is for."""

    index: int
    table: _Frame | _Audio | _Vector
    port: TensorInfo

    @property
    def name(self) -> str:
        """The contract's name of the input."""
        return self.table.name or _plain(self.port.name)


@dataclass(frozen=True)
class _Output:
    name: str = option(read=_name)
    output: str | None = None
    softmax: bool = False


@dataclass(frozen=True)
class ContractFile:
    """The keys of the file."""

    task: str
    rate_fps: float = option(read=positive)
    labels: tuple[str, ...] = ()
    labels_file: str | None = None
    frames: int = option(CARRIED_FRAMES, read=whole(1))
    state: tuple[_State, ...] = ()
    input: tuple[_Frame | _Audio | _Vector | _Constant, ...] = ()
    output: tuple[_Output, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def default_contract_path(model: Path) -> Path:
    """The contract file that is found by itself: ``face.contract.toml`` for ``face.tflite``."""
    return model.with_name((model.name if model.is_dir() else model.stem) + ENDING)


class ContractResolver:
    """A contract file held against a model's inputs and outputs.

    Raises `BadInput` that names the line, or the model's tensor, where they do not fit.
    """

    def __init__(
        self, file: Path, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
    ) -> None:
        self._document = settings.read(file)
        if "frame" in self._document.data:
            raise self._fault(
                ("frame",),
                '[frame] is the old form; write [[input]] with kind = "frame", and rate_fps at the '
                "top of the file",
            )
        self._file = settings.build(ContractFile, self._document)
        self._inputs = {port.name: port for port in inputs}
        self._outputs = {port.name: port for port in outputs}
        if not registry.has("task", self._file.task):
            raise self._fault(
                ("task",), registry.unknown("task", self._file.task, registry.names("task"))
            )
        self._host = open_host(self._file.task)
        for name in self._file.shapes:
            self._known(("shapes", name), name, self._inputs, "input")
        self._labels = self._read_labels()
        self._states = self._read_states()
        self._constants = self._read_constants()
        self._fed = self._read_inputs()
        self._pictures = {one.name: self._picture(one) for one in self._fed if _is_frame(one)}
        self._check_all_told()
        self.shapes = {name: self._shape(port) for name, port in self._inputs.items()}
        """Every input's shape, of which nothing is open any more."""
        self._contract_inputs = tuple(self._contract_input(one) for one in self._fed)

    # ------------------------------------------------------------ reading, table by table

    def _fault(self, place: Place, text: str) -> BadInput:
        return self._document.fault(place, text)

    def _known(self, place: Place, name: str, known: Collection[str], what: str) -> str:
        if name in known:
            return name
        near = get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {shown(near[0])}?" if near else "see edgevid convert --init"
        listed = ", ".join(map(shown, known))
        raise self._fault(place, f"the model has no {what} {shown(name)}; {hint} (it has {listed})")

    def _read_labels(self) -> tuple[str, ...]:
        if self._file.labels_file is None:
            return self._file.labels
        if self._file.labels:
            raise self._fault(("labels",), "labels and labels_file are both given; leave one out")
        path = self._document.file.parent / self._file.labels_file
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise self._fault(("labels_file",), f"{path} cannot be read ({error})") from None
        return tuple(line.strip() for line in lines if line.strip())

    def _read_constants(self) -> dict[str, _Constant]:
        """The inputs that never change, by the model's own name."""
        found: dict[str, _Constant] = {}
        for index, table in enumerate(self._file.input):
            if isinstance(table, _Constant):
                self._known(("input", index, "input"), table.input, self._inputs, "input")
                found[table.input] = table
        return found

    def _read_inputs(self) -> list[_Fed]:
        """The inputs that are new at every step, each with the model's own input."""
        tables = [
            (index, table)
            for index, table in enumerate(self._file.input)
            if not isinstance(table, _Constant)
        ]
        taken = {state.input for state in self._states} | set(self._constants)
        named = {table.input for _, table in tables}
        free = [name for name in self._inputs if name not in taken | named]
        found: list[_Fed] = []
        for index, table in tables:
            own = table.input
            if own is None:
                if len(free) != 1:
                    listed = ", ".join(map(shown, free)) or "none"
                    text = f"name the model's input for this {table.kind}: {listed}; add 'input'"
                    raise self._fault(("input", index), text)
                own = free[0]
            self._known(("input", index, "input"), own, self._inputs, "input")
            one = _Fed(index, table, self._inputs[own])
            if own in taken or own in [other.port.name for other in found]:
                text = f"the model's input {shown(own)} is fed twice; remove one of the tables"
                raise self._fault(("input", index), text)
            if one.name in [other.name for other in found]:
                text = f"two inputs are named {shown(one.name)}; give one another name"
                raise self._fault(("input", index), text)
            found.append(one)
        return found

    def _read_states(self) -> list[_State]:
        for index, state in enumerate(self._file.state):
            for key, ports in (("input", self._inputs), ("output", self._outputs)):
                name = getattr(state, key)
                place: Place = ("state", index, key)
                if not name:
                    raise self._fault(("state", index), f"state {shown(state.name)} lacks {key!r}")
                self._known(place, name, ports, key)
        return list(self._file.state)

    def _picture(self, one: _Fed) -> ImageMapping:
        table, port = one.table, one.port
        assert isinstance(table, _Frame)
        layout = table.layout or layout_of(port.shape)
        channel = {"nhwc": 3, "nchw": 1}.get(layout or "", 0)
        if len(port.shape) != 4 or layout is None or port.shape[channel] not in (3, None):
            raise self._fault(
                ("input", one.index),
                f"input {port} takes no image of three channels"
                + ("" if table.layout else "; if it does, add its layout"),
            )
        return ImageMapping(
            one.name,
            port.name,
            port.dtype,
            table.colour,
            layout,
            table.scale,
            table.mean,
            table.std,
        )

    def _check_all_told(self) -> None:
        told = {s.input for s in self._states} | set(self._constants)
        told |= {one.port.name for one in self._fed}
        for port in self._inputs.values():
            if port.name not in told:
                raise BadInput(
                    f"{self._document.file}: nothing is said of the model's input {port}; add "
                    "[[input]] with its kind, or [[state]]"
                )
            if port.dtype not in _TOOK:
                raise BadInput(f"the model's input {port} cannot be fed; it must be of numbers")
        if not self._fed:
            raise BadInput(
                f"{self._document.file}: no input is new at every step; add [[input]] with "
                'kind = "frame", "audio" or "vector"'
            )

    # ------------------------------------------------------------ shapes

    def _shape(self, port: TensorInfo) -> tuple[int, ...]:
        """An input's shape with what the file pins down; the first size, where open, is 1."""
        pinned, place = self._pinned(port)
        if pinned and len(pinned) != len(port.shape):
            raise self._fault(place, f"the model's input {port} has {len(port.shape)} sizes")
        shape = []
        for axis, size in enumerate(port.shape):
            wanted = pinned[axis] if pinned else None
            if size is not None and wanted is not None and size != wanted:
                raise self._fault(place, f"{sizes(pinned)} does not fit the model's input {port}")
            known = size if size is not None else wanted
            shape.append(known if known is not None else 1 if axis == 0 else 0)
        if 0 in shape:
            raise BadInput(
                f"{self._document.file}: the model leaves sizes of its input {port} open; pin them "
                f'down, as in: [shapes] "{port.name}" = {_example(port.shape)}'
            )
        return tuple(shape)

    def _pinned(self, port: TensorInfo) -> tuple[Shape, Place]:
        if port.name in self._file.shapes:
            return self._file.shapes[port.name], ("shapes", port.name)
        for index, state in enumerate(self._file.state):
            if state.input == port.name and state.shape:
                return state.shape, ("state", index, "shape")
        for index, table in enumerate(self._file.input):
            if isinstance(table, _Constant) and table.input == port.name and table.shape:
                return table.shape, ("input", index, "shape")
        fed = next((one for one in self._fed if one.port.name == port.name), None)
        return ((), ()) if fed is None else self._pinned_by(fed)

    def _pinned_by(self, one: _Fed) -> tuple[Shape, Place]:
        """What a table of an input that is new at every step says of its shape."""
        table = one.table
        if isinstance(table, _Vector):
            return table.shape, ("input", one.index, "shape")
        if isinstance(table, _Audio):
            return ((None, table.samples), ("input", one.index)) if table.samples else ((), ())
        size = (table.height, table.width)
        nchw = self._pictures[one.name].layout == "nchw"
        return ((None, 3, *size) if nchw else (None, *size, 3)), ("input", one.index)

    def _contract_input(self, one: _Fed) -> Input:
        """The contract's input, once every shape is known."""
        shape, table = self.shapes[one.port.name], one.table
        if isinstance(table, _Vector):
            return VectorInput(one.name, shape)
        if isinstance(table, _Audio):
            if len(shape) != 2 or shape[0] != 1:
                text = f"input {one.port} takes no audio of the shape (1, samples); use a vector"
                raise self._fault(("input", one.index), text)
            return AudioInput(one.name, table.sample_rate_hz, shape[1])
        nchw = self._pictures[one.name].layout == "nchw"
        batch, (height, width) = shape[0], shape[2:] if nchw else shape[1:3]
        if batch != 1:
            raise BadInput(f"the model takes {batch} images at once; export it with a batch of 1")
        for key, size in (("height", height), ("width", width)):
            if getattr(table, key) not in (None, size):
                raise self._fault(("input", one.index, key), f"the model's {key} is {size}")
        return FrameInput(one.name, height, width, table.fit)

    # ------------------------------------------------------------ what comes of it

    def zeros(self) -> dict[str, Any]:
        """An input of the model, all zeros but for the constants."""
        import numpy as np

        values = {n: np.zeros(s, self._inputs[n].dtype) for n, s in self.shapes.items()}
        return values | {one.own: one.array() for one in self._feed_constants()}

    def _feed_constants(self) -> tuple[ConstantInput, ...]:
        made = []
        for index, one in enumerate(self._file.input):
            if not isinstance(one, _Constant):
                continue
            shape = self.shapes[one.input]
            count = 1
            for size in shape:
                count *= size
            if len(one.value) not in (1, count):
                raise self._fault(
                    ("input", index, "value"), f"{len(one.value)} values for {count} places"
                )
            made.append(ConstantInput(one.input, shape, self._inputs[one.input].dtype, one.value))
        return tuple(made)

    def resolve(self, answers: Mapping[str, Any]) -> tuple[Contract, Preprocessing]:
        """Return contract and preprocessing; ``answers`` are the outputs for `zeros`."""
        state_inputs = tuple(
            self._passed(f"state_{s.name}", s.input, self.shapes[s.input]) for s in self._states
        )
        mapped = [self._given(o, index, answers) for index, o in enumerate(self._told_outputs())]
        for index, state in enumerate(self._states):
            next_shape = answers[state.output].shape
            if tuple(next_shape) != self.shapes[state.input]:
                raise self._fault(
                    ("state", index),
                    f"output {shown(state.output)} has the shape {sizes(next_shape)}, input "
                    f"{shown(state.input)} {sizes(self.shapes[state.input])}",
                )
        outputs = tuple(Output(one.name, one.shape) for one in mapped)
        self._check_outputs(mapped, answers)
        kept = [
            TensorMapping(
                f"next_{s.name}", s.output, self.shapes[s.input], str(answers[s.output].dtype)
            )
            for s in self._states
        ]
        contract = Contract(
            task=self._file.task,
            inputs=self._contract_inputs,
            outputs=outputs,
            labels=self._labels,
            rate_fps=self._file.rate_fps,
            temporal="carry" if self._states else "none",
            frames=self._file.frames if self._states else 1,
            states=tuple(StateTensor(s.name, self.shapes[s.input]) for s in self._states),
            options=self._file.options,
        )
        contract.check()
        preprocessing = Preprocessing(
            tuple(self._pictures.values()),
            tuple(
                self._passed(one.name, one.port.name, self.shapes[one.port.name])
                for one in self._fed
                if not _is_frame(one)
            ),
            self._feed_constants(),
            state_inputs,
            (*mapped, *kept),
            self.shapes,
        )
        return contract, preprocessing

    def _passed(self, name: str, own: str, shape: tuple[int, ...]) -> TensorMapping:
        return TensorMapping(name, own, shape, self._inputs[own].dtype)

    def _told_outputs(self) -> list[_Output]:
        """The outputs that the file names, or all that are no memory, under their own names."""
        kept = {state.output for state in self._states}
        free = [name for name in self._outputs if name not in kept]
        if not self._file.output:
            names = self._host.default_output_names(len(free)) or plain_names(free)
            return [_Output(name, own) for name, own in zip(names, free, strict=True)]
        told = []
        for index, one in enumerate(self._file.output):
            if one.output is None and len(free) == 1:
                told.append(_Output(one.name, free[0], one.softmax))
                continue
            own = one.name if one.output is None else one.output
            self._known(("output", index, "output"), own, self._outputs, "output")
            told.append(_Output(one.name, own, one.softmax))
        return told

    def _given(self, told: _Output, index: int, answers: Mapping[str, Any]) -> TensorMapping:
        value = answers[str(told.output)]
        if str(value.dtype) not in _TOOK:
            raise BadInput(f"the model's output {shown(str(told.output))} gives no numbers")
        reserved = {FRAME, *(one.name for one in self._fed)}
        if told.name.startswith(("state_", "next_")) or told.name in reserved:
            raise self._fault(("output", index), f"the name {told.name!r} is taken; use another")
        shape = tuple(value.shape)
        return TensorMapping(told.name, str(told.output), shape, str(value.dtype), told.softmax)

    def _check_outputs(self, outputs: Sequence[TensorMapping], answers: Mapping[str, Any]) -> None:
        fault = self._host.check_outputs(
            [
                ImportedOutput(one.name, one.own, one.shape, one.softmax, answers[one.own])
                for one in outputs
            ],
            self._labels,
        )
        if fault is None:
            return
        places: dict[str, Place] = {
            "task": ("task",),
            "labels": ("labels_file",) if self._file.labels_file else ("labels",),
            "output": ("output", 0),
        }
        raise self._fault(places[fault.key], fault.text)


def _is_frame(one: _Fed) -> bool:
    return isinstance(one.table, _Frame)


def layout_of(shape: Shape) -> Layout | None:
    """Guess where the three channels are; None where that cannot be told."""
    if len(shape) != 4 or (shape[1] == 3) == (shape[3] == 3):
        return None
    return "nchw" if shape[1] == 3 else "nhwc"


def _example(shape: Shape) -> str:
    usual = 224 if len(shape) == 4 else 1
    known = [size if size is not None else usual for size in shape]
    return str([1 if shape[0] is None else known[0], *known[1:]])


def _plain(name: str) -> str:
    """A tensor's own name as one that can stand in a contract."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name.partition(":")[0]).strip("_").lower() or "tensor"
    taken = plain[0].isdigit() or plain == "frame" or plain.startswith(("state_", "next_"))
    return f"of_{plain}" if taken else plain


def plain_names(names: Sequence[str]) -> list[str]:
    """Names that can stand in a contract, and differ."""
    found: list[str] = []
    for name in names:
        plain = base = _plain(name)
        count = 1
        while plain in found:
            count += 1
            plain = f"{base}_{count}"
        found.append(plain)
    return found
