"""The Edge TPU compiler's report, as people published it; and a stand-in for the compiler."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgevid import targets
from edgevid.bundle import Artifact
from edgevid.errors import BadInput, CheckFailed, ConverterFailed, MissingExtra
from edgevid_converters import target_selection
from edgevid_converters.lowering import edgetpu
from edgevid_converters.lowering.edgetpu import OperatorRow, compile_model, read_report

HEAD = """Edge TPU Compiler version 15.0.340273435

Model compiled successfully in 577 ms.

Input model: yolov3-tiny_int8.tflite
Input size: 8.58MiB
Output model: yolov3-tiny_int8_edgetpu.tflite
Output size: 8.70MiB
On-chip memory used for caching model parameters: 3.00KiB
On-chip memory remaining for caching model parameters: 7.67MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 36
Operation log: yolov3-tiny_int8_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of \
the model will instead run on the CPU, which is slower. If possible, consider updating your model \
to use only operations supported by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 2
Number of operations that will run on CPU: 34

"""
# A report of yolov3-tiny, published with a conversion of it.
PARTLY = (
    HEAD
    + """Operator                       Count      Status

MAX_POOL_2D                    6          More than one subgraph is not supported
QUANTIZE                       2          Operation is otherwise supported, but not mapped due to \
some unspecified limitation
QUANTIZE                       1          Mapped to Edge TPU
QUANTIZE                       1          More than one subgraph is not supported
CONV_2D                        1          Mapped to Edge TPU
CONV_2D                        12         More than one subgraph is not supported
RESIZE_NEAREST_NEIGHBOR        1          Operation version not supported
LEAKY_RELU                     11         Operation not supported
CONCATENATION                  1          More than one subgraph is not supported
"""
)
# google-coral/edgetpu issue 219: nothing is taken.
NOTHING = """Edge TPU Compiler version 14.1.317412892
Number of operations that will run on Edge TPU: 0
Number of operations that will run on CPU: 2

Operator                       Count      Status

MUL                            1          Operation is otherwise supported, but not mapped due to \
some unspecified limitation
SPLIT                          1          Operation is otherwise supported, but not mapped due to \
some unspecified limitation
"""
# The .log file of a detector, tensorflow/models issue 10695, shortened.
LOG = """Edge TPU Compiler version 16.0.384591198
Input: model.tflite
Output: model_edgetpu.tflite

Operator                       Count      Status

STRIDED_SLICE                  10         Mapped to Edge TPU
CUSTOM                         1          Operation is working on an unsupported data type
CONV_2D                        107        Mapped to Edge TPU
"""
# openvino2tensorflow issue 28: weights that do not fit on the chip.
STREAMED = """Edge TPU Compiler version 15.0.340273435
Off-chip memory used for streaming uncached model parameters: 7.03MiB
Operator                       Count      Status
CONV_2D                        32         Mapped to Edge TPU
"""
# google-coral/edgetpu issues 313 and 189.
NOT_QUANTISED = """Edge TPU Compiler version 15.0.340273435
Invalid model: mobilenet_v2_1.0_224_quant.tflite
Model not quantized
"""
ABORTED = """Edge TPU Compiler version 14.1.317412892

Internal compiler error. Aborting!
"""


def test_a_compiler_report_lists_what_stays_on_the_cpu_and_why():
    report = read_report(PARTLY)
    assert report.version == "15.0.340273435"
    assert sum(row.count for row in report.rows) == 36
    assert (report.taken, sum(row.count for row in report.left)) == (2, 34)
    assert OperatorRow("LEAKY_RELU", 11, "Operation not supported") in report.left
    notes = report.lines()
    assert "executes 2 of 36 operators" in notes[0]
    assert "not yet proven on hardware" in notes[0]
    assert "12 CONV_2D stay on the CPU: More than one subgraph is not supported" in notes
    assert not any("streamed" in line for line in notes)


def test_log_files_and_other_compiler_versions_are_read():
    report = read_report(LOG)
    assert report.version == "16.0.384591198"
    assert report.taken == 117
    assert report.left == (
        OperatorRow("CUSTOM", 1, "Operation is working on an unsupported data type"),
    )
    assert read_report(NOTHING).taken == 0
    assert "7.03MiB of weights do not fit" in read_report(STREAMED).lines()[-1]
    assert read_report("something else\n").rows == ()


# --- a stand-in on PATH ---------------------------------------------------------------------------


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Give a function that puts a stand-in on PATH: it prints, makes a file, ends with a code."""

    def put(says: str, makes: bool = True, code: int = 0, log: str = "") -> None:
        place = tmp_path / "bin"
        place.mkdir(exist_ok=True)
        (place / "said").write_text(says)
        (place / "log").write_text(log)
        program = place / edgetpu.PROGRAM
        made = 'out="$3"; test "$1 $2" = "--show_operations --out_dir" || exit 9\n'
        made += 'printf compiled | cat - "$4" > "$out/model_edgetpu.tflite"\n'
        made += f'if [ -s "{place}/log" ]; then cp "{place}/log" "$out/model_edgetpu.log"; fi\n'
        program.write_text(f'#!/bin/sh\ncat "{place}/said"\n{made if makes else ""}exit {code}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")

    return put


def test_the_compilers_artifact_and_report_are_returned(compiler):
    compiler(PARTLY)
    content, report = compile_model(b"model")
    assert content == b"compiledmodel"
    assert report == read_report(PARTLY)
    compiler(HEAD, log=LOG)
    assert compile_model(b"model")[1].taken == 117


@pytest.mark.parametrize(
    ("message", "makes", "code", "error", "notes"),
    [
        (NOT_QUANTISED, False, 1, ConverterFailed, r"failed \(Invalid model: .*not quantized\)"),
        (ABORTED, False, 1, ConverterFailed, r"failed \(Internal compiler error. Aborting!\)"),
        (ABORTED, False, 0, ConverterFailed, "wrote nothing"),
        ("odd\n", True, 0, ConverterFailed, "no readable report"),
        (NOTHING, True, 0, CheckFailed, "executes no operator: 1 MUL stay on the CPU"),
    ],
)
def test_compiler_failures_are_one_line(compiler, message, makes, code, error, notes):
    compiler(message, makes, code)
    with pytest.raises(error, match=notes) as caught:
        compile_model(b"model")
    assert "\n" not in str(caught.value)


def test_a_compiler_that_hangs_is_stopped(compiler, tmp_path):
    compiler(PARTLY)
    (tmp_path / "bin" / edgetpu.PROGRAM).write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(ConverterFailed, match=r"did not finish in 0\.5 s"):
        compile_model(b"model", timeout_s=0.5)


def test_a_missing_compiler_gets_its_install_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match="apt-get install edgetpu-compiler") as caught:
        compile_model(b"model")
    assert "\n" not in str(caught.value)


