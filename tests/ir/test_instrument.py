"""Instruments: what they print, write and find."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from tinyir import (
    CheckEach,
    CompileError,
    Context,
    DumpDir,
    Instrument,
    Module,
    Pass,
    PassManager,
    PrintAfter,
    PrintBefore,
    Reproducer,
    Rewriter,
    Statistics,
    Timing,
    VerifyEach,
    error,
    ops,
    parse,
    parse_file,
    rewrites,
    structurally_equal,
)
from tinyir.instrument import sample_inputs
from tinyir.parser import run_line

TEXT = """\
// 20 MACs, 20 parameters, 80 bytes
module @m {level = graph} {
  const @w : tensor<5x4xf32> = random<1>

  func @main(%x: tensor<1x4xf32>) -> tensor<1x5xf32> {
    %a = nn.dense(%x, @w, none) : tensor<1x5xf32>
    %b = nn.relu(%a) : tensor<1x5xf32>
    nn.return(%b)
  }
}
"""


class Nothing(Pass):
    name = "test-nothing"

    def run(self, module: Module, ctx: Context) -> None:
        ctx.stat("bytes", 12345)
        ctx.stat("way", "none")


class Wrong(Pass):
    """Drops every relu: other numbers, valid IR."""

    name = "test-wrong"

    @rewrites(ops.Relu)
    def drop(self, op: ops.Relu, rewriter: Rewriter) -> None:
        rewriter.replace(op, op.x)


class Slightly(Pass):
    """Scales the weights by 1 + 1e-6."""

    name = "test-slightly"

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        for op in list(module.walk()):
            if isinstance(op, ops.Dense) and op.weight.data is not None:
                rewriter.set_operand(op, 1, rewriter.const(op.weight.data * np.float32(1 + 1e-6), "w"))
        module.drop_unused_consts()


class Break(Pass):
    """Makes an invalid module."""

    name = "test-break"

    def run(self, module: Module, ctx: Context) -> None:
        module.main.ops.pop()


class Crash(Pass):
    """Spoils the module, then fails."""

    name = "test-crash"
    depth: int = 1

    def run(self, module: Module, ctx: Context) -> None:
        module.main.ops.clear()
        raise IndexError(self.depth)


class Refuse(Pass):
    name = "test-refuse"

    def run(self, module: Module, ctx: Context) -> None:
        raise error("the model is too large")


class Widen(Pass):
    """Changes the type of the input."""

    name = "test-widen"

    def run(self, module: Module, ctx: Context) -> None:
        changed = parse(TEXT.replace("1x4", "2x4").replace("1x5", "2x5"))
        module.funcs, module.consts = changed.funcs, changed.consts


def observe(passes: list[Pass], *instruments: Instrument) -> Context:
    return PassManager(passes, instruments).run(parse(TEXT, "m.tir"))


def test_printing() -> None:
    out = io.StringIO()
    observe([Nothing(), Wrong()], PrintBefore(["test-wrong"], out), PrintAfter(only_changes=True, stream=out))
    changed = TEXT.replace("    %b = nn.relu(%a) : tensor<1x5xf32>\n", "").replace("(%b)", "(%a)")
    assert out.getvalue() == (f"// after 01-test-nothing: no change\n"
                              f"// before 02-test-wrong\n{TEXT}\n"
                              f"// after 02-test-wrong\n{changed}\n")


def test_printing_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    observe([Nothing()], PrintAfter())
    assert capsys.readouterr() == ("", f"// after 01-test-nothing\n{TEXT}\n")


def test_dumps_read_back(tmp_path: Path) -> None:
    module = parse(TEXT)
    PassManager([Nothing(), Slightly()], [DumpDir(str(tmp_path / "dump"))]).run(module)
    names = sorted(p.name for p in (tmp_path / "dump").iterdir())
    assert names == ["00-input.tir", "01-test-nothing.tir", "02-test-slightly.tir", "constants.npz"]
    assert structurally_equal(parse_file(tmp_path / "dump" / "00-input.tir"), parse(TEXT))
    assert structurally_equal(parse_file(tmp_path / "dump" / "02-test-slightly.tir"), module)


def test_dumps_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CompileError, match="cannot make the folder"):
        observe([Nothing()], DumpDir(str(tmp_path / "file" / "dump")))


def test_timing_and_statistics() -> None:
    out = io.StringIO()
    timing = Timing(out)
    observe([Nothing(), Wrong()], timing, Statistics(out))
    assert [name for name, _ in timing.seconds] == ["test-nothing", "test-wrong"]
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["test-nothing", "test-wrong", "total"]
    assert lines[3:] == ["test-nothing.bytes  12,345", "test-nothing.way    none"]


def test_verify_each_names_the_pass() -> None:
    with pytest.raises(CompileError, match=r"after pass test-break: the block ends with nn\.relu"):
        observe([Nothing(), Break()], VerifyEach())


def test_verify_each_checks_the_input_first() -> None:
    module = parse(TEXT.replace("%b = nn.relu(%a) : tensor<1x5xf32>", "%b = nn.relu(%a) : tensor<1x6xf32>")
                   .replace("-> tensor<1x5", "-> tensor<1x6"))
    with pytest.raises(CompileError, match=r"error: nn\.relu: the result is"):
        PassManager([], [VerifyEach()]).run(module)


def test_check_each_names_the_first_pass_that_changed_the_answer() -> None:
    observe([Nothing(), Slightly()], CheckEach())
    with pytest.raises(CompileError) as caught:
        observe([Slightly(), Wrong(), Nothing()], CheckEach())
    (found,) = caught.value.diagnostics
    assert found.severity == "internal"
    assert found.message.startswith("pass test-wrong changed the answer: output 0[0, ")
    assert found.message.endswith("of 5 values differ too much")


def test_check_each_begins_anew_when_the_interface_changes() -> None:
    ctx = observe([Widen(), Slightly()], CheckEach())
    assert [d.message for d in ctx.diagnostics] == [
        "test-widen changed the types of inputs or outputs: checked against a new start from here on"]


def test_reproducer_runs_again(tmp_path: Path) -> None:
    passes: list[Pass] = [Slightly(), Crash(depth=2), Nothing()]
    out = io.StringIO()
    path = tmp_path / "crash.tir"
    with pytest.raises(IndexError):
        observe(passes, Reproducer(passes, str(path), out))
    assert run_line(path.read_text()) == "test-crash{depth=2},test-nothing"
    assert [op.opname for op in parse_file(path).main.ops] == ["nn.dense", "nn.relu", "nn.return"]
    assert f"tinyc-opt {path}" in out.getvalue()


def test_no_reproducer_for_the_user_s_errors(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="the model is too large"):
        observe([Refuse()], Reproducer([Refuse()], str(tmp_path / "crash.tir"), io.StringIO()))
    assert not list(tmp_path.iterdir())


def test_reproducer_that_cannot_be_saved(tmp_path: Path) -> None:
    out = io.StringIO()
    with pytest.raises(IndexError):
        observe([Crash()], Reproducer([Crash()], str(tmp_path / "no" / "crash.tir"), out))
    assert "could not be saved" in out.getvalue()


def test_sample_inputs_are_the_same_each_time() -> None:
    module = parse("module @m { func @main(%a: tensor<3xf32>, %b: tensor<9xi8>, %c: tensor<2xi64>, %d: tensor<4xbool>) "
                   "{ nn.return() } }")
    first, second = sample_inputs(module), sample_inputs(module)
    assert [a.tolist() for a in first] == [a.tolist() for a in second]
    assert [a.dtype.name for a in first] == ["float32", "int8", "int64", "bool"]
