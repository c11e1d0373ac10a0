"""What a user sees of `tinyc`: help, files, tables, messages, exit statuses; and that errors leave nothing behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from .conftest import Run, conv_net

COMMAND = [sys.executable, "-m", "tinyc.tools.tinyc"]


def files(folder: Path) -> list[str]:
    """The names of everything in a folder, hidden files too."""
    return sorted(os.listdir(folder))


def processor_seconds(*arguments: str) -> float:
    """The least processor time of three runs of the program: what it takes on a machine that does nothing else."""
    times = []
    for _ in range(3):
        before = os.times()
        subprocess.run([*COMMAND, *arguments], check=True, capture_output=True)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times)


# -- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_answer_at_once(option: str) -> None:
    assert processor_seconds(option) < 0.3


def test_help_teaches(run_tinyc: Run) -> None:
    answer = run_tinyc("--help")
    assert answer.status == 0
    assert "examples:" in answer.out
    for option in ("-O LEVEL", "--emit", "-o PATH", "--name", "--target", "-p PIPELINE", "--stop-after", "--check",
                   "--print-ir-after-all", "--input-dim", "--input-shape", "--report", "--load-pass", "--version"):
        assert option in answer.out


def test_version(run_tinyc: Run, run_opt: Run, run_check: Run) -> None:
    assert run_tinyc("--version").out.startswith("tinyc 0.")
    assert run_opt("--version").out.startswith("tinyc-opt 0.")
    assert run_check("--version").out.startswith("tinyc-check 0.")


def test_lists(run_tinyc: Run) -> None:
    assert "fold-batch-norm" in run_tinyc("--list-passes").out
    assert "cortex-m4" in run_tinyc("--list-targets").out
    operators = run_tinyc("--list-ops").out.replace(",", " ").split()
    assert {"Conv", "Gemm", "Resize"} <= set(operators)


def test_print_pipeline_reads_back(run_tinyc: Run) -> None:
    pipeline = run_tinyc("-O2", "--print-pipeline").out.strip()
    assert pipeline.endswith("plan-arena")
    assert run_tinyc("-p", pipeline, "--print-pipeline").out.strip() == pipeline
    assert run_tinyc("-p", pipeline, "--stop-after", "fold-batch-norm", "--print-pipeline").out.strip().endswith(
        "fold-batch-norm")


# -- files -----------------------------------------------------------------------------------------------------------


def test_files_appear_in_the_current_directory(run_tinyc: Run, model: Path, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    answer = run_tinyc(model)
    assert answer.status == 0
    assert files(folder) == ["tiny.c", "tiny.h", "tiny_weights.c"]
    assert "int tiny_run(" in (folder / "tiny.h").read_text()
    for word in ("operators", "MACs", "parameters", "arena", "constants", "time", "wrote"):
        assert word in answer.err


def test_output_folder_is_made(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    assert run_tinyc(model, "-o", f"{tmp_path}/a/b/", "--name", "net").status == 0
    assert files(tmp_path / "a/b") == ["net.c", "net.h", "net_weights.c"]


def test_output_file_gives_the_names(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    assert run_tinyc(model, "-o", tmp_path / "out/other.c", "--name", "net").status == 0
    assert files(tmp_path / "out") == ["other.c", "other.h", "other_weights.c"]
    assert '#include "other.h"' in (tmp_path / "out/other.c").read_text()
    assert "int net_run(" in (tmp_path / "out/other.h").read_text()


def test_standard_output_is_one_unit(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    text = run_tinyc(model, "-o", "-").out
    (tmp_path / "one.c").write_text(text)
    from tinyc.tools.toolchain import STRICT, compile_objects, host_compiler

    compile_objects({"one.c": text.encode()}, host_compiler(), tmp_path / "build", STRICT)


def test_ir_comes_back(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_tinyc(model, "--emit", "ir", "--stop-after", "fuse-activation", "-o", f"{out}/").status == 0
    assert files(out) == ["tiny.npz", "tiny.tir"]
    assert run_tinyc(out / "tiny.tir", "-o", f"{tmp_path}/c/").status == 0
    assert run_tinyc(model, "-o", f"{tmp_path}/d/").status == 0
    texts = [(tmp_path / folder / "tiny_weights.c").read_text() for folder in ("c", "d")]
    numbers = [sorted(re.findall(r"= \{(.*?)\}", text, re.DOTALL)) for text in texts]
    assert numbers[0] == numbers[1]


def test_mem_level_ir_comes_back(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    assert run_tinyc(model, "--emit", "ir", "-o", tmp_path / "low.tir").status == 0
    assert "level = mem" in (tmp_path / "low.tir").read_text()
    assert run_tinyc(tmp_path / "low.tir", "-o", f"{tmp_path}/c/").status == 0


def test_ir_on_standard_output(run_tinyc: Run, model: Path) -> None:
    answer = run_tinyc(model, "--emit", "ir", "--stop-after=fold-batch-norm", "-o", "-")
    assert answer.status == 0
    assert "nn.conv2d" in answer.out
    assert "nn.batch_norm" not in answer.out


def test_dot(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    assert run_tinyc(model, "--emit", "dot", "--stop-after", "canonicalize", "-o", tmp_path / "net.dot").status == 0
    assert (tmp_path / "net.dot").read_text().startswith("digraph")


def test_same_model_same_bytes(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert run_tinyc(model, "-o", f"{tmp_path}/{folder}/").status == 0
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_report(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    assert run_tinyc(model, "-o", f"{tmp_path}/out/", "--report", tmp_path / "report.json").status == 0
    report = json.loads((tmp_path / "report.json").read_text())
    # conv 6*5*8*27, depthwise 6*5*8*9, dense 8*5
    assert report["macs"] == 6480 + 2160 + 40
    assert report["arena_bytes"] > 0
    assert report["layers"][0]["nodes"]
    assert {"arena", "name", "offset", "bytes"} <= set(report["slots"][0])


def test_sections_and_hooks_and_caller_arena(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    answer = run_tinyc(model, "-o", f"{tmp_path}/out/", "--section", "arena=.dtcm", "--section", "weights=.flash2")
    assert answer.status == 0
    assert ".dtcm" in (tmp_path / "out/tiny.c").read_text()
    assert ".flash2" in (tmp_path / "out/tiny_weights.c").read_text()
    assert run_tinyc(model, "-o", f"{tmp_path}/out/", "--arena", "caller", "--hooks").status == 0
    header = (tmp_path / "out/tiny.h").read_text()
    assert "void *arena" in header
    assert "tiny_run_hooked" in header


# -- looking inside --------------------------------------------------------------------------------------------------


def test_looking_inside(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    answer = run_tinyc(model, "-o", f"{tmp_path}/out/", "--print-ir-before=fold-batch-norm", "--time-passes", "--stats",
                       "--print-ir-after=fold-batch-norm", "--remarks", "--dump-dir", tmp_path / "dump", "--check-each")
    assert answer.status == 0
    before, _, after = answer.err.partition("// after")
    assert "nn.batch_norm" in before
    assert "nn.batch_norm" not in after
    assert "total" in answer.err
    assert files(tmp_path / "dump")[0] == "00-input.tir"


def test_print_everything(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    answer = run_tinyc(model, "-o", f"{tmp_path}/out/", "--print-ir-after-all", "--print-ir-before", "-q")
    assert answer.status == 0
    assert answer.err.count("module @") > 5
    assert "wrote" not in answer.err


# -- usage errors: status 2 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "said"), [
    (["m.onnx", "-O9"], "known: 0, 1, 2, 3, s"),
    (["m.onnx", "--emit", "doc"], "did you mean 'dot'?"),
    (["m.onnx", "--target", "cortex-m5"], "did you mean 'cortex-m"),
    (["m.onnx", "--chekc"], "did you mean '--check'?"),
    (["m.onnx", "--input-dim", "N"], "expected NAME=SIZE"),
    (["m.onnx", "--input-dim", "N=-1"], "positive number"),
    (["m.onnx", "--input-dim", "N=1", "--input-dim", "N=2"], "given twice"),
    (["m.onnx", "--input-shape", "x=1xAx3"], "should be like 1x3x96x96"),
    (["m.onnx", "--section", "heap=.x"], "known: arena, weights"),
    (["m.onnx", "--samples", "0"], "positive number"),
    (["m.tir", "--check"], "needs the .onnx file"),
    (["m.onnx", "--check", "--emit", "ir"], "does not go with --emit ir"),
    (["m.onnx", "--stop-after", "x"], "goes with --emit ir"),
    ([], "which model?"),
])
def test_usage(run_tinyc: Run, arguments: list[str], said: str) -> None:
    answer = run_tinyc(*arguments)
    assert answer.status == 2
    assert said in answer.err


# -- errors: status 1, no traceback, nothing left ---------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "said"), [
    (["-p", "fold-batchnorm"], "did you mean 'fold-batch-norm'?"),
    (["-p", "canonicalize,,lower-to-mem"], "cannot read"),
    (["-p", "canonicalize,"], "a comma but no pass behind it"),
    (["-p", "plan-arena{align=many}"], "plan-arena"),
    (["-p", "canonicalize"], "a module at level mem"),
    (["--emit", "ir", "--stop-after", "fuse-activations"], "did you mean 'fuse-activation'?"),
    (["--print-ir-after=fuse-activations"], "did you mean 'fuse-activation'?"),
    (["--name", "1net"], "not a C identifier"),
    (["--load-pass", "nowhere.py"], "no file nowhere.py"),
    (["--input-dim", "Q=3"], "Q"),
    (["--input-shape", "imag=1x3x12x10"], "image"),
    (["-o", "out.txt"], "writes a .c file"),
])
def test_errors(run_tinyc: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
                said: str) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    answer = run_tinyc(model, *arguments)
    assert (answer.status, answer.out) == (1, "")
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert files(folder) == []


@pytest.mark.parametrize(("content", "said"), [
    (b"", "tiny"),
    (b"this is not a model", "tiny"),
    (onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])).SerializeToString()[:-3], "tiny"),
])
def test_broken_models(run_tinyc: Run, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(content)
    answer = run_tinyc(path, "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert files(tmp_path) == ["tiny.onnx"]


def test_truncated_model(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    model.write_bytes(model.read_bytes()[:-200])
    answer = run_tinyc(model, "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert files(tmp_path) == ["tiny.onnx"]


def test_missing_model_suggests_a_neighbour(run_tinyc: Run, model: Path) -> None:
    answer = run_tinyc(model.with_name("tinny.onnx"))
    assert answer.status == 1
    assert "did you mean 'tiny.onnx'?" in answer.err


def test_folder_as_model(run_tinyc: Run, tmp_path: Path) -> None:
    answer = run_tinyc(tmp_path)
    assert answer.status == 1
    assert "is a directory" in answer.err


def test_another_format(run_tinyc: Run, tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    answer = run_tinyc(tmp_path / "net.tflite")
    assert answer.status == 1
    assert "TensorFlow Lite" in answer.err


def test_dynamic_dimension_is_named(run_tinyc: Run, tmp_path: Path) -> None:
    dynamic = conv_net()
    dynamic.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(dynamic, str(tmp_path / "tiny.onnx"))
    answer = run_tinyc(tmp_path / "tiny.onnx", "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert "height" in answer.err
    assert "--input-dim height=" in answer.err
    assert run_tinyc(tmp_path / "tiny.onnx", "-o", f"{tmp_path}/out/", "--input-dim", "height=12").status == 0


def test_output_folder_is_a_file(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    answer = run_tinyc(model, "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert "cannot" in answer.err
    assert files(tmp_path) == ["out", "tiny.onnx"]
    assert (tmp_path / "out").read_text() == "precious"


def test_target_file_is_a_folder(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "tiny.h").mkdir(parents=True)
    answer = run_tinyc(model, "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert files(tmp_path / "out") == ["tiny.h"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o555)
    answer = run_tinyc(model, "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert files(tmp_path / "out") == []


def test_report_that_cannot_be_written_leaves_nothing(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = run_tinyc(model, "-o", f"{tmp_path}/out/", "--report", tmp_path / "file" / "report.json")
    assert answer.status == 1
    assert files(tmp_path) == ["file", "tiny.onnx"]


def test_verbose_names_the_pipeline(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    answer = run_tinyc(model, "-v", "-o", f"{tmp_path}/out/")
    assert answer.status == 0
    assert "plan-arena" in answer.err


def test_unwritable_device(run_tinyc: Run, model: Path) -> None:
    answer = run_tinyc(model, "-o", "/proc/tinyc/")
    assert answer.status == 1
    assert "cannot" in answer.err


@pytest.mark.parametrize(("text", "said"), [
    ("module @m {", "m.tir:1"),
    ("module @m {level = grap} {\n}\n", "m.tir:1"),
    ("module @m {level = graph} {\n  func @main(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {\n"
     "    %y = nn.reluu(%x) : tensor<1x4xf32>\n    nn.return(%y)\n  }\n}\n", "nn.relu"),
    ("module @m {level = graph} {\n  func @main(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {\n"
     "    %y = nn.relu(%z) : tensor<1x4xf32>\n    nn.return(%y)\n  }\n}\n", "%z"),
    ("module @m {level = graph} {\n  func @main(%x: tensor<1x4xf32>) -> tensor<1x5xf32> {\n"
     "    %y = nn.relu(%x) : tensor<1x5xf32>\n    nn.return(%y)\n  }\n}\n", "1x5"),
])
def test_malformed_text(run_tinyc: Run, run_opt: Run, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "m.tir"
    path.write_text(text)
    for answer in (run_tinyc(path, "-o", f"{tmp_path}/out/"), run_opt(path, "-p", "")):
        assert answer.status == 1
        assert said in answer.err
        assert "Traceback" not in answer.err
    assert files(tmp_path) == ["m.tir"]


# -- our own bugs: status 70 -----------------------------------------------------------------------------------------

FAULTY = """
from tinyir import Pass

class Faulty(Pass):
    name = "faulty"

    def run(self, module, ctx):
        raise ZeroDivisionError("oops")
"""


def test_internal_error_saves_a_reproducer(run_tinyc: Run, run_opt: Run, model: Path, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faulty.py").write_text(FAULTY)
    answer = run_tinyc(model, "--load-pass", "faulty.py", "-p", "canonicalize,faulty,O2")
    assert answer.status == 70
    assert "internal error: ZeroDivisionError: oops" in answer.err
    assert "in pass faulty" in answer.err
    assert "tinyc-opt tiny.crash.tir" in answer.err
    assert not (tmp_path / "tiny.c").exists()
    again = run_opt("tiny.crash.tir", "--load-pass", "faulty.py")
    assert again.status == 70
    assert "oops" in again.err
