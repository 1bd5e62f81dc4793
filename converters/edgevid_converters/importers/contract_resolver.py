"""A contract file matched with the inputs and outputs of its model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgevid import registry, settings
from edgevid.contract import (
    FRAME,
    AudioInput,
    Contract,
    FrameInput,
    Input,
    Output,
    StateTensor,
    VectorInput,
)
from edgevid.errors import BadInput
from edgevid.settings import Place, shown
from edgevid.tasks.host import open_host
from edgevid.tasks.host.importing import ImportedOutput
from edgevid.text import expand, read_lines
from edgevid_converters.importers.contract_toml import (
    AudioTable,
    ConstantTable,
    ContractFile,
    FrameTable,
    OutputTable,
    StateTable,
    VectorTable,
)
from edgevid_converters.importers.image_tables import image_mapping
from edgevid_converters.importers.preprocessing import (
    ConstantInput,
    ImageMapping,
    Preprocessing,
    TensorMapping,
)
from edgevid_converters.importers.tensors import (
    Shape,
    TensorInfo,
    plain_name,
    plain_names,
    sizes,
)

_CLIP = "clip"
"""Name of the state with the earlier frames of a clip."""
_SPREADS = (1.0, 0.25)
"""Spread of values by chance: of all pixels' levels, and of the middle ones."""
_NUMERIC = ("float32", "float16", "float64", "uint8", "int8", "int32", "int64", "bool")


@dataclass(frozen=True)
class _InputEntry:
    """An ``[[input]]`` that is new at every step, with the model's input that it feeds."""

    index: int
    table: FrameTable | AudioTable | VectorTable
    tensor: TensorInfo

    @property
    def name(self) -> str:
        """The contract's name of the input."""
        return self.table.name or plain_name(self.tensor.name)


