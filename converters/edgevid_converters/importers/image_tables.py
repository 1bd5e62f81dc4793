"""An ``[[input]]`` of images matched with the model's input that it feeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

from edgevid.errors import BadInput
from edgevid_converters.importers.contract_toml import FrameTable
from edgevid_converters.importers.preprocessing import ImageMapping, Layout
from edgevid_converters.importers.tensors import Levels, TensorInfo, channels_of, layout_of

LEAST_SHARE = 0.5
"""Share that the values of pixels and those of a quantised input must have in common."""


def image_mapping(
    name: str, table: FrameTable, tensor: TensorInfo, fault: Callable[[str], BadInput]
) -> ImageMapping:
    """Read how a frame becomes an input of the model.

    Args:
        name: The contract's name of the input.
        table: Its table in the contract file.
        tensor: The model's input.
        fault: Makes the error for a text.

    Raises:
        BadInput: The input takes no such image.
    """
    mapping = ImageMapping(
        name,
        tensor.name,
        tensor.dtype,
        table.colour,
        _layout(table, tensor, fault),
        table.scale or 1.0,
        table.mean or (0.0,),
        table.std or (1.0,),
    )
    if tensor.levels is None:
        return mapping
    if (table.scale, table.mean, table.std) != (None, None, None):
        _check_range(mapping, tensor, tensor.levels, fault)
        return mapping
    if tensor.levels.dtype == "int16":
        raise fault(f"input {tensor} does not store pixels as they are; add scale, mean and std")
    # A pixel's level is the pixel, or for int8 128 less.
    offset = tensor.levels.scale * (tensor.levels.zero_point - tensor.levels.lowest)
    return replace(mapping, scale=1 / tensor.levels.scale, mean=(offset,))


def _layout(table: FrameTable, tensor: TensorInfo, fault: Callable[[str], BadInput]) -> Layout:
    """Find the order of an image's axes, and check it against the model's input."""
    layout = table.layout or layout_of(tensor.shape)
    if layout is None or len(layout) != len(tensor.shape):
        hint = "" if table.layout else "; if it does, add its layout"
        raise fault(f"input {tensor} is not an image of one or three channels{hint}")
    guessed = table.layout is None and not layout.startswith("n")  # it may well be a batch
    if tensor.shape[0] not in (None, 1) and (guessed or layout.startswith("n")):
        clip = layout.replace("n", "t")
        hint = f', or add layout = "{clip}" if they are the frames of a clip'
        raise fault(
            f"the model takes {tensor.shape[0]} images at once; export it with a batch of 1"
            + (hint if len(layout) == 4 else "")
        )
    grey, found = table.colour == "grey", channels_of(layout, tensor.shape)
    if found == 1 and not grey:
        raise fault(f'input {tensor} has one channel; add colour = "grey"')
    if found not in (None, 1 if grey else 3):
        raise fault(
            f"input {tensor} has {found} channels in the layout {layout}, not {1 if grey else 3}; "
            "check its layout and colour"
        )
    return layout


def _check_range(
    mapping: ImageMapping, tensor: TensorInfo, levels: Levels, fault: Callable[[str], BadInput]
) -> None:
    """Check that a quantised input can store the values that pixels become."""
    pairs = list(zip(*mapping.factors, strict=True))
    ends = [first * pixel + second for (first, second), pixel in product(pairs, (0, 255))]
    low, high = min(ends), max(ends)
    least, most = levels.value_range
    shared = min(high, most) - max(low, least)
    if shared < LEAST_SHARE * max(high - low, most - least):
        raise fault(
            f"scale, mean and std turn pixels into {low:.4g} to {high:.4g}, but input {tensor} "
            f"stores {least:.4g} to {most:.4g}; leave all three out if it takes pixels as they are"
        )
