"""Kernels whose result lies in the memory of an operand, and modules with more than one arena."""

from __future__ import annotations

import numpy as np
import pytest

from tinyir.ir import Array
from tinyir.parser import parse
from tinyir.verify import verify

from .harness import COMPILERS, call, compile_library, emit

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")

TEXT = """
module @net {level = mem} {
  arena @fast {size = 1024, align = 16}
  arena @slow {size = 512, align = 16}
  func @main(%x: buffer<2x3x8xf32>, %y: buffer<2x3x8xf32>) {outputs = 1} {
    %a = mem.slot(@fast) {offset = 64} : buffer<2x3x8xf32>
    %b = mem.slot(@fast) {offset = 64} : buffer<2x3x8xf32>
    %other = mem.slot(@slow) {offset = 64} : buffer<2x3x8xf32>
    k.copy(%x) -> (%a)
    k.copy(%x) -> (%other)
    OP
    k.copy(%b) -> (%y)
    mem.return()
  }
}
"""


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


CASES = {
    "k.map(%a) -> (%b) {function = neg}": lambda x: -x,
    "k.binary(%a, %other) -> (%b) {function = add}": lambda x: x + x,
    "k.binary(%other, %a) -> (%b) {function = sub, act = relu}": lambda x: np.zeros_like(x),
    "k.binary(%a, %a) -> (%b) {function = mul}": lambda x: x * x,
    "k.softmax(%a) -> (%b) {axis = 2}": softmax,
    "k.softmax(%a) -> (%b) {axis = 2, logarithm = true}": lambda x: np.log(softmax(x)),
}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("op", CASES)
def test_result_in_the_place_of_an_operand(op: str, compiler: str) -> None:
    x = np.random.default_rng(3).uniform(-2, 2, (2, 3, 8)).astype(np.float32)
    module = parse(TEXT.replace("OP", op))
    verify(module)
    files = emit(module)
    (y,) = call(compile_library(files, compiler, ("-O3",)), module, [x])
    np.testing.assert_allclose(y, CASES[op](x), rtol=1e-5, atol=1e-6)


def test_a_shared_operand_has_one_pointer() -> None:
    text = emit(parse(TEXT.replace("OP", next(iter(CASES)))))["net.c"].decode()
    assert "static void neg_f32(float *restrict y, int32_t count)" in text
    assert "neg_f32(b, 48);" in text


def test_every_arena_is_an_array() -> None:
    files = emit(parse(TEXT.replace("OP", next(iter(CASES)))))
    assert b"static uint8_t arena_fast[1024]" in files["net.c"]
    assert b"static uint8_t arena_slow[512]" in files["net.c"]
    assert b"#define NET_ARENA_BYTES 1536" in files["net.h"]
    caller = emit(parse(TEXT.replace("OP", next(iter(CASES)))), arena="caller")
    assert b"int net_run(void *arena_fast, void *arena_slow, const float *x, float *y);" in caller["net.h"]
