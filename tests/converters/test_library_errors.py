"""Errors of libraries become one line that names operator and layer, and a file with the rest."""

from __future__ import annotations

from pathlib import Path

from edgevid_converters.library_errors import first_line, lowering_reason

MLIR = (
    'Could not translate MLIR to FlatBuffer.<unknown>:0: error: loc(callsite(fused["Erfinv:", '
    '"odd/erfinv/Erfinv@__inference_f_8605"] at callsite(fused["PartitionedCall:", '
    "\"PartitionedCall@__inference_x_8610\"]))): 'tf.Erfinv' op is neither a custom op "
    "nor a flex op\n<unknown>:0: note: called from\n"
)


def test_a_missing_operator_is_named_with_its_node():
    text = lowering_reason(RuntimeError(MLIR))
    assert text.startswith("TFLite has no operator Erfinv (node 'odd/erfinv/Erfinv'); its log is ")
    assert Path(text.rpartition(" ")[2]).read_text() == MLIR
    assert "\n" not in text


def test_an_operator_that_breaks_a_rule_is_named():
    text = 'loc(fused["Conv3D:", "net/first/Conv3D@f"]): error: \'tf.Conv3D\' op has 2 strides'
    assert lowering_reason(RuntimeError(text)).startswith(
        "operator Conv3D (node 'net/first/Conv3D') has 2 strides; its log is "
    )


def test_the_line_with_the_reason_is_taken_and_never_cut_without_a_word():
    keras = 'in user code:\n\n    File "x.py", line 1, in call  *\n        return y\n\n    '
    assert first_line(ValueError(keras + "\x1b[1mThe layer norm is odd\x1b[0m")) == (
        "The layer norm is odd"
    )
    assert first_line(ValueError("")) == "ValueError"
    long = f"node 'first' has {'word ' * 500} but not node 'last'"
    text = first_line(ValueError(long))
    assert len(text) < 600 and text.startswith("node 'first' has word word")
    assert "word ... word" in text and "but not node 'last' (in full in " in text
    file = Path(text.partition("(in full in ")[2].rstrip(")"))
    assert file.read_text() == long
