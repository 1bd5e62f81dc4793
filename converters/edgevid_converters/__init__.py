"""Models in, artifacts and evidence out; on the host only.

`convert` lowers a model's step to every format and quantisation that is asked for, each in a child
process, proves each artifact against the model, and writes one bundle or nothing.

A converter is one file here and one row of `edgevid.registry`; a kind of source is one file in
`edgevid_converters.importers`.
"""

from edgevid_converters.lowering.protocol import Converter, LayerError, Operator
from edgevid_converters.pipeline import convert

__all__ = ["Converter", "LayerError", "Operator", "convert"]
