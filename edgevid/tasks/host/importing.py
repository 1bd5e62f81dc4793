"""The task's part in importing models, and in describing artifacts to other tools.

An imported model's own file does not record what its outputs mean. The task drafts the part of the
contract file that is about outputs, and checks what the user wrote in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int | None, ...]
"""Sizes by axis; None for one that the model leaves open."""


@dataclass(frozen=True)
class ImportedOutput:
    """An output of an imported model under its name in the contract.

    Attributes:
        name: The contract's name.
        own: The model's own name.
        shape: Its shape, the batch axis included.
        softmax: Whether the converter adds a softmax; then ``samples`` are without it.
        samples: What the model gives for inputs of zeros, and for some by chance; each float32, of
            this shape.
        step: Distance of two neighbouring values, if the model gives quantised ones; else 0.
    """

    name: str
    own: str
    shape: tuple[int, ...]
    softmax: bool
    samples: tuple[NDArray[np.float32], ...]
    step: float = 0.0


@dataclass(frozen=True)
class OutputFault:
    """Why a task cannot read a model's outputs.

    Attributes:
        key: The part of the contract file that is wrong: ``task``, ``labels`` or ``output``.
        text: What is wrong and what to do, in one line.
    """

    key: str
    text: str


@dataclass(frozen=True)
class OutputDraft:
    """The draft of what a contract file says about the outputs.

    Attributes:
        output_names: Names in the contract, in the order of the model's outputs.
        settings: Keys for the top of the file, with values for TOML; all are guesses.
        missing: Keys that the user has to fill in, with an example and a comment.
        output_settings: Keys for each ``[[output]]``, with a value and a comment.
    """

    output_names: tuple[str, ...]
    settings: tuple[tuple[str, Any], ...] = ()
    missing: tuple[tuple[str, Any, str], ...] = ()
    output_settings: tuple[tuple[str, Any, str], ...] = ()


@dataclass(frozen=True)
class OutputDescription:
    """What an output means, for readers of an artifact's metadata.

    Attributes:
        text: One sentence.
        value_range: Lowest and highest value; None if unknown.
        labels: The names along its last axis; empty if they have none.
    """

    text: str = "An answer."
    value_range: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()
