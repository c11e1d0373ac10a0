"""Values that become a result in place are computed in the caller's buffer: which are, and that nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
from tinyc.passes._stored import Memory

from tinyir.interp import run
from tinyir.ir import Array, Module
from tinyir.ops import Slot
from tinyir.parser import parse
from tinyir.pass_manager import PassManager, parse_pipeline

from ..backends.harness import COMPILERS, run_c

_HEADS = """
module @net {{
  const @w1 : tensor<2x1x1x3xf32> = random<1>
  const @w2 : tensor<2x3x3x3xf32> = random<2>
  func @main(%x: tensor<1x4x4x3xf32>) -> ({results}) {{
    %a = nn.conv2d(%x, @w1, none) : tensor<1x4x4x2xf32>
    %b = nn.conv2d(%x, @w2, none) : tensor<1x2x2x2xf32>
    %a2 = nn.reshape(%a) : tensor<1x16x2xf32>
    %b2 = nn.reshape(%b) : tensor<1x4x2xf32>
    %all = nn.concat(%a2, %b2) {{axis = 1}} : tensor<1x20x2xf32>
    {ops}
  }}
}}
"""
_WIDE = "tensor<1x20x2xf32>"
CASES = {
    "parts": (f"%y = nn.softmax(%all) : {_WIDE}\n nn.return(%y)", _WIDE, set()),
    "two-ops": (f"%s = nn.softmax(%all) : {_WIDE}\n %y = nn.tanh(%s) : {_WIDE}\n nn.return(%y)", _WIDE, set()),
    "second-operand": (f"%y = nn.sub(%all, %all) : {_WIDE}\n nn.return(%y)", _WIDE, set()),
    "read-again": (f"%y = nn.softmax(%all) : {_WIDE}\n %z = nn.tanh(%all) : {_WIDE}\n nn.return(%y, %z)",
                   f"{_WIDE}, {_WIDE}", {"a", "b", "all"}),
    "part-read-again": (f"%y = nn.softmax(%all) : {_WIDE}\n %z = nn.tanh(%b2) : tensor<1x4x2xf32>\n nn.return(%y, %z)",
                        f"{_WIDE}, tensor<1x4x2xf32>", {"a", "b"}),
    "returned": (f"%y = nn.softmax(%all) : {_WIDE}\n nn.return(%y, %all)", f"{_WIDE}, {_WIDE}", set()),
    "two-results": (f"%y = nn.softmax(%all) : {_WIDE}\n nn.return(%y, %y)", f"{_WIDE}, {_WIDE}", set()),
    "reshaped": (f"%s = nn.softmax(%all) : {_WIDE}\n %y = nn.reshape(%s) : tensor<40xf32>\n nn.return(%y)",
                 "tensor<40xf32>", set()),
}


def slots(module: Module) -> set[str]:
    return {op.out.name for op in module.walk() if isinstance(op, Slot)}


def image() -> Array:
    return np.random.Generator(np.random.PCG64(3)).uniform(-1, 1, (1, 4, 4, 3)).astype(np.float32)


@pytest.mark.parametrize("case", sorted(CASES))
def test_what_lies_in_an_output(case: str) -> None:
    """Only what no other op reads, so that no order of execution makes a difference."""
    ops, results, expected = CASES[case]
    text = _HEADS.format(ops=ops, results=results)
    module = parse(text)
    stored = Memory(module.main, 16)
    PassManager(parse_pipeline("lower-to-mem")).run(module)
    assert slots(module) == expected
    assert {v.name for op in stored.ops for v in op.results if stored.size(v)} == expected
    PassManager(parse_pipeline("plan-arena")).run(module)
    for found, wanted in zip(run(module, [image()]), run(parse(text), [image()]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    for found, wanted in zip(run_c(module, [image()]) if COMPILERS else [], run(module, [image()]), strict=False):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("before", ["stream{cuts=b},", "patch{grid=2x2,until=b},",
                                    "patch{grid=1x2,rows=1,until=b},"])
def test_parts_that_regions_compute(before: str) -> None:
    """Row by row, or by tiles: what they are planned to need is what they need."""
    text = _HEADS.format(ops=CASES["parts"][0], results=CASES["parts"][1])
    module = parse(text)
    PassManager(parse_pipeline(f"{before}lower-to-mem,plan-arena")).run(module)
    assert not {"a", "b", "all"} & slots(module)
    np.testing.assert_allclose(run(module, [image()])[0], run(parse(text), [image()])[0], rtol=1e-5, atol=1e-6)


def test_arguments_are_not_written() -> None:
    text = """
module @net {
  func @main(%x: tensor<2x8xf32>) -> tensor<2x8xf32> {
    %y = nn.softmax(%x) : tensor<2x8xf32>
    nn.return(%y)
  }
}
"""
    module, x = parse(text), np.arange(16, dtype=np.float32).reshape(2, 8)
    PassManager(parse_pipeline("lower-to-mem")).run(module)
    np.testing.assert_allclose(run(module, [x])[0], run(parse(text), [x])[0], rtol=1e-5)
    np.testing.assert_array_equal(x, np.arange(16).reshape(2, 8))


@pytest.mark.parametrize(("result", "expected"), [("i8", set()), ("u8", {"b"})])
def test_stored_integers(result: str, expected: set[str]) -> None:
    """In place if the elements are of one type: a kernel must not see one byte as two."""
    text = f"""
module @net {{
  func @main(%x: tensor<2x8xi8, q<0.1:3>>) -> tensor<2x8x{result}, q<0.00390625:{-128 if result == 'i8' else 0}>> {{
    %a = nn.reshape(%x) : tensor<16xi8, q<0.1:3>>
    %b = nn.slice(%a) {{begin = [15], step = [-1]}} : tensor<16xi8, q<0.1:3>>
    %c = nn.reshape(%b) : tensor<2x8xi8, q<0.1:3>>
    %y = qnn.softmax(%c) : tensor<2x8x{result}, q<0.00390625:{-128 if result == 'i8' else 0}>>
    nn.return(%y)
  }}
}}
"""
    module = parse(text)
    PassManager(parse_pipeline("lower-to-mem,plan-arena")).run(module)
    assert slots(module) == expected
    x = np.random.Generator(np.random.PCG64(4)).integers(-128, 128, (2, 8)).astype(np.int8)
    wanted = run(parse(text), [x])[0]
    np.testing.assert_array_equal(run(module, [x])[0], wanted)
    if COMPILERS:
        np.testing.assert_array_equal(run_c(module, [x])[0], wanted)


def test_a_kernel_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot stays; the parts are computed in it."""
    from tinyc.backends.c.kernels.softmax import Softmax
    monkeypatch.setattr(Softmax, "reuses", lambda self: ())
    text = _HEADS.format(ops=CASES["parts"][0], results=CASES["parts"][1])
    module = parse(text)
    PassManager(parse_pipeline("lower-to-mem,plan-arena")).run(module)
    assert slots(module) == {"all"}
    np.testing.assert_allclose(run(module, [image()])[0], run(parse(text), [image()])[0], rtol=1e-5, atol=1e-6)