# --- targets --------------------------------------------------------------------------------------


def target(tmp_path: Path, *engines: str):
    whole = """title = "A board"
architecture = "aarch64"
python = ["3.11"]
limits = { memory_mb = 256, disk_mb = 512 }
"""
    (tmp_path / "board.toml").write_text(whole + "".join(f"[[engine]]\n{e}\n" for e in engines))
    return targets.read(tmp_path / "board.toml")


TPU = 'runtime = "tflite"\naccelerator = "edgetpu"\nquantize = ["int8"]'
CPU = 'runtime = "tflite"\naccelerator = "cpu"\nquantize = ["float16", "int8", "dynamic"]'
OLD = 'runtime = "tflite"\naccelerator = "cpu"\nquantize = ["dynamic"]\noperators = "2.14"'
NPU = 'runtime = "openvino"\naccelerator = "npu"\nquantize = ["int8", "float16"]'


def test_a_target_gets_the_preferred_quantisation_of_each_engine(tmp_path):
    board = target(tmp_path, TPU, CPU, NPU)
    assert target_selection.plan(board, (), ()) == {
        "tflite": ["int8", "float16"],
        "openvino": ["int8"],
    }
    assert target_selection.plan(board, ["tflite"], ()) == {"tflite": ["int8", "float16"]}
    assert target_selection.plan(board, (), ["dynamic"]) == {"tflite": ["dynamic"]}
    with pytest.raises(BadInput, match=r"board executes none of these; it executes: openvino"):
        target_selection.plan(board, (), ["int16x8"])


@pytest.mark.parametrize("name", targets.names())
def test_every_shipped_target_gets_an_artifact(name):
    assert target_selection.plan(targets.load(name), (), ())


def test_unsupported_and_unknown_operators_are_reported(tmp_path):
    board = target(tmp_path, TPU, CPU, NPU)
    kinds = {"CAST": 1, "CONV_2D": 9, "LEAKY_RELU": 2, "GATHER": 1}
    result = target_selection.unsupported_operators(
        board, {"tflite": kinds}, ["tflite", "openvino"]
    )
    assert result[0].startswith(
        "tflite/edgetpu: will not execute GATHER x1, LEAKY_RELU x2, nor anything after them"
    )
    assert result[1:] == [
        "openvino/npu: which operators it executes is known only to its compiler, on the device"
    ]
    result = target_selection.unsupported_operators(board, {"tflite": {"CONV_2D": 9}}, ["tflite"])
    assert "every operator is on the published list" in result[0]


def test_an_artifact_that_no_engine_can_load_is_rejected(tmp_path):
    dynamic = Artifact("tflite-dynamic", "tflite", "dynamic", smallest_runtime={"tflite": "2.17.0"})
    with pytest.raises(CheckFailed, match=r"tflite-dynamic needs tflite 2\.17\.0 .* has 2\.14"):
        target_selection.check_release(target(tmp_path, OLD), dynamic)
    target_selection.check_release(target(tmp_path, OLD, CPU), dynamic)
    older = Artifact("tflite-int8", "tflite", "int8", smallest_runtime={"tflite": "2.14.0"})
    target_selection.check_release(target(tmp_path, OLD), older)


def test_the_old_runtimes_release_is_in_its_target(edgevid):
    way = targets.load("generic-armv7").engine[0]
    assert (way.operators, way.requires) == ("2.14", ("tflite-runtime==2.14.*",))
    assert "operators up to release 2.14" in edgevid("targets", "show", "generic-armv7").stdout