class ContractResolver:
    """Matches a contract file with a model's inputs and outputs.

    Args:
        file: The contract file.
        inputs: The model's inputs.
        outputs: The model's outputs.
        labels_file: The path of the labels file that it names, for a child process with another
            home. Default: relative to the contract file.

    Raises:
        BadInput: They do not fit; the message names the line, or the model's tensor.
    """

    def __init__(
        self,
        file: Path,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        labels_file: Path | None = None,
    ) -> None:
        self._labels_file = labels_file
        self._document = settings.read(file)
        if "frame" in self._document.data:
            raise self._fault(
                ("frame",),
                '[frame] is the old form; write [[input]] with kind = "frame", and rate_fps at the '
                "top of the file",
            )
        self._file = settings.build(ContractFile, self._document)
        self._inputs = {tensor.name: tensor for tensor in inputs}
        self._outputs = {tensor.name: tensor for tensor in outputs}
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
        self._entries = self._read_inputs()
        self._images = {
            one.name: self._image_mapping(one) for one in self._entries if _is_frame(one)
        }
        self._check_all_mapped()
        self.shapes = {name: self._shape(tensor) for name, tensor in self._inputs.items()}
        """Shape of every input of the model, with all sizes known."""
        self._images = {
            name: replace(
                one,
                shape=self.shapes[one.input],
                state=_CLIP if name == FRAME else f"{name}_{_CLIP}",
            )
            if one.is_clip
            else one
            for name, one in self._images.items()
        }
        self._contract_inputs = tuple(self._contract_input(one) for one in self._entries)

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
        named = self._document.file.parent / expand(self._file.labels_file)
        path = self._labels_file or named
        try:
            return read_lines(path, use="a text file with one label per line")
        except BadInput as error:
            raise self._fault(("labels_file",), str(error)) from None

    def _read_constants(self) -> dict[str, ConstantTable]:
        """Read the inputs that never change, by the model's own name."""
        found: dict[str, ConstantTable] = {}
        for index, table in enumerate(self._file.input):
            if isinstance(table, ConstantTable):
                self._known(("input", index, "input"), table.input, self._inputs, "input")
                found[table.input] = table
        return found

    def _read_inputs(self) -> list[_InputEntry]:
        """Read the inputs that are new at every step."""
        tables = [
            (index, table)
            for index, table in enumerate(self._file.input)
            if not isinstance(table, ConstantTable)
        ]
        taken = {state.input for state in self._states} | set(self._constants)
        named = {table.input for _, table in tables}
        free = [name for name in self._inputs if name not in taken | named]
        found: list[_InputEntry] = []
        for index, table in tables:
            own = table.input
            if own is None:
                if len(free) != 1:
                    listed = ", ".join(map(shown, free)) or "none"
                    text = f"name the model's input for this {table.kind}: {listed}; add 'input'"
                    raise self._fault(("input", index), text)
                own = free[0]
            self._known(("input", index, "input"), own, self._inputs, "input")
            one = _InputEntry(index, table, self._inputs[own])
            if own in taken or own in [other.tensor.name for other in found]:
                text = f"the model's input {shown(own)} is fed twice; remove one of the tables"
                raise self._fault(("input", index), text)
            if one.name in [other.name for other in found]:
                text = f"two inputs are named {shown(one.name)}; give one another name"
                raise self._fault(("input", index), text)
            found.append(one)
        return found

    def _read_states(self) -> list[StateTable]:
        for index, state in enumerate(self._file.state):
            for key, tensors in (("input", self._inputs), ("output", self._outputs)):
                name = getattr(state, key)
                place: Place = ("state", index, key)
                if not name:
                    raise self._fault(("state", index), f"state {shown(state.name)} lacks {key!r}")
                self._known(place, name, tensors, key)
        return list(self._file.state)

    def _image_mapping(self, one: _InputEntry) -> ImageMapping:
        assert isinstance(one.table, FrameTable)

        def fault(text: str) -> BadInput:
            return self._fault(("input", one.index), text)

        return image_mapping(one.name, one.table, one.tensor, fault)

    def _check_all_mapped(self) -> None:
        mapped = {s.input for s in self._states} | set(self._constants)
        mapped |= {one.tensor.name for one in self._entries}
        for tensor in self._inputs.values():
            if tensor.name not in mapped:
                raise BadInput(
                    f"{self._document.file} does not mention the model's input {tensor}; add "
                    "[[input]] with its kind, or [[state]]"
                )
            if tensor.dtype not in _NUMERIC:
                raise BadInput(
                    f"the model's input {tensor} cannot be fed; export it with a numeric input"
                )
        if not self._entries:
            raise BadInput(
                f"{self._document.file}: no input is new at every step; add [[input]] with "
                'kind = "frame", "audio" or "vector"'
            )

    # ------------------------------------------------------------ shapes

    def _shape(self, tensor: TensorInfo) -> tuple[int, ...]:
        """Complete an input's shape with the sizes in the file; an open batch size is 1."""
        pinned, place = self._pinned(tensor)
        if pinned and len(pinned) != len(tensor.shape):
            raise self._fault(place, f"the model's input {tensor} has {len(tensor.shape)} sizes")
        shape = []
        for axis, size in enumerate(tensor.shape):
            wanted = pinned[axis] if pinned else None
            if size is not None and wanted is not None and size != wanted:
                raise self._fault(place, f"{sizes(pinned)} does not fit the model's input {tensor}")
            known = size if size is not None else wanted
            shape.append(known if known is not None else 1 if axis == 0 else 0)
        self._check_frames(tensor, shape)
        if 0 in shape:
            raise BadInput(
                f"{self._document.file}: the model leaves sizes of its input {tensor} open; "
                f'pin them down, as in: [shapes] "{tensor.name}" = {_example(tensor.shape)}'
            )
        return tuple(shape)

    def _check_frames(self, tensor: TensorInfo, shape: Sequence[int]) -> None:
        """Check that the number of frames of a clip is known, and more than one."""
        for one in self._entries:
            if one.tensor is not tensor or not _is_frame(one):
                continue
            layout = self._images[one.name].layout
            count = shape[layout.index("t")] if "t" in layout else None
            if count is not None and count < 2:
                text = f"the model leaves the number of frames of its input {tensor} open"
                if tensor.shape[layout.index("t")] is not None:
                    text = f"input {tensor} takes a clip of one frame; export it for more"
                raise self._fault(("input", one.index), f"{text}; add, for example, frames = 16")

    def _pinned(self, tensor: TensorInfo) -> tuple[Shape, Place]:
        if tensor.name in self._file.shapes:
            return self._file.shapes[tensor.name], ("shapes", tensor.name)
        for index, state in enumerate(self._file.state):
            if state.input == tensor.name and state.shape:
                return state.shape, ("state", index, "shape")
        for index, table in enumerate(self._file.input):
            if isinstance(table, ConstantTable) and table.input == tensor.name and table.shape:
                return table.shape, ("input", index, "shape")
        entry = next((one for one in self._entries if one.tensor.name == tensor.name), None)
        return ((), ()) if entry is None else self._pinned_by(entry)

    def _pinned_by(self, one: _InputEntry) -> tuple[Shape, Place]:
        """Read the sizes in the table of an input that is new at every step."""
        table = one.table
        if isinstance(table, VectorTable):
            return table.shape, ("input", one.index, "shape")
        if isinstance(table, AudioTable):
            return ((None, table.samples), ("input", one.index)) if table.samples else ((), ())
        mapping = self._images[one.name]
        channels = 1 if mapping.colour == "grey" else 3
        known = {"h": table.height, "w": table.width, "c": channels, "t": table.frames}
        return tuple(known.get(axis) for axis in mapping.layout), ("input", one.index)

    def _contract_input(self, one: _InputEntry) -> Input:
        """Build the contract's input once every shape is known."""
        shape, table = self.shapes[one.tensor.name], one.table
        if isinstance(table, VectorTable):
            return VectorInput(one.name, shape)
        if isinstance(table, AudioTable):
            if len(shape) != 2 or shape[0] != 1:
                text = f"input {one.tensor} takes no audio of the shape (1, samples); use a vector"
                raise self._fault(("input", one.index), text)
            return AudioInput(one.name, table.sample_rate_hz, shape[1])
        size = dict(zip(self._images[one.name].layout, shape, strict=True))
        for key, axis in (("height", "h"), ("width", "w")):
            if getattr(table, key) not in (None, size[axis]):
                raise self._fault(("input", one.index, key), f"the model's {key} is {size[axis]}")
        if table.frames is not None and size.get("t", 1) != table.frames:
            text = f"the model takes {size.get('t', 1)} frames at once"
            raise self._fault(("input", one.index, "frames"), text)
        return FrameInput(one.name, size["h"], size["w"], table.fit, resize=table.resize)

    # ------------------------------------------------------------ what comes of it

    def examples(self) -> Iterator[dict[str, Any]]:
        """Yield inputs for the model: zeros, then pictures and other values by chance.

        Constants stay what they are. Integers other than pixels may be indices or switches, and
        stay zero.

        Yields:
            The model's own name -> array of the shape and dtype that the model takes.
        """
        import numpy as np

        rng, zeros = np.random.default_rng(0), {}
        for name, shape in self.shapes.items():
            zeros[name] = np.zeros(shape, self._inputs[name].dtype)
        constants = {one.own: one.array() for one in self._constant_inputs()}
        yield zeros | constants
        for spread in _SPREADS:
            values: dict[str, Any] = {}
            for name, zero in zeros.items():
                if zero.dtype.kind == "f":
                    values[name] = (spread * rng.normal(size=zero.shape)).astype(zero.dtype)
            for image in self._images.values():
                low, high = 127.5 - 127.5 * spread, 127.5 + 127.5 * spread
                frames = rng.uniform(low, high, self._pixels(image))
                values[image.input] = image.arrange(frames.astype(np.uint8))
            yield zeros | values | constants

    def _pixels(self, image: ImageMapping) -> tuple[int, ...]:
        """Shape of the frames of an image: ``(frames, H, W, 3)``."""
        size = dict(zip(image.layout, self.shapes[image.input], strict=True))
        return size.get("t", 1), size["h"], size["w"], 3

    def _constant_inputs(self) -> tuple[ConstantInput, ...]:
        made = []
        for index, one in enumerate(self._file.input):
            if not isinstance(one, ConstantTable):
                continue
            shape = self.shapes[one.input]
            count = 1
            for size in shape:
                count *= size
            if len(one.value) not in (1, count):
                raise self._fault(
                    ("input", index, "value"),
                    f"{len(one.value)} values for {count} elements; give one, or one for each",
                )
            made.append(ConstantInput(one.input, shape, self._inputs[one.input].dtype, one.value))
        return tuple(made)

    def resolve(self, taken: Sequence[Mapping[str, Any]]) -> tuple[Contract, Preprocessing]:
        """Build the contract and the preprocessing.

        Args:
            taken: The model's outputs for each of `examples`, by its own names: arrays of any
                shape and dtype.

        Raises:
            BadInput: The outputs do not fit the file or the task.
        """
        samples = taken[0]
        state_inputs = tuple(
            self._passed(f"state_{s.name}", s.input, self.shapes[s.input]) for s in self._states
        )
        mapped = [self._given(o, index, samples) for index, o in enumerate(self._listed_outputs())]
        for index, state in enumerate(self._states):
            next_shape = samples[state.output].shape
            if tuple(next_shape) != self.shapes[state.input]:
                raise self._fault(
                    ("state", index),
                    f"output {shown(state.output)} has the shape {sizes(next_shape)}, input "
                    f"{shown(state.input)} {sizes(self.shapes[state.input])}",
                )
        outputs = tuple(Output(one.name, one.shape) for one in mapped)
        self._check_outputs(mapped, taken)
        kept = [
            TensorMapping(
                f"next_{s.name}",
                s.output,
                self.shapes[s.input],
                str(samples[s.output].dtype),
            )
            for s in self._states
        ]
        clips = [one for one in self._images.values() if one.is_clip]
        lengths = [one.batched_shape[one.time_axis] for one in clips]
        lengths += [self._file.frames] if self._states else []
        contract = Contract(
            task=self._file.task,
            inputs=self._contract_inputs,
            outputs=outputs,
            labels=self._labels,
            rate_fps=self._file.rate_fps,
            temporal="carry" if self._states else "window" if clips else "none",
            frames=max(lengths) if clips or self._states else 1,
            states=(
                *(StateTensor(s.name, self.shapes[s.input]) for s in self._states),
                *(StateTensor(one.state, one.state_shape) for one in clips),
            ),
            options=self._file.options,
        )
        contract.check()
        preprocessing = Preprocessing(
            tuple(self._images.values()),
            tuple(
                self._passed(one.name, one.tensor.name, self.shapes[one.tensor.name])
                for one in self._entries
                if not _is_frame(one)
            ),
            self._constant_inputs(),
            state_inputs,
            (*mapped, *kept),
            self.shapes,
        )
        return contract, preprocessing

    def _passed(self, name: str, own: str, shape: tuple[int, ...]) -> TensorMapping:
        return TensorMapping(name, own, shape, self._inputs[own].dtype)

    def _listed_outputs(self) -> list[OutputTable]:
        """The outputs that the file lists, or else all that are not state."""
        kept = {state.output for state in self._states}
        free = [name for name in self._outputs if name not in kept]
        if not self._file.output:
            names = self._host.default_output_names(len(free)) or plain_names(free)
            return [OutputTable(name, own) for name, own in zip(names, free, strict=True)]
        found = []
        for index, one in enumerate(self._file.output):
            if one.output is None and len(free) == 1:
                found.append(OutputTable(one.name, free[0], one.softmax))
                continue
            own = one.name if one.output is None else one.output
            self._known(("output", index, "output"), own, self._outputs, "output")
            found.append(OutputTable(one.name, own, one.softmax))
        return found

    def _given(self, table: OutputTable, index: int, samples: Mapping[str, Any]) -> TensorMapping:
        value = samples[str(table.output)]
        if str(value.dtype) not in _NUMERIC:
            raise BadInput(
                f"the model's output {shown(str(table.output))} is not numeric; "
                "leave it out of the export"
            )
        reserved = {FRAME, *(one.name for one in self._entries)}
        if table.name.startswith(("state_", "next_")) or table.name in reserved:
            raise self._fault(("output", index), f"the name {table.name!r} is taken; use another")
        shape = tuple(value.shape)
        return TensorMapping(table.name, str(table.output), shape, str(value.dtype), table.softmax)

    def _check_outputs(
        self, outputs: Sequence[TensorMapping], samples: Sequence[Mapping[str, Any]]
    ) -> None:
        fault = self._host.check_outputs(
            [
                ImportedOutput(
                    one.name,
                    one.own,
                    one.shape,
                    one.softmax,
                    tuple(sample[one.own] for sample in samples),
                    levels.scale if (levels := self._outputs[one.own].levels) else 0.0,
                )
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


def _is_frame(one: _InputEntry) -> bool:
    return isinstance(one.table, FrameTable)


def _example(shape: Shape) -> str:
    usual = 224 if len(shape) == 4 else 1
    known = [size if size is not None else usual for size in shape]
    return str([1 if shape[0] is None else known[0], *known[1:]])
