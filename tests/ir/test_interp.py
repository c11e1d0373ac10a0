"""The interpreter: every level, its checks, its observer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinyir import Array, CompileError, Op, Type, Value, Written, parse, run


class Repeat(Op, opname="sched.test_repeat"):
    """Applies its region `times` times."""

    x: Value
    times: int

    def infer(self) -> Type:
        return self.x.type

    def reference(self, x: Array, body: Callable[[Array], list[Array]]) -> Array:
        for _ in range(self.times):
            (x,) = body(x)
        return x


class Give(Op, opname="sched.test_give"):
    value: Value
    terminator = True
    pure = False

    def infer(self) -> tuple[()]:
        return ()


class AddOne(Op, opname="k.test_add_one"):
    x: Value
    y: Written
    pure = False

    def infer(self) -> tuple[()]:
        return ()

    def reference(self, x: Array, y: Array) -> None:
        y[...] = x + 1


class Liar(Op, opname="nn.test_liar"):
    """Declares one type and computes another."""

    x: Value

    def infer(self) -> Type:
        return self.x.type

    def reference(self, x: Array) -> Any:
        return x.astype(np.float64)


GRAPH = """
    module @m {
      const @w : tensor<2x3xf32> = dense<[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]>
      func @main(%x: tensor<1x3xf32>, %y: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) {
        %d = nn.dense(%x, @w, none) : tensor<1x2xf32>
        %s = nn.add(%d, %y) : tensor<1x2xf32>
        nn.return(%s, %d, %y)
      }
    }"""
X = np.array([[1, 2, 3]], np.float32)
Y = np.array([[10, 20]], np.float32)


def test_graph_level() -> None:
    found = run(parse(GRAPH), [X, Y])
    assert [a.tolist() for a in found] == [[[11, 25]], [[1, 5]], [[10, 20]]]
    found[2][...] = 0
    assert Y.tolist() == [[10, 20]]


def test_observer_sees_every_op() -> None:
    seen: list[tuple[str, list[Any]]] = []
    run(parse(GRAPH), [X, Y], lambda op, arrays: seen.append((op.out.name, arrays[0].tolist())))
    assert seen == [("d", [[1, 5]]), ("s", [[11, 25]])]


def test_values_go_when_nobody_reads_them() -> None:
    """A chain of ten 8 MB values never holds more than a few of them."""
    import tracemalloc

    body = "\n".join(f"%a{i + 1} = nn.relu(%a{i}) : tensor<2000000xf32>" for i in range(10))
    module = parse(f"module @m {{ func @main(%a0: tensor<2000000xf32>) {{ {body}\n nn.return(%a10) }} }}")
    x = np.zeros(2000000, np.float32)
    tracemalloc.start()
    run(module, [x])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * x.nbytes


def test_regions() -> None:
    module = parse("""
        module @m {level = sched} {
          func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
            %z = sched.test_repeat(%x) {times = 3} : tensor<2xf32> {
            ^body(%t: tensor<2xf32>):
              %u = nn.add(%t, %x) : tensor<2xf32>
              sched.test_give(%u)
            }
            nn.return(%z)
          }
        }""")
    assert run(module, [np.array([1, 2], np.float32)])[0].tolist() == [4, 8]


MEM = """
    module @m {{level = mem}} {{
      arena @ram {{size = 32}}
      func @main(%x: buffer<1x4xf32>, %y: buffer<4xf32>) {{outputs = 1}} {{
        %a = mem.slot(@ram) {{offset = 0}} : buffer<1x4xf32>
        %b = mem.slot(@ram) {b} : buffer<4xf32>
        %v = mem.view(%a) : buffer<4xf32>
        k.test_add_one(%x) -> (%a)
        k.test_add_one({first}) -> (%b)
        k.test_add_one({second}) -> (%y)
        mem.return()
      }}
    }}"""
FOUR = np.zeros((1, 4), np.float32)


@pytest.mark.parametrize("b", ["{offset = 16}", ""], ids=["placed", "not placed"])
def test_mem_level(b: str) -> None:
    assert run(parse(MEM.format(b=b, first="%v", second="%b")), [FOUR])[0].tolist() == [3, 3, 3, 3]


def test_overlapping_slots_show() -> None:
    assert run(parse(MEM.format(b="{offset = 8}", first="%v", second="%v")), [FOUR])[0].tolist() == [2, 2, 3, 3]


def test_unwritten_bytes_show() -> None:
    found = run(parse(MEM.format(b="{offset = 16}", first="%v", second="%b").replace("-> (%b)", "-> (%v)")), [FOUR])[0]
    np.testing.assert_array_equal(found, np.full(16, 0xA5, np.uint8).view(np.float32) + 1)


def test_inputs_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        run(parse(MEM.format(b="", first="%v", second="%b").replace("(%x) -> (%a)", "(%v) -> (%x)")), [FOUR])


@pytest.mark.parametrize(("inputs", "message"), [
    ([X], "@main takes 2 inputs, found 1"),
    ([X, Y.T], r"input %y is an array of float32 with shape 2x1, expected tensor<1x2xf32>"),
    ([X.astype(np.float64), Y], r"input %x is an array of float64 with shape 1x3, expected tensor<1x3xf32>"),
])
def test_inputs_that_do_not_fit(inputs: list[Array], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        run(parse(GRAPH), inputs)


def test_constants_without_data() -> None:
    module = parse(GRAPH.replace("dense<[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]>", "elided"))
    with pytest.raises(CompileError, match="@w has no data: it was left out of the text"):
        run(module, [X, Y])


def test_references_are_held_to_their_types() -> None:
    module = parse("""
        module @m {
          func @main(%x: tensor<2xf32>) { %y = nn.test_liar(%x) : tensor<2xf32> nn.return(%y) }
        }""")
    with pytest.raises(CompileError, match=r"nn.test_liar: the reference gives an array of float64 with shape 2, "
                                           r"declared is tensor<2xf32>"):
        run(module, [np.zeros(2, np.float32)])


def test_modules_without_main() -> None:
    with pytest.raises(CompileError, match="has no function @main"):
        run(parse("module @m {}"), [])

