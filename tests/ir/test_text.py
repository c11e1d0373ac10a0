"""Text form: every module reads back as itself, and prints as one would write it."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import numpy as np
import pytest

from tinyir import (
    Argument,
    Block,
    BufferType,
    Builder,
    CompileError,
    Func,
    FusedLoc,
    IndexType,
    Module,
    NamedLoc,
    Op,
    Quant,
    Sidecar,
    TensorType,
    Type,
    Value,
    Written,
    dtype,
    ops,
    parse,
    parse_file,
    print_module,
    run,
    structural_difference,
    structurally_equal,
    verify,
    write_module,
)
from tinyir.parser import run_line
from tinyir.types import read_float, shortest_float


class Loop(Op, opname="sched.test_loop"):
    """Runs its regions one after the other."""

    x: Value
    grid: tuple[tuple[int, int], ...] = ()

    def infer(self) -> Type:
        return self.x.type


class Yield(Op, opname="sched.test_yield"):
    values: tuple[Value, ...]
    terminator = True
    pure = False

    def infer(self) -> tuple[()]:
        return ()


class Split(Op, opname="nn.test_split"):
    """Two results."""

    x: Value

    def infer(self) -> tuple[Type, ...]:
        return self.x.type, self.x.type


class Kernel(Op, opname="k.test_kernel"):
    x: Value
    bias: Value | None
    y: Written
    clamp: tuple[int, int] | None = None
    note: str = ""
    pure = False

    def infer(self) -> tuple[()]:
        return ()


GRAPH = """\
// 320 MACs, 225 parameters, 785 bytes
module @"torch-jit-export" {level = graph, input_layout = nchw, note = "two words", numbers = [1, 0.5, true, none]} {
  const @fc.weight : tensor<10x16xf32> = random<7> loc("fc/weight")
  const @fc.bias : tensor<10xf32> = splat<0.0>
  const @small : tensor<2x2xf32> = dense<[0.1, -0.0, inf, nan]>
  const @flags : tensor<2xbool> = dense<[true, false]>
  const @indices : tensor<3xi64> = dense<[-1, 0, 9007199254740993]>
  const @left_out : tensor<6x7xi8> = elided
  const @scalar : tensor<f32> = splat<1.0e-06>
  const @double : tensor<2xf64> = dense<[0.1000000000, 0.5]>
  const @one : tensor<1xi8> = splat<3>

  func @main(%x: tensor<1x16xf32>, %input_0: tensor<1x10xf32> loc("input")) -> (tensor<1x10xf32>, tensor<1x10xf32>)
          {arguments = [x, "input:0"], results = ["scores:0", boxes]} {
    %y = nn.dense(%x, @fc.weight, @fc.bias) {act = clip, act_args = [0.0, 6.0]} : tensor<1x10xf32> loc("Gemm_6")
    %y_1 = nn.dense(%x, @fc.weight, none) {act = leaky_relu, act_args = [0.01]} : tensor<1x10xf32>
            loc(fused<"fuse-activation">["Gemm_7", "a long name of a node in a model", "model.tir":3:14])
    %a, %b = nn.test_split(%y) : (tensor<1x10xf32>, tensor<1x10xf32>)
    %sum = nn.add(%y, %y_1) : tensor<1x10xf32>
    nn.return(%sum, %input_0)
  }
}
"""

QUANT = """\
// 0 MACs, 28 parameters, 28 bytes
module @q {level = quant} {
  const @w : tensor<2x7xi8, q<axis 0, [0.011, 0.009]:0>> = random<3>
  const @v : tensor<2x7xi8, q<axis 0, [0.011, 0.009]:[1, -2]>> = random<4>

  func @main(%x: tensor<1x7xi8, q<0.003921569:-128>>) -> tensor<1x7xi8, q<0.003921569:-128>> {
    nn.return(%x)
  }
}
"""

SCHED = """\
// 0 MACs, 0 parameters, 0 bytes
module @s {level = sched} {
  func @main(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
    %y = sched.test_loop(%x) {grid = [[0, 9], [7, 16]]} : tensor<1x4xf32> {
    ^body(%row: index, %x_1: tensor<1x4xf32>):
      %t = nn.relu(%x_1) : tensor<1x4xf32>
      %u = sched.test_loop(%t) : tensor<1x4xf32> {
        sched.test_yield(%t)
      } {
        sched.test_yield(%x)
      } loc("inner")
      sched.test_yield(%u)
    } loc("outer")
    nn.return(%y)
  }
}
"""

MEM = """\
// 0 MACs, 20 parameters, 20 bytes, arena sram 5,264 bytes
module @m {level = mem, target = "cortex-m4"} {
  arena @sram {size = 5264, align = 32} loc("ram")
  arena @dtcm
  const @w : buffer<20xi8> = random<1>

  func @main(%image: buffer<1x8xi8>, %logits: buffer<1x10xi8>) {outputs = 1} {
    %c = mem.slot(@sram) {offset = 4096} : buffer<1x8xi8>
    %unplaced = mem.slot(@dtcm) : buffer<1x8xi8>
    k.test_kernel(%image, @w) -> (%c) {clamp = [-128, 127], note = "with, a comma"} loc("Conv_0")
    k.test_kernel(%c, none) -> (%logits)
    mem.return()
  } loc("graph")
}
"""

LEVELS = {"graph": GRAPH, "quant": QUANT, "sched": SCHED, "mem": MEM}


@pytest.mark.parametrize("text", LEVELS.values(), ids=LEVELS)
def test_round_trip(text: str) -> None:
    module = parse(text)
    assert print_module(module) == text
    assert structural_difference(module, parse(print_module(module))) is None


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].rglob("*.tir")), ids=lambda p: p.stem)
def test_round_trip_of_every_test(path: Path) -> None:
    """Whatever the tests hold as text, error cases left out, prints as something that reads back as itself."""
    for part in path.read_text(encoding="utf-8").split("\n// -----\n"):
        try:
            module = parse(part, str(path))
        except CompileError:
            continue
        text = print_module(module)
        again = parse(text, str(path))
        assert structural_difference(module, again) is None
        assert print_module(again) == text


def test_grammar_has_no_conflicts() -> None:
    """Strict mode of lark refuses shift/reduce conflicts and tokens that overlap; it needs `interegular`."""
    pytest.importorskip("interegular")
    import lark

    import tinyir

    grammar = Path(tinyir.__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    lark.Lark(grammar, parser="lalr", strict=True)


def made() -> tuple[Module, Builder, Argument]:
    block = Block([Argument(TensorType((1, 4), dtype("f32")), "x")])
    module = Module("made", funcs={"main": Func("main", block)})
    return module, Builder(module, block), block.args[0]


def test_modules_made_in_python() -> None:
    module, build, x = made()
    weight = module.add_const("conv1/weight", np.arange(16, dtype=np.float32).reshape(4, 4))
    large = module.add_const("large", np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 4))
    first = build.add(ops.Dense(x, weight, None), name="a/b:c", loc=NamedLoc('quo"ted\\ and\nbroken'))
    second = build.add(ops.Dense(first.out, large, None), name="a_b_c", loc=FusedLoc("p", (NamedLoc("1"),)))
    clip = build.add(ops.Clip(second.out, low=-0.1, high=float(np.float32(0.1))), name="%odd name")
    build.add(ops.Return((clip.out,)))
    module.main.result_names = ("y:0",)
    verify(module)
    side = Sidecar("made.npz")
    text = print_module(module, sidecar=side)
    assert '= data<"made.npz", "large">' in text
    assert "%a_b_c_1 = nn.dense(%a_b_c" in text
    assert "{low = -0.1000000000, high = 0.1}" in text
    assert list(side.arrays) == ["large"]
    assert print_module(parse(text)) == print_module(parse(print_module(parse(text))))


def test_files_and_their_data(tmp_path: Path) -> None:
    module, build, x = made()
    large = module.add_const("large", np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 4))
    build.add(ops.Return((build.add(ops.Dense(x, large, None)).out,)))
    write_module(module, tmp_path / "m.tir")
    again = parse_file(tmp_path / "m.tir")
    assert structurally_equal(module, again)
    assert print_module(again) == print_module(module, sidecar="m.npz")
    given = [np.ones((1, 4), np.float32)]
    np.testing.assert_array_equal(run(again, given)[0], run(module, given)[0])
    before = (tmp_path / "m.npz").read_bytes()
    write_module(module, tmp_path / "m.tir")
    assert (tmp_path / "m.npz").read_bytes() == before


def test_one_sidecar_keeps_versions_apart(tmp_path: Path) -> None:
    side = Sidecar("all.npz")
    old, new = np.arange(20), np.arange(20) * 2
    assert [side.key("w", old), side.key("w", old.copy())] == ["w", "w"]
    side.save(tmp_path)
    assert [side.key("w", new), side.key("w", old), side.key("w", new)] == ["w#2", "w", "w#2"]
    side.save(tmp_path)
    with np.load(tmp_path / "all.npz") as archive:
        assert {k: archive[k].tolist() for k in archive} == {"w": old.tolist(), "w#2": new.tolist()}


def test_data_that_does_not_fit(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", w=np.zeros((4, 5), np.float64))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")

    def message(type_: str, payload: str) -> str:
        module = parse(f"module @m {{ const @w : {type_} = {payload} }}", str(tmp_path / "m.tir"))
        with pytest.raises(CompileError) as caught:
            verify(module)
        return str(caught.value)

    assert "is 4x5 float64, but the constant is tensor<4x5xf32>" in message("tensor<4x5xf32>", 'data<"d.npz", "w">')
    assert "has no array called 'v'" in message("tensor<4x5xf32>", 'data<"d.npz", "v">')
    assert "cannot read the constants in" in message("tensor<4x5xf32>", 'data<"broken.npz", "v">')


def test_options_of_the_printer() -> None:
    module = parse(MEM)
    bare = print_module(module, elide_consts=True, locations=False, facts="none")
    assert bare.startswith("module @m")
    assert "const" not in bare
    assert "loc(" not in bare
    assert print_module(module, facts="all").count("//") > 1
    slot = "%c = mem.slot(@sram) {offset = 4096} : buffer<1x8xi8>  // 8 bytes, live [2, 3]\n"
    assert slot in print_module(module, facts="all")
    assert structurally_equal(parse(print_module(module, facts="all")), module)


def test_lines_are_wrapped() -> None:
    module, build, x = made()
    values = tuple(build.add(ops.Relu(x), name=f"a_rather_long_name_{i}").out for i in range(12))
    joined = build.add(ops.Concat(values, axis=1), name="joined", loc=NamedLoc("n" * 70))
    build.add(ops.Return((joined.out,)))
    text = print_module(module)
    assert max(map(len, text.splitlines())) <= 120
    assert structurally_equal(parse(text), module)


def test_locations_of_parsed_ops() -> None:
    """An op without a location is where its text is; that is not printed, as the next printing is another text."""
    module = parse(SCHED, "s.tir")
    relu = next(op for op in module.walk() if isinstance(op, ops.Relu))
    assert str(relu.loc) == '"s.tir":6:12'
    assert "s.tir" not in print_module(module)


def test_order_of_symbols_does_not_matter() -> None:
    text = "module @m { func @main() { nn.return(@late) } const @late : tensor<2xf32> = splat<0> }"
    assert parse(text).main.results[0].name == "late"


def test_floats() -> None:
    single = [float(np.float32(v)) for v in (0.1, 1 / 3, 1e-6, 3.4e38, 1e-45, -0.0, 16777216.0, 12345678848.0)]
    double = [0.1, 1 / 3, 1e-6, 1e300, 5e-324, 16777217.0, 1e20, float("inf"), -float("inf")]
    for value in single + double:
        assert read_float(shortest_float(value)) == value
    assert shortest_float(single[0]) == "0.1"
    assert shortest_float(double[0]) == "0.1000000000"


def test_types_read_back() -> None:
    quant = Quant((0.5, 0.25), (0, 3), 1)
    for type_ in (TensorType((), dtype("f16")), BufferType((1, 2), dtype("u4"), quant), IndexType()):
        module = parse(f"module @m {{ func @main(%x: {type_}) {{ nn.return() }} }}")
        assert module.main.args[0].type_ == type_


def test_structural_difference_says_where() -> None:
    def difference(old: str, new: str) -> str | None:
        assert old in GRAPH
        return structural_difference(parse(GRAPH), parse(GRAPH.replace(old, new)))

    assert difference("random<7>", "random<8>") == "@fc.weight: the elements differ"
    assert difference("[0.0, 6.0]", "[0.0, 5.0]") is not None
    assert difference("nn.add(%y, %y_1)", "nn.add(%y_1, %y)") == \
        "@main op 3 (nn.add): operand 0 is %y: tensor<1x10xf32> and %y_1: tensor<1x10xf32>"
    assert difference('loc("Gemm_6")', "") == '@main op 0 (nn.dense): location: "Gemm_6" and None'
    assert difference("%sum", "%total") is None
    assert difference('"input:0"', "input") is not None


def test_run_line() -> None:
    assert run_line("// RUN: canonicalize,fold-constants\nmodule @m {}") == "canonicalize,fold-constants"
    assert run_line("module @m {}") is None


def test_two_thousand_ops_take_a_few_seconds() -> None:
    module, build, x = made()
    value: Value = x
    for index in range(2000):
        value = build.add(ops.Clip(value, low=0.5), name=f"v{index}", loc=NamedLoc(f"Clip_{index}")).out
    build.add(ops.Return((value,)))
    text = print_module(module)
    begin = time.perf_counter()
    again = parse(text)
    assert time.perf_counter() - begin < 5
    assert len(again.main.ops) == 2001


def test_deep_nesting_is_refused() -> None:
    head = "%y{} = sched.test_loop(%x) : tensor<4xf32> {{ "
    body = "".join(head.format(i) for i in range(2000)) + "} " * 2000
    with pytest.raises(CompileError, match="regions are nested more than 50 deep"):
        parse("module @m {level = sched} { func @main(%x: tensor<4xf32>) { " + body + "} }")


def test_the_word_none_is_a_choice_where_it_is_one() -> None:
    module = parse("module @m { func @main(%x: tensor<4xf32>) { %y = nn.add(%x, %x) {act = none} : tensor<4xf32> "
                   "nn.return(%y) } }")
    assert module.main.ops[0].attrs["act"] == "none"
    assert "act" not in print_module(module)


@pytest.mark.parametrize("shape", ["1xxf32", "inf1x5xf32", "x4xf32", "4x4xf33", "99999999999999999999xf32"])
def test_malformed_shapes(shape: str) -> None:
    with pytest.raises(CompileError, match=r"there is no element type|this dimension is too large"):
        parse(f"module @m {{ const @w : tensor<{shape}> = elided }}")


PIECES = ["{", "}", "(", ")", "[", "none", "inf", "-1", "0", "%x", "@w", "nn.relu", "tensor<4xf32>", "buffer<0xf32>",
          "index", 'loc("a")', "99999999999999999999", "1e999", '"', "=", ":", "^b():", "mem.return()", "q<0.5:0>"]


@pytest.mark.parametrize("text", LEVELS.values(), ids=LEVELS)
def test_damaged_text_gives_diagnostics(text: str) -> None:
    """Words are removed, swapped and put in; what comes of it is a module or a CompileError, never another error."""
    rng = random.Random(1)
    for _ in range(200):
        words = re.findall(r"\s+|[%@\w.]+|.", text)
        for _ in range(rng.choice((1, 2, 4))):
            at = rng.randrange(len(words))
            words[at:at + rng.choice((0, 1, 1))] = rng.choice(([], [rng.choice(PIECES)], [rng.choice(words)]))
        try:
            module = parse("".join(words))
            verify(module)
        except CompileError:
            continue
        assert print_module(parse(print_module(module))) == print_module(module)
