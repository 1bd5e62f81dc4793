"""Conversion of models to bundles of artifacts, with evidence; on the host only.

`convert` lowers a model's step to each format and quantisation in child processes, compares each
artifact with the model, and writes one bundle or nothing.

A converter is one package in `edgevid_converters.lowering` and one row of `edgevid.registry`, or an
entry point of the group ``edgevid.converter``; an importer is one module in
`edgevid_converters.importers` and one row, or an entry point of the group ``edgevid.importer``.
"""

from edgevid_converters.importers import Importer, NativeModel
from edgevid_converters.lowering.protocol import Converter, LayerError, Operator
from edgevid_converters.pipeline import Conversion, ConvertArguments, ConvertOptions, convert

__all__ = [
    "Conversion",
    "ConvertArguments",
    "ConvertOptions",
    "Converter",
    "Importer",
    "LayerError",
    "NativeModel",
    "Operator",
    "convert",
]
